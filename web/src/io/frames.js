// The frames of a DICOM file: found, checked against the header, and decoded to stored values.

import { decode, decodeLossless } from "./codecs.js";
import { BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, UNDEFINED } from "./elements.js";
import { UnreadableImage } from "./errors.js";
import { readJpeg } from "./picture.js";

/** @typedef {import("./elements.js").Elements} Elements */
/** @typedef {import("./elements.js").Layout} Layout */
/** @typedef {Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array} Stored */

const NATIVE = [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED];
const RLE = "1.2.840.10008.1.2.5";
const JPEG = "1.2.840.10008.1.2.4.";
const PHOTOMETRICS = [
  "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
];
/** The marker of Adobe that says: no colour was transformed. */
const UNTRANSFORMED = [0xff, 0xee, 0, 14, 0x41, 0x64, 0x6f, 0x62, 0x65, 0, 100, 0, 0, 0, 0, 0];
const CONTRADICTS = "is a DICOM file whose compressed pixels contradict its header; export it again.";
const NO_PICTURE = "is a DICOM file without a picture; choose one that holds a slice.";

/**
 * Refuse a file whose pixels are not there, or not as its header says; give its fragments where they are packed.
 * @param {Elements} file @param {Layout} layout
 */
export function checkPixels(file, layout) {
  const { pixels, syntax, bytes } = file;
  if (!pixels || !pixels.length) throw new UnreadableImage(NO_PICTURE);
  if (!PHOTOMETRICS.includes(layout.photometric)) throw new Error("an unknown kind of colours");
  const isNative = NATIVE.includes(syntax);
  if ((pixels.length === UNDEFINED) === isNative) {
    throw new UnreadableImage("is a DICOM file whose pixels are not stored as it says; export it again.");
  }
  if (!isNative) {
    const { fragments } = readFragments(bytes, pixels.dataOffset);
    if (fragments.length < layout.frames) {
      throw new UnreadableImage("is a DICOM file that lacks some of its frames; export it again.");
    }
    return;
  }
  const available = Math.min(pixels.length, bytes.length - pixels.dataOffset);
  if (available < Math.ceil((layout.frames * countBits(layout)) / 8)) {
    throw new UnreadableImage("is a DICOM file that ends before its last pixel; copy or export it again.");
  }
}

/** @param {Layout} layout */
function countBits(layout) {
  const bits = layout.rows * layout.columns * layout.samples * layout.bitsAllocated;
  return layout.photometric === "YBR_FULL_422" ? Math.floor(bits / 3) * 2 : bits;
}

/** @param {Uint8Array} bytes @param {number} at */
function readFragments(bytes, at) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** @type {{start: number, bytes: Uint8Array}[]} */
  const fragments = [];
  /** @type {number[] | null} */
  let offsets = null;
  let first = 0;
  while (at + 8 <= bytes.length && view.getUint32(at, true) === 0xe000fffe) {
    const length = view.getUint32(at + 4, true);
    if (at + 8 + length > bytes.length) break;
    const part = bytes.subarray(at + 8, at + 8 + length);
    if (offsets === null) {
      offsets = Array.from({ length: length >> 2 }, (_, k) => view.getUint32(at + 8 + 4 * k, true));
      first = at + 8 + length;
    } else fragments.push({ start: at - first, bytes: part });
    at += 8 + length;
  }
  return { fragments, offsets: offsets ?? [] };
}

/** One packed frame, its fragments joined. @param {Elements} file @param {Layout} layout @param {number} index */
function joinFragments(file, layout, index) {
  const { fragments, offsets } = readFragments(file.bytes, file.pixels.dataOffset);
  let own = fragments;
  if (layout.frames > 1 && fragments.length === layout.frames) own = [fragments[index]];
  else if (layout.frames > 1) {
    if (offsets.length !== layout.frames) {
      throw new UnreadableImage("is a DICOM file that lacks some of its frames; export it again.");
    }
    const end = offsets[index + 1] ?? Infinity;
    own = fragments.filter(({ start }) => start >= offsets[index] && start < end);
  }
  const whole = new Uint8Array(own.reduce((sum, { bytes }) => sum + bytes.length, 0));
  let at = 0;
  for (const { bytes } of own) {
    whole.set(bytes, at);
    at += bytes.length;
  }
  return whole;
}

/**
 * Decode one frame to stored values, the samples of a pixel beside each other (red, green, blue).
 * @param {Elements} file @param {Layout} layout @param {number} index
 * @returns {Promise<Stored>}
 */
export async function decodeFrame(file, layout, index) {
  if (NATIVE.includes(file.syntax)) return toColours(readNative(file, layout, index), layout, layout.planar === 1);
  const frame = joinFragments(file, layout, index);
  if (file.syntax === RLE) return toColours(decodeRle(frame, layout), layout, false);
  const kind = file.syntax.startsWith(JPEG) ? Number(file.syntax.slice(JPEG.length)) : 0;
  let found;
  if ([50, 57, 70, 80, 81].includes(kind)) {
    checkJpeg(frame, layout);
    if (kind === 57 || kind === 70) found = decodeLossless(frame);
    else found = await decode(kind === 50 ? "jpeg" : "jpeg-ls", kind === 50 ? markColours(frame, layout) : frame);
  } else if (kind === 90 || kind === 91) {
    checkJpeg2000(frame, layout);
    found = await decode("jpeg-2000", frame);
  } else if (kind === 51) {
    throw new UnreadableImage("is compressed as lossy 12-bit JPEG, which this page does not read; export it without loss.");
  } else {
    throw new UnreadableImage("is a DICOM file of a kind that is not read, a video perhaps; export it as PNG.");
  }
  if (found.height !== layout.rows || found.width !== layout.columns || found.samples !== layout.samples) {
    throw new UnreadableImage(CONTRADICTS);
  }
  // libjpeg and OpenJPEG give red, green and blue; the others what is stored
  const isStored = kind !== 50 && kind < 90;
  const values = fit(found.data, layout);
  return isStored ? toColours(values, layout, false) : values;
}

/** Tell libjpeg what the header says of three samples; without a marker it takes them for YCbCr. @param {Uint8Array} frame @param {Layout} layout */
function markColours(frame, layout) {
  if (layout.photometric !== "RGB" || layout.samples === 1) return frame;
  return Uint8Array.from([...frame.subarray(0, 2), ...UNTRANSFORMED, ...frame.subarray(2)]);
}

/** Values of as many bits as the header allocates, signed as it says. @param {Stored} data @param {Layout} layout @returns {Stored} */
function fit(data, layout) {
  const { bitsAllocated, bitsStored, signed } = layout;
  const kinds = { 8: [Uint8Array, Int8Array], 16: [Uint16Array, Int16Array], 32: [Uint32Array, Int32Array] };
  const Kind = kinds[/** @type {8 | 16 | 32} */ (Math.max(8, bitsAllocated))][signed ? 1 : 0];
  if (!signed || data instanceof Int16Array || data instanceof Int8Array) return Kind.from(data);
  const shift = 32 - Math.max(bitsStored, 8 * (data.BYTES_PER_ELEMENT === 1 ? 1 : 0));
  return Kind.from(Int32Array.from(data, (value) => (value << shift) >> shift));
}

/** @param {Elements} file @param {Layout} layout @param {number} index @returns {Stored} */
function readNative(file, layout, index) {
  const { rows, columns, samples, bitsAllocated, bitsStored, signed } = layout;
  const count = layout.photometric === "YBR_FULL_422" ? (rows * columns * samples * 2) / 3 : rows * columns * samples;
  const start = file.pixels.dataOffset;
  const isLittle = file.syntax !== BIG_ENDIAN;
  // bytes of words (OW) are swapped, also where a value is one byte
  const isSwapped = !isLittle && bitsAllocated === 8 && file.pixels.vr === "OW";
  const bytes = isSwapped ? swap(file.bytes, start) : file.bytes;
  if (bitsAllocated === 1) {
    const first = index * count;
    return Uint8Array.from({ length: count }, (_, at) => (bytes[start + ((first + at) >> 3)] >> ((first + at) & 7)) & 1);
  }
  const size = bitsAllocated / 8;
  const view = new DataView(bytes.buffer, bytes.byteOffset + start + index * count * size, count * size);
  const kinds = { 8: [Uint8Array, Int8Array], 16: [Uint16Array, Int16Array], 32: [Uint32Array, Int32Array] };
  const values = new kinds[/** @type {8 | 16 | 32} */ (bitsAllocated)][signed ? 1 : 0](count);
  const name = /** @type {"getUint16"} */ (`get${signed ? "Int" : "Uint"}${bitsAllocated}`);
  for (let at = 0; at < count; at++) values[at] = view[name](at * size, isLittle);
  const unused = bitsAllocated - bitsStored;
  if (!unused) return values;
  // what lies above the stored bits, as overlays of old files, is no value
  for (let at = 0; at < count; at++) {
    const raised = values[at] << (32 - bitsStored);
    values[at] = signed ? raised >> (32 - bitsStored) : raised >>> (32 - bitsStored);
  }
  return values;
}

/** Exchange the two bytes of each word from a place on. @param {Uint8Array} bytes @param {number} start */
function swap(bytes, start) {
  const out = bytes.slice();
  for (let at = start; at + 1 < out.length; at += 2) [out[at], out[at + 1]] = [bytes[at + 1], bytes[at]];
  return out;
}

/** Unpack run lengths (PS3.5 annex G). @param {Uint8Array} frame @param {Layout} layout @returns {Stored} */
function decodeRle(frame, layout) {
  const { rows, columns, samples, bitsAllocated, signed } = layout;
  const pixels = rows * columns;
  const size = bitsAllocated / 8;
  if (frame.length < 64) throw new UnreadableImage(CONTRADICTS);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const count = view.getUint32(0, true);
  if (count !== samples * size || count > 15) throw new UnreadableImage(CONTRADICTS);
  const values = new Uint32Array(pixels * samples);
  for (let segment = 0; segment < count; segment++) {
    let at = view.getUint32(4 + 4 * segment, true);
    const end = segment + 1 < count ? view.getUint32(8 + 4 * segment, true) : frame.length;
    if (at < 64 || end < at || end > frame.length) throw new UnreadableImage(CONTRADICTS);
    const sample = Math.floor(segment / size);
    const shift = 8 * (size - 1 - (segment % size));
    let done = 0;
    const put = (/** @type {number} */ byte) => {
      if (done < pixels) values[done * samples + sample] |= byte << shift;
      done++;
    };
    while (at < end && done < pixels + 256) {
      const control = frame[at++];
      if (control < 128) for (let k = 0; k <= control && at < end; k++) put(frame[at++]);
      else if (control > 128 && at < end) {
        const byte = frame[at++];
        for (let k = 0; k < 257 - control; k++) put(byte);
      }
    }
    if (done < pixels || at < end - 1) throw new UnreadableImage(CONTRADICTS);
  }
  const kinds = { 8: [Uint8Array, Int8Array], 16: [Uint16Array, Int16Array], 32: [Uint32Array, Int32Array] };
  return new kinds[/** @type {8 | 16 | 32} */ (bitsAllocated)][signed ? 1 : 0](values);
}

/** @param {Uint8Array} frame @param {Layout} layout */
function checkJpeg(frame, layout) {
  const isLs = frame.findIndex((byte, at) => byte === 0xff && frame[at + 1] === 0xf7);
  const found = isLs >= 0 && isLs < 1024 ? readJpegLs(frame, isLs) : readJpeg(frame);
  if (found.height !== layout.rows || found.width !== layout.columns || found.samples !== layout.samples) {
    throw new UnreadableImage(CONTRADICTS);
  }
}

/** @param {Uint8Array} frame @param {number} at of the frame's marker */
function readJpegLs(frame, at) {
  const view = new DataView(frame.buffer, frame.byteOffset + at, frame.byteLength - at);
  return { height: view.getUint16(5), width: view.getUint16(7), samples: view.getUint8(9) };
}

/** @param {Uint8Array} frame @param {Layout} layout */
function checkJpeg2000(frame, layout) {
  const at = frame.findIndex((byte, k) => byte === 0xff && frame[k + 1] === 0x4f && frame[k + 2] === 0xff && frame[k + 3] === 0x51);
  if (at < 0 || frame.length - at < 44) throw new UnreadableImage(CONTRADICTS);
  const view = new DataView(frame.buffer, frame.byteOffset + at, frame.byteLength - at);
  const read = (/** @type {number} */ k) => view.getUint32(8 + 4 * k);
  const [right, bottom, left, top, wide, high, startX, startY] = Array.from({ length: 8 }, (_, k) => read(k));
  const tiles = wide && high ? Math.ceil((right - startX) / wide) * Math.ceil((bottom - startY) / high) : 0;
  const isSame = bottom - top === layout.rows && right - left === layout.columns && view.getUint16(40) === layout.samples;
  if (!isSame || tiles < 1 || tiles > 1024) throw new UnreadableImage(CONTRADICTS);
}

/**
 * Samples of a pixel beside each other in red, green and blue.
 * @param {Stored} values @param {Layout} layout @param {boolean} isPlanar
 * @returns {Stored}
 */
function toColours(values, layout, isPlanar) {
  if (layout.samples === 1) return values;
  const pixels = layout.rows * layout.columns;
  const out = /** @type {Stored} */ (new /** @type {any} */ (values.constructor)(pixels * 3));
  const isHalf = layout.photometric === "YBR_FULL_422" && values.length < pixels * 3;
  for (let at = 0; at < pixels; at++) {
    for (let k = 0; k < 3; k++) {
      let from = isPlanar ? k * pixels + at : at * 3 + k;
      if (isHalf) from = 4 * (at >> 1) + (k === 0 ? at & 1 : k + 1);
      out[at * 3 + k] = values[from];
    }
  }
  if (!layout.photometric.startsWith("YBR_FULL")) return out;
  const half = 2 ** (layout.bitsStored - 1);
  const most = 2 * half - 1;
  const clip = (/** @type {number} */ value) => Math.min(most, Math.max(0, Math.floor(value + 0.5)));
  for (let at = 0; at < out.length; at += 3) {
    const [y, blue, red] = [out[at], out[at + 1] - half, out[at + 2] - half];
    out[at] = clip(y + 1.402 * red);
    out[at + 1] = clip(y - (0.114 * 1.772 / 0.587) * blue - (0.299 * 1.402 / 0.587) * red);
    out[at + 2] = clip(y + 1.772 * blue);
  }
  return out;
}
