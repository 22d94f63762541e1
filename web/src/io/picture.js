// PNG, JPEG, WebP and BMP to measured values: the port of stroke_hub/io/images.py.

import { decode as decodePng } from "fast-png";
import { decode } from "./codecs.js";
import { UnreadableImage } from "./errors.js";
import { checkSize } from "./limits.js";
import { compact, findHounsfield, measured, sample } from "./rendering.js";
import { findRange, rescale, toLuminance } from "./windowing.js";

/** @typedef {import("./pillow.js").Picture} Picture */
/** @typedef {import("./pillow.js").Picture<Uint8Array>} Grey */
/** @typedef {"png" | "jpeg" | "webp" | "bmp" | "tiff"} Kind */

/** @type {[RegExp, Kind][]} */
const SIGNATURES = [
  [/^\x89PNG\r\n\x1a\n/, "png"],
  [/^\xff\xd8\xff/, "jpeg"],
  [/^(?:II[*+]\0|MM\0[*+])/, "tiff"],
  [/^RIFF[^]{4}WEBP/, "webp"],
  [/^BM/, "bmp"],
];
const TIFF = "is a TIFF, which this page does not read; save the slice as PNG, or open the scan as DICOM or NIfTI.";
const DAMAGED = "is a damaged picture; export or copy it again.";

/** Find the kind of a picture by its first bytes; null where they are no picture's. @param {Uint8Array} start */
export function findKind(start) {
  const text = String.fromCharCode(...start.subarray(0, 16));
  return SIGNATURES.find(([signature]) => signature.test(text))?.[1] ?? null;
}

/**
 * Decode a picture of one of the kinds.
 * @param {Uint8Array} bytes @param {Kind} kind
 */
export async function decodePicture(bytes, kind) {
  if (kind === "tiff") throw new UnreadableImage(TIFF);
  try {
    if (kind === "png") return decodePngPicture(bytes);
    const grey = kind === "jpeg" ? await decodeJpegPicture(bytes) : await decodeByBrowser(bytes, kind);
    return measured(grey, { isPicture: true });
  } catch (error) {
    if (error instanceof UnreadableImage) throw error;
    throw new UnreadableImage(DAMAGED);
  }
}

// --- PNG ----------------------------------------------------------------------------------------------------

/** @param {Uint8Array} bytes */
function decodePngPicture(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  checkSize(view.getUint32(16), view.getUint32(20));
  const png = decodePng(bytes, { checkCrc: true });
  const { height, width, depth, channels } = png;
  if (depth === 16 && channels === 1) return measureValues({ data: Float32Array.from(png.data), height, width });
  const grey = new Uint8Array(height * width);
  const shift = depth === 16 ? 8 : 0;
  const read = depth < 8 ? unpack(png.data, width, depth) : (/** @type {number} */ at) => png.data[at];
  const [clear] = [png.transparency];
  for (let at = 0; at < grey.length; at++) {
    let alpha = 255;
    let level;
    if (png.palette) {
      const colour = png.palette[read(at)];
      if (!colour) throw new UnreadableImage(DAMAGED);
      level = toLuminance(colour[0], colour[1], colour[2]);
      alpha = colour[3] ?? 255;
    } else if (channels < 3) {
      const value = read(at * channels);
      level = depth < 8 ? (value * 255) / (2 ** depth - 1) : value >> shift;
      if (channels === 2) alpha = read(at * 2 + 1) >> shift;
      else if (clear && value === clear[0]) alpha = 0;
    } else {
      const [r, g, b] = [read(at * channels), read(at * channels + 1), read(at * channels + 2)];
      level = toLuminance(r >> shift, g >> shift, b >> shift);
      if (channels === 4) alpha = read(at * 4 + 3) >> shift;
      else if (clear && r === clear[0] && g === clear[1] && b === clear[2]) alpha = 0;
    }
    grey[at] = layOnBlack(level, alpha);
  }
  return measured({ data: shift ? rescale(grey) : grey, height, width }, { isPicture: true });
}

/** Read values of fewer than 8 bits, whose rows begin at whole bytes. @param {ArrayLike<number>} data @param {number} width @param {number} depth */
function unpack(data, width, depth) {
  const length = Math.ceil((width * depth) / 8);
  return (/** @type {number} */ at) => {
    const bit = (at % width) * depth;
    const byte = data[Math.floor(at / width) * length + (bit >> 3)];
    return (byte >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
  };
}

/** Deep values of a picture: whether they are grey levels, and whether they can be HU. @param {import("./pillow.js").Picture<Float32Array>} picture */
function measureValues(picture) {
  const data = compact(picture.data);
  const [low, high] = findRange(data);
  const isPicture = low >= 0 && (high <= 255 || (high <= 65535 && data.every((/** @type {number} */ one) => one % 257 === 0)));
  return measured({ ...picture, data }, { isPicture, hounsfield: findHounsfield(sample(data)) });
}

/** Pillow's blend with black. @param {number} level @param {number} alpha */
function layOnBlack(level, alpha) {
  const product = level * alpha + 128;
  return ((product >> 8) + product) >> 8;
}

// --- JPEG ---------------------------------------------------------------------------------------------------

/** @param {Uint8Array} bytes @returns {Promise<Grey>} */
async function decodeJpegPicture(bytes) {
  const { height, width, samples, orientation, isWhole } = readJpeg(bytes);
  checkSize(width, height);
  if (!isWhole) throw new UnreadableImage(DAMAGED);
  if (samples !== 1 && samples !== 3) return decodeByBrowser(bytes, "jpeg");
  const found = await decode("jpeg", bytes);
  const grey = new Uint8Array(height * width);
  const { data } = found;
  if (found.height !== height || found.width !== width) throw new UnreadableImage(DAMAGED);
  for (let at = 0; at < grey.length; at++) {
    grey[at] = found.samples === 1 ? data[at] : toLuminance(data[3 * at], data[3 * at + 1], data[3 * at + 2]);
  }
  return turn({ data: grey, height, width }, orientation);
}

/**
 * Read what the segments of a JPEG say before anything is decoded.
 * @param {Uint8Array} bytes
 */
export function readJpeg(bytes) {
  const found = { height: 0, width: 0, samples: 0, precision: 0, orientation: 1, isWhole: false };
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    const length = (bytes[at + 2] << 8) | bytes[at + 3];
    const body = bytes.subarray(at + 4, at + 2 + length);
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      found.precision = body[0];
      found.height = (body[1] << 8) | body[2];
      found.width = (body[3] << 8) | body[4];
      found.samples = body[5];
    } else if (marker === 0xe1 && String.fromCharCode(...body.subarray(0, 4)) === "Exif") {
      found.orientation = readOrientation(body.subarray(6));
    } else if (marker === 0xda) {
      for (let end = bytes.length - 2; end > at && !found.isWhole; end--) {
        found.isWhole = bytes[end] === 0xff && bytes[end + 1] === 0xd9;
      }
      break;
    }
    at += 2 + length;
  }
  return found;
}

/** The tag 0x0112 of EXIF, 1 to 8. @param {Uint8Array} tiff */
function readOrientation(tiff) {
  try {
    const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
    const little = view.getUint16(0) === 0x4949;
    const start = view.getUint32(4, little);
    for (let entry = 0; entry < view.getUint16(start, little); entry++) {
      const at = start + 2 + 12 * entry;
      const value = view.getUint16(at + 8, little);
      if (view.getUint16(at, little) === 0x0112) return value >= 1 && value <= 8 ? value : 1;
    }
  } catch {
    // damaged EXIF says nothing
  }
  return 1;
}

/** Turn a picture upright by its EXIF. @param {Grey} picture @param {number} orientation @returns {Grey} */
function turn(picture, orientation) {
  if (orientation === 1) return picture;
  const isTransposed = orientation >= 5;
  const isMirrored = [2, 3, 7, 8].includes(orientation);
  const isUpsideDown = [3, 4, 6, 7].includes(orientation);
  const [height, width] = isTransposed ? [picture.width, picture.height] : [picture.height, picture.width];
  const out = new Uint8Array(picture.data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let [row, column] = isTransposed ? [x, y] : [y, x];
      if (isUpsideDown) row = picture.height - 1 - row;
      if (isMirrored) column = picture.width - 1 - column;
      out[y * width + x] = picture.data[row * picture.width + column];
    }
  }
  return { data: out, height, width };
}

// --- by the browser -----------------------------------------------------------------------------------------

/** @param {Uint8Array} bytes @param {Kind} kind @returns {Promise<Grey>} */
async function decodeByBrowser(bytes, kind) {
  const blob = new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (bytes)], { type: `image/${kind}` });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { height, width } = bitmap;
  checkSize(width, height);
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const grey = new Uint8Array(height * width);
  for (let at = 0; at < grey.length; at++) {
    grey[at] = layOnBlack(toLuminance(data[4 * at], data[4 * at + 1], data[4 * at + 2]), data[4 * at + 3]);
  }
  return { data: grey, height, width };
}

/**
 * Read how many rows and columns a picture has, upright; to sort pictures by size before they are decoded.
 * @param {Uint8Array} bytes @param {Kind} kind
 */
export function measurePicture(bytes, kind) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (kind === "png") return [view.getUint32(20), view.getUint32(16)];
    if (kind === "bmp") return [Math.abs(view.getInt32(22, true)), view.getInt32(18, true)];
    if (kind === "jpeg") {
      const { height, width, orientation } = readJpeg(bytes);
      if (height && width) return orientation >= 5 ? [width, height] : [height, width];
    }
    if (kind === "webp") return [0, 0];
  } catch {
    // refused below
  }
  throw new UnreadableImage(kind === "tiff" ? TIFF : DAMAGED);
}
