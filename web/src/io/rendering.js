// Measured values to grey levels by one rule for all files: the port of stroke_hub/io/rendering.py, "canonical".

import { findHeadMask } from "./framing.js";
import { makeSquare, turnUpright } from "./geometry.js";
import { WINDOWS, findRange, stretch } from "./windowing.js";

/** @typedef {import("./pillow.js").Picture} Picture */
/** @typedef {import("./pillow.js").Picture<Uint8Array>} Grey */
/** @typedef {import("./windowing.js").Modality} Modality */
/** @typedef {{offset: number, wrapped: boolean, evidence: "plain" | "likely" | "possible"}} Hounsfield */
/**
 * What a file holds of one slice, before grey levels are chosen.
 * @typedef {object} Measured
 * @property {Picture} picture
 * @property {Hounsfield | null} hounsfield
 * @property {boolean} isPicture
 * @property {import("./geometry.js").Plane | null} plane
 * @property {number | null} spacing side of a pixel in mm
 * @property {string[]} remarks
 */
/**
 * A slice in grey: what is shown, and what was measured in which unit.
 * @typedef {{grey: Grey, values: Int16Array | Float32Array | Uint8Array, unit: "HU" | "", low: number, high: number, remarks: string[]}} Rendered
 */

const SAMPLED = 250_000;
const FEW = 20_000;
const LARGEST = 1e30;
const CT_AIR = [-1100, -900];
const CT_LARGEST = 31_000;
export const CT_SMALLEST = -1024;
const TISSUE = [-20, 100];
const MIN_AIR = 0.05;
const MAX_STRANGE = 0.02;
const MIN_TISSUE = 0.2;

const COARSE =
  "The pixels are more than twice as long as wide; the slice was resampled to squares and is coarse in one direction.";
export const SHIFTED = "The values are Hounsfield units stored with 1024 added; 1024 was subtracted.";
const CT_PICTURE =
  "This CT slice is a picture, not Hounsfield units; it is shown as it is, and no window (brain, stroke, subdural) was applied.";
const CT_UNITS =
  "The values of this CT slice are not Hounsfield units; they are shown from their minimum to their maximum, and no window was applied.";
const UNKNOWN_PICTURE =
  "Nothing says whether this is CT or MR, so it is shown as it is, which misleads if it is MR; give the modality, BT (CT) or MR.";
const UNKNOWN_VALUES = "Nothing says whether this is CT or MR; it is scaled as MR is. Give the modality, BT (CT) or MR.";

/**
 * @param {Picture} picture @param {Partial<Measured>} [more]
 * @returns {Measured}
 */
export function measured(picture, more = {}) {
  return { picture, hounsfield: null, isPicture: false, plane: null, spacing: null, remarks: [], ...more };
}

/**
 * Store measured values as int16 where that is exact, else as float32; what is not finite becomes the minimum.
 * @param {ArrayLike<number>} values
 * @returns {Int16Array | Float32Array}
 */
export function compact(values) {
  if (values instanceof Int16Array) return values;
  let isWhole = true;
  let isFinite = true;
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    if (!(value - value === 0)) isFinite = false; // of infinity and NaN it is NaN
    else if (isWhole && (value << 16) >> 16 !== value) isWhole = false;
  }
  const [low, high] = findRange(values);
  const largest = Math.max(Math.abs(low), Math.abs(high));
  if (isFinite && (isWhole || largest <= LARGEST)) return isWhole ? new Int16Array(values) : new Float32Array(values);
  const out = isWhole ? new Int16Array(values.length) : new Float32Array(values.length);
  const divisor = !isWhole && largest > LARGEST ? largest : 1;
  for (let at = 0; at < out.length; at++) out[at] = (Number.isFinite(values[at]) ? values[at] : low) / divisor;
  return out;
}

/**
 * Turn a slice upright and make its pixels squares.
 * @param {Measured} one @param {import("./geometry.js").View | null} view
 * @param {[number, number] | null} spacing height and width of a stored pixel
 * @returns {Measured}
 */
export function layOut(one, view, spacing) {
  let [height, width] = spacing ?? [1, 1];
  if (view?.isTransposed) [height, width] = [width, height];
  const { picture, resampled } = makeSquare(turnUpright(one.picture, view), height, width);
  const isCoarse = resampled && !(height / width >= 0.5 && height / width <= 2);
  return {
    ...one,
    picture,
    remarks: isCoarse ? [...one.remarks, COARSE] : one.remarks,
    plane: view ? view.plane : one.plane,
    spacing: spacing && (resampled || Math.abs(height / width - 1) < 0.02) ? Math.min(height, width) : null,
  };
}

/** Find k so that every k-th of so many values tells their units. @param {number} size */
export const findStep = (size) => Math.max(1, Math.floor(size / SAMPLED));

/**
 * Take every `step`-th value.
 * @param {ArrayLike<number>} values @param {number} [step]
 */
export function sample(values, step = findStep(values.length)) {
  const out = new Float64Array(Math.ceil(values.length / step));
  for (let at = 0; at < out.length; at++) out[at] = values[at * step];
  return out;
}

/**
 * Tell whether values can be CT in HU, and how they are stored; null where they cannot.
 * @param {ArrayLike<number>} values finite
 * @returns {Hounsfield | null}
 */
export function findHounsfield(values) {
  const real = Float32Array.from(values);
  for (let at = 0; at < real.length; at++) if (real[at] > CT_LARGEST) real[at] -= 65536;
  const floor = real.reduce((least, one) => Math.min(least, one), Infinity);
  const most = real.reduce((largest, one) => Math.max(largest, one), -Infinity);
  const above = real.filter((one) => one > floor);
  if (!above.length) return null;
  const strange = share(above, (one) => one < CT_AIR[0]);
  const air = share(values, (one) => one <= CT_AIR[1]);
  if (air >= MIN_AIR && strange <= MAX_STRANGE && share(above, (one) => one >= -300 && one <= 300) > 0) {
    return { offset: 0, wrapped: false, evidence: "plain" };
  }
  if (strange > MAX_STRANGE) return null;
  const wraps = share(real, (one) => one >= 4096 + CT_AIR[0] && one <= 4096 + CT_AIR[1]);
  if (floor >= 0 && wraps >= MIN_AIR && most <= 4095) return { offset: 0, wrapped: true, evidence: "likely" };
  if (floor < -150) return { offset: 0, wrapped: false, evidence: "possible" };
  const solid = real.filter((one) => one > 200);
  if (solid.length && share(solid, (one) => one >= 1024 + TISSUE[0] && one <= 1024 + TISSUE[1]) >= MIN_TISSUE) {
    return { offset: -1024, wrapped: false, evidence: "likely" };
  }
  const few = sample(real, Math.max(1, Math.floor(real.length / FEW)));
  const { levels, counts } = countLevels(few);
  const frequent = levels[counts.indexOf(Math.max(...counts))];
  const brain = few.filter((one) => one > floor && one !== frequent).sort();
  if (most === 255 || most <= 1.5 || !brain.length) return null;
  const half = brain.length >> 1;
  const median = brain.length % 2 ? brain[half] : Math.fround((brain[half - 1] + brain[half]) / 2);
  const tissue = share(brain, (one) => one >= TISSUE[0] && one <= TISSUE[1]);
  return tissue >= 0.5 && median >= 10 && median <= 80 ? { offset: 0, wrapped: false, evidence: "possible" } : null;
}

/**
 * Turn stored values into HU; padding and what wrapped become air. Integers stay such where none has wrapped.
 * @param {ArrayLike<number>} values @param {Hounsfield} how
 * @returns {Int16Array | Float32Array}
 */
export function toHounsfield(values, how) {
  if (values instanceof Int16Array && !how.wrapped && values.length && findRange(values)[1] + how.offset <= CT_LARGEST) {
    const out = new Int16Array(values.length);
    for (let at = 0; at < out.length; at++) out[at] = Math.max(values[at] + how.offset, CT_SMALLEST);
    return out;
  }
  const out = new Float32Array(values.length);
  for (let at = 0; at < out.length; at++) {
    let real = Math.fround(Math.fround(values[at]) + how.offset);
    if (how.wrapped && real >= 4096 + CT_AIR[0]) real = Math.fround(real - 4096);
    if (real > CT_LARGEST) real = Math.fround(real - 65536);
    out[at] = Math.max(real, CT_SMALLEST);
  }
  return out;
}

/**
 * Show measured values as 8-bit grey.
 * @param {Measured} one @param {Modality | null} modality
 * @param {import("./windowing.js").Window} window of CT in HU
 * @returns {Rendered}
 */
export function render(one, modality, window) {
  const { data, height, width } = one.picture;
  const show = (/** @type {Uint8Array} */ grey, /** @type {Partial<Rendered>} */ more) => ({
    grey: { data: grey, height, width },
    values: data,
    unit: /** @type {"HU" | ""} */ (""),
    low: 0,
    high: 255,
    remarks: [],
    ...more,
  });
  const scaled = (/** @type {string[]} */ remarks) => {
    const [low, high] = findScale(one.picture);
    return show(stretch(data, low, high), { low, high, remarks });
  };
  if (modality === "MR") return scaled([]);
  const how = one.hounsfield;
  if (how && (how.evidence === "plain" || modality === "BT")) {
    const [centre, breadth] = WINDOWS[window];
    const [low, high] = [centre - breadth / 2, centre + breadth / 2];
    const values = toHounsfield(data, how);
    return show(stretch(values, low, high), {
      values: compact(values),
      unit: "HU",
      low,
      high,
      remarks: how.offset ? [SHIFTED] : [],
    });
  }
  if (modality === "BT" || one.isPicture) {
    const { grey, values, low, high } = showPicture(data);
    const remark = modality === "BT" ? (one.isPicture ? CT_PICTURE : CT_UNITS) : UNKNOWN_PICTURE;
    return show(grey, { values, low, high, remarks: [remark] });
  }
  return scaled([UNKNOWN_VALUES]);
}

/** @param {ArrayLike<number>} values @param {(value: number) => boolean} test */
function share(values, test) {
  let count = 0;
  for (let at = 0; at < values.length; at++) if (test(values[at])) count++;
  return count / values.length;
}

/** Grey levels of any depth as 8 bits; the values that they show, and their range. @param {import("./pillow.js").Values} data */
function showPicture(data) {
  const as = (/** @type {Uint8Array} */ grey) => ({ grey, values: grey, low: 0, high: 255 });
  if (data instanceof Uint8Array) return as(data.slice());
  const [low, high] = findRange(data);
  if (data instanceof Float32Array && low >= 0 && high <= 1) return { grey: stretch(data, 0, 1), values: data, low: 0, high: 1 };
  if (data instanceof Int16Array && low >= 0 && high <= 255) return as(Uint8Array.from(data));
  const isWide = low >= 0 && high <= 65535 && data.every((/** @type {number} */ one) => one % 257 === 0);
  if (isWide) return as(Uint8Array.from(data, (one) => one / 257));
  return { grey: stretch(data, low, high), values: data, low, high };
}

/**
 * Find the 1st and the 99th percentile inside the head, of the slice where there is no head.
 * @param {Picture} picture
 * @returns {[number, number]}
 */
function findScale(picture) {
  const { data, height, width } = picture;
  let [low, high] = findPercentiles(sample(data, Math.max(1, Math.floor(data.length / FEW))), [0.5, 99.5]);
  if (high > low) {
    const mask = findHeadMask({ data: stretch(data, low, high), height, width });
    if (mask) {
      const inside = new Float64Array(data.length);
      let size = 0;
      for (let y = 0; y < height; y++) {
        const row = Math.floor((y * mask.height) / height) * mask.width;
        for (let x = 0; x < width; x++) {
          if (mask.data[row + Math.floor((x * mask.width) / width)]) inside[size++] = data[y * width + x];
        }
      }
      [low, high] = findPercentiles(inside.subarray(0, size), [1, 99]);
    }
  }
  return high > low ? [low, high] : findRange(data);
}

/** The different values, sorted, and how often each is there. @param {Float64Array} values */
function countLevels(values) {
  const sorted = values.slice().sort();
  const [levels, counts] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  for (const value of sorted) {
    if (levels.length && levels[levels.length - 1] === value) counts[counts.length - 1]++;
    else {
      levels.push(value);
      counts.push(1);
    }
  }
  return { levels, counts };
}

/**
 * Two percentiles of values that were rounded: each level is spread to half way to its neighbours.
 * @param {Float64Array} values @param {[number, number]} percentages
 * @returns {[number, number]}
 */
function findPercentiles(values, percentages) {
  const { levels, counts } = countLevels(values);
  const edges = [levels[0]];
  for (let at = 1; at < levels.length; at++) edges.push((levels[at] + levels[at - 1]) / 2);
  edges.push(levels[levels.length - 1]);
  const shares = [0];
  let sum = 0;
  for (const count of counts) shares.push((sum += count) / values.length);
  const found = percentages.map((percentage) => interpolate(percentage / 100, shares, edges));
  return [found[0], found[1]];
}

/** numpy.interp of one value. @param {number} x @param {number[]} xs @param {number[]} ys */
function interpolate(x, xs, ys) {
  let [low, high] = [0, xs.length - 1];
  if (x >= xs[high]) return ys[high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle;
    else high = middle;
  }
  if (xs[low] === x) return ys[low];
  const slope = (ys[low + 1] - ys[low]) / (xs[low + 1] - xs[low]);
  return slope * (x - xs[low]) + ys[low];
}
