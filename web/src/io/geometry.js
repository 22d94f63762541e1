// How a slice lies in the patient, and how it is turned: the port of stroke_hub/io/geometry.py.

import { checkSize } from "./limits.js";
import { resize, roundEven } from "./pillow.js";

/** @typedef {import("./pillow.js").Values} Values */
/** @typedef {"axial" | "coronal" | "sagittal"} Plane */
/**
 * How stored pixels are turned to be upright: transposed first, then flipped; `tilt` in degrees.
 * @typedef {{plane: Plane, isTransposed: boolean, isFlippedDown: boolean, isFlippedRight: boolean, tilt: number}} View
 */

/** @type {Plane[]} */
const NORMALS = ["sagittal", "coronal", "axial"];
/** To the right of the picture and down, as axis and sign in left, posterior, superior. */
const SHOWN = {
  axial: { right: [0, 1], down: [1, 1] },
  coronal: { right: [0, 1], down: [2, -1] },
  sagittal: { right: [1, 1], down: [2, -1] },
};
const MAX_TILT = 35;
const SAME = 0.02;
const MAX_RATIO = 16;

/** @param {View} view */
export const isOblique = (view) => view.tilt > MAX_TILT;
/** @param {number[]} a @param {number[]} b */
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
/** @param {number[]} a @param {number[]} b */
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
/** @param {number[]} a */
export const norm = (a) => Math.sqrt(dot(a, a));

/** The first axis along which a direction is longest. @param {number[]} direction */
export function findAxis(direction) {
  const sizes = direction.map(Math.abs);
  return sizes.indexOf(Math.max(...sizes));
}

/**
 * Find the plane of a slice and how to turn it upright, from ImageOrientationPatient.
 * @param {number[]} directions
 * @returns {View | null}
 */
export function findView(directions) {
  if (directions.length !== 6 || !directions.every(Number.isFinite)) return null;
  const along = [directions.slice(0, 3), directions.slice(3)];
  if (along.some((one) => Math.abs(norm(one) - 1) > 0.1) || Math.abs(dot(along[0], along[1])) > 0.1) return null;
  const first = findAxis(along[0]);
  const others = [0, 1, 2].filter((axis) => axis !== first);
  const second = others.reduce((best, axis) => (Math.abs(along[1][axis]) > Math.abs(along[1][best]) ? axis : best));
  const normal = cross(along[0], along[1]);
  const axis = 3 - first - second;
  const plane = NORMALS[axis];
  const cosine = Math.abs(normal[axis]) / norm(normal);
  const { right, down } = SHOWN[plane];
  const isTransposed = first !== right[0];
  const [row, column] = isTransposed ? [along[1], along[0]] : along;
  return {
    plane,
    isTransposed,
    isFlippedDown: column[down[0]] * down[1] < 0,
    isFlippedRight: row[right[0]] * right[1] < 0,
    tilt: (Math.acos(Math.min(1, cosine)) * 180) / Math.PI,
  };
}

/**
 * Turn stored pixels as their view says, without a change of any value.
 * @template {Values} T
 * @param {import("./pillow.js").Picture<T>} picture @param {View | null} view
 * @returns {import("./pillow.js").Picture<T>}
 */
export function turnUpright(picture, view) {
  if (!view) return picture;
  const { data } = picture;
  const [height, width] = view.isTransposed ? [picture.width, picture.height] : [picture.height, picture.width];
  const out = /** @type {T} */ (new /** @type {any} */ (data.constructor)(data.length));
  for (let y = 0; y < height; y++) {
    const row = view.isFlippedDown ? height - 1 - y : y;
    for (let x = 0; x < width; x++) {
      const column = view.isFlippedRight ? width - 1 - x : x;
      out[y * width + x] = data[view.isTransposed ? column * picture.width + row : row * picture.width + column];
    }
  }
  return { data: out, height, width };
}

/**
 * Resample a slice so that its pixels are squares, at the finer of its two spacings.
 * @template {Values} T
 * @param {import("./pillow.js").Picture<T>} picture @param {number} height @param {number} width
 * @returns {{picture: import("./pillow.js").Picture<T>, resampled: boolean}}
 */
export function makeSquare(picture, height, width) {
  const ratio = height / width;
  const known = Number.isFinite(height) && Number.isFinite(width) && height > 0 && width > 0;
  if (!known || Math.abs(ratio - 1) < SAME || ratio < 1 / MAX_RATIO || ratio > MAX_RATIO) {
    return { picture, resampled: false };
  }
  const rows = Math.max(1, roundEven(picture.height * Math.max(1, ratio)));
  const columns = Math.max(1, roundEven(picture.width * Math.max(1, 1 / ratio)));
  checkSize(columns, rows);
  const { data } = picture;
  if (data instanceof Uint8Array) {
    return { picture: /** @type {any} */ (resize({ ...picture, data }, rows, columns)), resampled: true };
  }
  const real = resize({ ...picture, data: data instanceof Float32Array ? data : Float32Array.from(data) }, rows, columns);
  const out = data instanceof Float32Array ? real.data : Int16Array.from(real.data, roundEven);
  return { picture: { data: /** @type {any} */ (out), height: rows, width: columns }, resampled: true };
}
