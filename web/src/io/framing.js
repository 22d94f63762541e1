// Where the head lies in a slice: the port of stroke_hub/io/framing.py.

import { closeGaps, fillHoles, findOtsu, labelParts, measureDistance } from "./morphology.js";
import { reduce } from "./pillow.js";

/** @typedef {import("./pillow.js").Picture<Uint8Array>} Grey */
/** @typedef {{top: number, left: number, height: number, width: number}} Box */

const SIDE = 128;
const FAINTEST = 20;
const THRESHOLD = 60;
const OTSU = 0.7;
const MIN_RADIUS = 0.06;
const CLOSING = 5;
const CORE = 0.2;
const MARGIN = 1;
const MIN_PART = 0.2;

export const NO_HEAD = "No head was found in the slice; the whole picture was used.";

/**
 * Find the box around the head, so that it can be cropped; null where there is none.
 * @param {Grey} pixels
 * @returns {Box | null}
 */
export function findHead(pixels) {
  const mask = findHeadMask(pixels);
  if (!mask) return null;
  const factor = findFactor(pixels);
  const part = findLit(mask, 0);
  if (!part) return null;
  const start = (/** @type {number} */ line) => Math.max(0, line - MARGIN) * factor;
  const end = (/** @type {number} */ line, /** @type {number} */ side) =>
    Math.min(side, (line + 1 + MARGIN) * factor);
  const box = { top: start(part.top), left: start(part.left) };
  const bottom = end(part.top + part.height - 1, pixels.height);
  const right = end(part.left + part.width - 1, pixels.width);
  return { ...box, height: bottom - box.top, width: right - box.left };
}

/**
 * Find the pixels of the head on a small copy of a slice; null where there is none.
 * @param {Grey} pixels
 * @returns {Grey | null}
 */
export function findHeadMask(pixels) {
  const small = reduce(pixels, findFactor(pixels));
  const threshold = Math.min(THRESHOLD, Math.max(FAINTEST, OTSU * findOtsu(small.data)));
  const part = findLit(small, threshold); // what lies around it decides nothing
  if (!part) return null;
  const bright = pad(crop(small, part), threshold);
  const depth = measureDistance(fillHoles(closeGaps(bright)));
  let radius = 0;
  for (let at = 0; at < depth.data.length; at++) radius = Math.max(radius, depth.data[at]);
  if (radius < MIN_RADIUS * Math.max(small.height, small.width)) return null;
  const narrow = CORE * radius;
  // numpy compares float32 with a Python number as float32
  const edge = Math.fround(narrow);
  const thin = { ...bright, data: new Uint8Array(depth.data.length) };
  for (let at = 0; at < thin.data.length; at++) thin.data[at] = depth.data[at] <= edge ? 1 : 0;
  const near = measureDistance(thin);
  const reach = Math.fround(narrow + 1);
  const filled = fillHoles(bright);
  const kept = { ...filled, data: new Uint8Array(filled.data.length) };
  for (let at = 0; at < kept.data.length; at++) kept.data[at] = filled.data[at] && near.data[at] <= reach ? 1 : 0;
  const { data: labels, count } = labelParts(kept);
  if (!count) return null;
  const areas = new Float64Array(count + 1);
  for (const label of labels) areas[label]++;
  const least = MIN_PART * areas.subarray(1).reduce((most, one) => Math.max(most, one), 0);
  const out = new Uint8Array(small.data.length);
  for (let y = 0; y < part.height; y++) {
    for (let x = 0; x < part.width; x++) {
      const label = labels[(y + CLOSING) * kept.width + x + CLOSING];
      out[(part.top + y) * small.width + part.left + x] = label && areas[label] >= least ? 1 : 0;
    }
  }
  return { data: out, height: small.height, width: small.width };
}

/** The box around all that is brighter; null where nothing is. @param {Grey} picture @param {number} threshold @returns {Box | null} */
function findLit({ data, height, width }, threshold) {
  let [top, bottom, left, right] = [height, -1, width, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] <= threshold) continue;
      top = Math.min(top, y);
      bottom = y;
      left = Math.min(left, x);
      right = Math.max(right, x);
    }
  }
  return bottom < 0 ? null : { top, left, height: bottom - top + 1, width: right - left + 1 };
}

/**
 * Cut a box out of a picture.
 * @template {import("./pillow.js").Values} T
 * @param {import("./pillow.js").Picture<T>} picture @param {Box} box
 * @returns {import("./pillow.js").Picture<T>}
 */
export function crop(picture, box) {
  const { data, width } = picture;
  const out = /** @type {T} */ (new /** @type {any} */ (data.constructor)(box.height * box.width));
  for (let y = 0; y < box.height; y++) {
    const from = (box.top + y) * width + box.left;
    out.set(data.subarray(from, from + box.width), y * box.width);
  }
  return { data: out, height: box.height, width: box.width };
}

/** What is brighter, with a dark frame around it. @param {Grey} picture @param {number} threshold @returns {Grey} */
function pad(picture, threshold) {
  const [height, width] = [picture.height + 2 * CLOSING, picture.width + 2 * CLOSING];
  const data = new Uint8Array(height * width);
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < picture.width; x++) {
      if (picture.data[y * picture.width + x] > threshold) data[(y + CLOSING) * width + x + CLOSING] = 1;
    }
  }
  return { data, height, width };
}

/** @param {{height: number, width: number}} picture */
function findFactor(picture) {
  return Math.max(1, Math.ceil(Math.max(picture.height, picture.width) / SIDE));
}
