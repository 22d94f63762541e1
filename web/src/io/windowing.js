// Values to 8-bit grey: the port of stroke_hub/io/windowing.py.

import { UnreadableImage } from "./errors.js";
import { roundEven } from "./pillow.js";

/** @typedef {"BT" | "MR"} Modality */
/** @typedef {"brain" | "stroke" | "subdural"} Window */

/** Centre and width in HU. @type {Record<Window, [number, number]>} */
export const WINDOWS = { brain: [40, 80], stroke: [40, 40], subdural: [75, 200] };
export const AIR = -500;

/**
 * Values in a window to 0..255, by the VOI LUT functions of DICOM.
 * @param {ArrayLike<number>} values @param {number} centre @param {number} width @param {string} kind
 */
export function applyWindow(values, centre, width, kind = "LINEAR") {
  const out = new Uint8Array(values.length);
  const sharp = kind === "LINEAR" && width === 1;
  const [middle, range] = kind === "LINEAR" ? [centre - 0.5, width - 1] : [centre, width];
  for (let at = 0; at < out.length; at++) {
    let share;
    if (kind === "SIGMOID") share = 1 / (1 + Math.exp((-4 * (values[at] - centre)) / width));
    else if (sharp) share = values[at] > centre - 0.5 ? 1 : 0;
    else share = Math.min(1, Math.max(0, (values[at] - middle) / range + 0.5));
    out[at] = Number.isNaN(share) ? 0 : roundEven(share * 255);
  }
  return out;
}

/**
 * Values from `low`..`high` to 0..255, clipped; all 0 where low = high.
 * @param {ArrayLike<number>} values @param {number} low @param {number} high
 */
export function stretch(values, low, high) {
  const out = new Uint8Array(values.length);
  if (!(high > low)) return out;
  const first = Math.floor(low);
  const count = Math.ceil(high) - first + 1;
  if (values instanceof Int16Array && count < values.length) {
    // each level is computed once, and looked up
    const table = stretch(Float64Array.from({ length: count }, (_, at) => first + at), low, high);
    for (let at = 0; at < out.length; at++) out[at] = table[Math.min(count - 1, Math.max(0, values[at] - first))];
    return out;
  }
  for (let at = 0; at < out.length; at++) {
    const value = Number.isFinite(values[at]) ? values[at] : low;
    out[at] = roundEven(((Math.min(high, Math.max(low, value)) - low) / (high - low)) * 255);
  }
  return out;
}

/** Values from their own finite minimum..maximum to 0..255. @param {ArrayLike<number>} values */
export function rescale(values) {
  const [low, high] = findRange(values);
  const out = new Uint8Array(values.length);
  if (high === low) return out;
  const span = high - low;
  for (let at = 0; at < out.length; at++) {
    const value = Number.isFinite(values[at]) ? values[at] : low;
    out[at] = roundEven(((value - low) / span) * 255);
  }
  return out;
}

/**
 * Find the least and the largest finite value.
 * @param {ArrayLike<number>} values
 * @returns {[number, number]}
 */
export function findRange(values) {
  let [low, high] = [Infinity, -Infinity];
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) throw new UnreadableImage("holds no finite pixel; export the slice again.");
  if (!Number.isFinite(high - low)) {
    throw new UnreadableImage("spans more than a float can hold; rescale the slice and try again.");
  }
  return [low, high];
}

/** Luminance of 8-bit colours as Pillow has it (ITU-R 601). @param {number} r @param {number} g @param {number} b */
export function toLuminance(r, g, b) {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}
