// What is refused before memory is taken: too many pixels or pages.

import { UnreadableImage, count } from "./errors.js";

export const MAX_PIXELS = 50_000_000;
/** A browser's tab has less memory than a program: a quarter of what Python accepts of a scan. */
export const LIMITS = { pixels: MAX_PIXELS, pages: 1 << 16, total: 1 << 28 };

/** @param {number} width @param {number} height */
export function checkSize(width, height) {
  if (width < 1 || height < 1) throw new UnreadableImage("has no pixels; export the slice again.");
  if (width * height > LIMITS.pixels) {
    throw new UnreadableImage(
      `has ${width} x ${height} pixels, more than the ${count(LIMITS.pixels)} allowed; make it smaller and try again.`,
    );
  }
}

/** @param {number} pages @param {number} pixels of all pages together */
export function checkPages(pages, pixels) {
  if (pages > LIMITS.pages || pixels > LIMITS.total) {
    throw new UnreadableImage(
      `has more than ${count(LIMITS.pages)} pages, or ${count(LIMITS.total)} pixels altogether; ` +
        "split it into smaller files.",
    );
  }
}
