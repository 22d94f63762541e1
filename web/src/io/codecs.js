// Decoders of compressed pixels: libjpeg-turbo, CharLS and OpenJPEG in WebAssembly, each loaded when it is needed.

import CharLS from "@cornerstonejs/codec-charls/decodewasmjs";
import charlsFile from "@cornerstonejs/codec-charls/decodewasm";
import LibJPEGTurbo from "@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs";
import libjpegFile from "@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasm";
import OpenJPEG from "@cornerstonejs/codec-openjpeg/decodewasmjs";
import openjpegFile from "@cornerstonejs/codec-openjpeg/decodewasm";
import { Decoder as LosslessDecoder } from "jpeg-lossless-decoder-js";

/**
 * What a decoder gives: values as stored, samples of a pixel beside each other.
 * @typedef {{data: Uint8Array | Uint16Array | Int16Array | Int8Array, height: number, width: number, samples: number}} Decoded
 */
/** @typedef {"jpeg" | "jpeg-ls" | "jpeg-2000"} Kind */

const SOURCES = {
  jpeg: { make: LibJPEGTurbo, file: libjpegFile, decoder: "JPEGDecoder" },
  "jpeg-ls": { make: CharLS, file: charlsFile, decoder: "JpegLSDecoder" },
  "jpeg-2000": { make: OpenJPEG, file: openjpegFile, decoder: "J2KDecoder" },
};
/** @type {Partial<Record<Kind, Promise<any>>>} */
const loaded = {};

/** @param {Kind} kind */
function load(kind) {
  const { make, file } = SOURCES[kind];
  loaded[kind] ??= make({
    locateFile: () => new URL(file, import.meta.url).href,
    print: () => {},
    printErr: () => {},
  });
  return /** @type {Promise<any>} */ (loaded[kind]);
}

/** Load all decoders, so that no file is asked for once the page stands. */
export async function preload() {
  await Promise.all(/** @type {Kind[]} */ (Object.keys(SOURCES)).map(load));
}

/**
 * Decode one compressed picture.
 * @param {Kind} kind @param {Uint8Array} bytes
 * @returns {Promise<Decoded>}
 */
export async function decode(kind, bytes) {
  const module = await load(kind);
  const decoder = new module[SOURCES[kind].decoder]();
  try {
    decoder.getEncodedBuffer(bytes.length).set(bytes);
    decoder.decode();
    const { width, height, bitsPerSample, componentCount, isSigned } = decoder.getFrameInfo();
    const content = decoder.getDecodedBuffer().slice();
    const wide = bitsPerSample > 8;
    const samples = componentCount;
    if (content.byteLength < width * height * samples * (wide ? 2 : 1)) throw new Error("too few values");
    const kinds = [Uint8Array, Int8Array, Uint16Array, Int16Array];
    const data = new kinds[(wide ? 2 : 0) + (isSigned ? 1 : 0)](content.buffer, 0, width * height * samples);
    return { data, height, width, samples };
  } catch (error) {
    delete loaded[kind]; // an aborted module cannot be used again
    throw error;
  } finally {
    try {
      decoder.delete();
    } catch {
      // of an aborted module
    }
  }
}

/**
 * Decode a lossless JPEG of any predictor.
 * @param {Uint8Array} bytes
 * @returns {Decoded}
 */
export function decodeLossless(bytes) {
  const decoder = new LosslessDecoder();
  const buffer = bytes.slice().buffer;
  const data = decoder.decode(buffer, 0, buffer.byteLength);
  if (!data) throw new Error("no values");
  return { data, height: decoder.yDim, width: decoder.xDim, samples: decoder.numComp };
}
