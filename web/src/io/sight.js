// What a model sees of a slice, and how its maps come back: the port of stroke_hub/io/sight.py.

import { NO_HEAD, crop, findHead, findHeadMask } from "./framing.js";
import { render } from "./rendering.js";
import { resize, resizeNearest, roundEven, undoResize } from "./pillow.js";

/** @typedef {import("./pillow.js").Picture<Uint8Array>} Grey */
/** @typedef {import("./framing.js").Box} Box */
/** @typedef {import("./windowing.js").Modality} Modality */
/**
 * What a model wants a slice to look like.
 * @typedef {object} Sight
 * @property {number} image_size
 * @property {"pad" | "stretch"} resize
 * @property {"canonical" | "legacy"} rendering
 * @property {import("./windowing.js").Window} window
 * @property {"head" | "whole"} framing
 * @property {Modality[]} modalities
 */
/**
 * What a model sees of a slice, and where in the slice that lies.
 * @typedef {object} Framed
 * @property {Uint8Array} square
 * @property {number} size its side
 * @property {import("./rendering.js").Rendered} shown
 * @property {Box} box the part of the picture that is in the square
 * @property {Box} place where in the square that part lies
 * @property {string[]} remarks
 * @property {Modality | null} modality
 * @property {Uint8Array} head 1 where the square shows the head
 */

/**
 * Make the square that a model sees of a slice.
 * @param {Sight} sight @param {import("./rendering.js").Measured} one @param {Modality | null} modality
 * @returns {Framed}
 */
export function frameSlice(sight, one, modality) {
  const known = modality ?? (sight.modalities.length === 1 ? sight.modalities[0] : null);
  const shown = render(one, known, sight.window);
  const remarks = [...new Set([...one.remarks, ...shown.remarks])];
  const { grey } = shown;
  let box = null;
  if (sight.framing === "head") {
    box = findHead(grey);
    if (!box) remarks.push(NO_HEAD);
  }
  box ??= { top: 0, left: 0, height: grey.height, width: grey.width };
  const size = sight.image_size;
  const place = findPlace(box, size, sight.resize);
  const fitted = resize(crop(grey, box), place.height, place.width);
  const square = new Uint8Array(size * size);
  for (let y = 0; y < place.height; y++) {
    const row = fitted.data.subarray(y * place.width, (y + 1) * place.width);
    square.set(row, (place.top + y) * size + place.left);
  }
  return { square, size, shown, box, place, remarks, modality: known, head: findShownHead(square, size) };
}

/** @param {Box} box @param {number} size @param {"pad" | "stretch"} kind @returns {Box} */
function findPlace(box, size, kind) {
  if (kind === "stretch") return { top: 0, left: 0, height: size, width: size };
  const longest = Math.max(box.height, box.width);
  const height = Math.max(1, roundEven((box.height * size) / longest));
  const width = Math.max(1, roundEven((box.width * size) / longest));
  return { top: Math.floor((size - height) / 2), left: Math.floor((size - width) / 2), height, width };
}

/** The pixels of the square that belong to the head; all where no head is found. @param {Uint8Array} square @param {number} size */
function findShownHead(square, size) {
  const mask = findHeadMask({ data: square, height: size, width: size });
  return mask ? resizeNearest(mask, size, size).data : new Uint8Array(size * size).fill(1);
}

/**
 * Lay a map of the square over the picture; it is 0 outside the box.
 * @param {Framed} framed @param {Float32Array} values
 */
export function lift(framed, values) {
  const { place, box } = framed;
  return layDown(framed, resize(cut(framed, values, place), box.height, box.width).data);
}

/**
 * Give shares of a sum back to the pixels of the picture; the sum is kept.
 * @param {Framed} framed @param {Float32Array} shares
 */
export function giveBack(framed, shares) {
  const { place, box } = framed;
  return layDown(framed, undoResize(cut(framed, shares, place), box.height, box.width).data);
}

/** @param {Framed} framed @param {Float32Array} values @param {Box} place */
function cut(framed, values, place) {
  return crop({ data: values, height: framed.size, width: framed.size }, place);
}

/** @param {Framed} framed @param {Float32Array} inside */
function layDown(framed, inside) {
  const { box } = framed;
  const { height, width } = framed.shown.grey;
  const out = new Float32Array(height * width);
  for (let y = 0; y < box.height; y++) {
    out.set(inside.subarray(y * box.width, (y + 1) * box.width), (box.top + y) * width + box.left);
  }
  return out;
}
