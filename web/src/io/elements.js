// Elements of a DICOM file: the named ones are read, by dicom-parser; all others are skipped.

import * as dicomParser from "dicom-parser";
import { Inflate } from "fflate";
import { UnreadableImage } from "./errors.js";
import { checkPages, checkSize } from "./limits.js";

/** Its types lack what reads one element. */
const whole = /** @type {any} */ (dicomParser);
const parser = whole.default ?? whole;

export const [IMPLICIT, EXPLICIT] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"];
export const [BIG_ENDIAN, DEFLATED] = ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"];
export const UNDEFINED = 0xffffffff;
const PIXEL_DATA = "x7fe00010";
const HEADER_LIMIT = 1 << 22;

/** The elements that are read, and their kind where the file does not say it. */
const KINDS = {
  ImageType: ["x00080008", "CS"], SOPInstanceUID: ["x00080018", "UI"], Modality: ["x00080060", "CS"],
  SeriesDescription: ["x0008103e", "LO"], FrameType: ["x00089007", "CS"], PatientID: ["x00100020", "LO"],
  ContrastBolusAgent: ["x00180010", "LO"], SliceThickness: ["x00180050", "DS"], EchoTime: ["x00180081", "DS"],
  ImagerPixelSpacing: ["x00181164", "DS"], ConvolutionKernel: ["x00181210", "SH"],
  NominalScannedPixelSpacing: ["x00182010", "DS"], DiffusionDirectionality: ["x00189075", "CS"],
  EffectiveEchoTime: ["x00189082", "FD"], DiffusionBValue: ["x00189087", "FD"],
  SiemensCreator: ["x00190010", "LO"], SiemensNumber: ["x0019100a", "US"], SiemensB: ["x0019100c", "IS"],
  StudyInstanceUID: ["x0020000d", "UI"], SeriesInstanceUID: ["x0020000e", "UI"], SeriesNumber: ["x00200011", "IS"],
  AcquisitionNumber: ["x00200012", "IS"], InstanceNumber: ["x00200013", "IS"],
  ImagePositionPatient: ["x00200032", "DS"], ImageOrientationPatient: ["x00200037", "DS"],
  TemporalPositionIdentifier: ["x00200100", "IS"], TemporalPositionIndex: ["x00209128", "UL"],
  FrameAcquisitionNumber: ["x00209156", "US"], SamplesPerPixel: ["x00280002", "US"],
  PhotometricInterpretation: ["x00280004", "CS"], PlanarConfiguration: ["x00280006", "US"],
  NumberOfFrames: ["x00280008", "IS"], Rows: ["x00280010", "US"], Columns: ["x00280011", "US"],
  PixelSpacing: ["x00280030", "DS"], PixelAspectRatio: ["x00280034", "IS"], BitsAllocated: ["x00280100", "US"],
  BitsStored: ["x00280101", "US"], PixelRepresentation: ["x00280103", "US"],
  PixelPaddingValue: ["x00280120", "US"], PixelPaddingRangeLimit: ["x00280121", "US"],
  WindowCenter: ["x00281050", "DS"], WindowWidth: ["x00281051", "DS"], RescaleIntercept: ["x00281052", "DS"],
  RescaleSlope: ["x00281053", "DS"], VOILUTFunction: ["x00281056", "CS"],
  RedDescriptor: ["x00281101", "US"], GreenDescriptor: ["x00281102", "US"], BlueDescriptor: ["x00281103", "US"],
  RedData: ["x00281201", "OW"], GreenData: ["x00281202", "OW"], BlueData: ["x00281203", "OW"],
  ModalityLUTSequence: ["x00283000", "SQ"], LUTDescriptor: ["x00283002", "US"], LUTData: ["x00283006", "OW"],
  VOILUTSequence: ["x00283010", "SQ"], GEMSCreator: ["x00430010", "LO"], GEMSB: ["x00431039", "IS"],
  SharedGroups: ["x52009229", "SQ"], FrameGroups: ["x52009230", "SQ"],
  PixelValueTransformationSequence: ["x00289145", "SQ"], FrameVOILUTSequence: ["x00289132", "SQ"],
  PlaneOrientationSequence: ["x00209116", "SQ"], PixelMeasuresSequence: ["x00289110", "SQ"],
  PlanePositionSequence: ["x00209113", "SQ"], FrameContentSequence: ["x00209111", "SQ"],
  MRDiffusionSequence: ["x00189117", "SQ"], MREchoSequence: ["x00189114", "SQ"],
  MRImageFrameTypeSequence: ["x00189226", "SQ"], CTImageFrameTypeSequence: ["x00189329", "SQ"],
  CTReconstructionSequence: ["x00189314", "SQ"],
};
/** @typedef {keyof typeof KINDS} Name */
/** @typedef {any} DataSet  of dicom-parser */
/**
 * @typedef {object} Layout how the pixels of a file lie
 * @property {number} rows @property {number} columns @property {number} frames @property {number} samples
 * @property {number} bitsAllocated @property {number} bitsStored @property {boolean} signed
 * @property {string} photometric @property {number} planar
 */
/** @typedef {{ds: DataSet, syntax: string, bytes: Uint8Array, pixels: any}} Elements */

// Without the preamble: an element of group 2 or 8 with a known VR, or one of group 8 of a small implicit length.
const BARE = new RegExp(
  "^(?:[\\x02\\x08]\\0[^]\\0(?:AE|AS|CS|DA|DS|DT|IS|LO|LT|OB|OW|PN|SH|SQ|ST|TM|UI|UL|UN|US)" +
    "|\\0[\\x02\\x08]\\0[^](?:CS|DA|LO|PN|SH|SQ|ST|TM|UI|UL)" +
    "|\\x08\\0[\\0-\\x70]\\0[\\0-\\x7f]\\0\\0\\0)",
);
const isMarked = (/** @type {Uint8Array} */ start) => String.fromCharCode(...start.subarray(128, 132)) === "DICM";

/** Whether a file that starts with these bytes is DICOM. @param {Uint8Array} start */
export function isDicom(start) {
  return isMarked(start) || BARE.test(String.fromCharCode(...start.subarray(0, 8)));
}

/**
 * Read the elements of a file up to its pixels.
 * @param {Uint8Array} bytes
 * @returns {Elements}
 */
export function readElements(bytes) {
  let start = isMarked(bytes) ? 132 : 0;
  let syntax = "";
  const { littleEndianByteArrayParser: little, bigEndianByteArrayParser: big } = parser;
  if (bytes[start] === 2 && bytes[start + 1] === 0) {
    const stream = new parser.ByteStream(little, bytes, start);
    while (stream.position + 8 <= bytes.length) {
      const before = stream.position;
      if (bytes[before] !== 2 || bytes[before + 1] !== 0) break;
      const element = parser.readDicomElementExplicit(stream, []);
      if (element.tag === "x00020010") syntax = readText(bytes, element);
    }
    start = stream.position;
  }
  syntax ||= guessSyntax(bytes.subarray(start, start + 6));
  if (syntax === DEFLATED) {
    bytes = inflate(bytes.subarray(start));
    start = 0;
  }
  const stream = new parser.ByteStream(syntax === BIG_ENDIAN ? big : little, bytes, start);
  const ds = new parser.DataSet(stream.byteArrayParser, bytes, {});
  const options = { untilTag: PIXEL_DATA };
  if (syntax === IMPLICIT) parser.parseDicomDataSetImplicit(ds, stream, bytes.length, options);
  else parser.parseDicomDataSetExplicit(ds, stream, bytes.length, options);
  return { ds, syntax, bytes, pixels: ds.elements[PIXEL_DATA] ?? null };
}

/** @param {Uint8Array} start */
function guessSyntax(start) {
  if (start[0] === 0) return BIG_ENDIAN;
  return /^[A-Z]{2}$/.test(String.fromCharCode(...start.subarray(4, 6))) ? EXPLICIT : IMPLICIT;
}

/** A deflated data set, and not a byte of a bomb. @param {Uint8Array} packed */
function inflate(packed) {
  /** @type {Uint8Array[]} */
  const parts = [];
  let [size, limit, isEnd] = [0, HEADER_LIMIT, false];
  const more = "is a DICOM file that holds more or less than its header announces; export it again.";
  const join = () => {
    const whole = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  };
  const inflater = new Inflate((part, final) => {
    parts.push(part);
    size += part.length;
    isEnd ||= final;
    if (size > limit && limit === HEADER_LIMIT) {
      const ds = new parser.DataSet(parser.littleEndianByteArrayParser, join(), {});
      const stream = new parser.ByteStream(ds.byteArrayParser, ds.byteArray, 0);
      try {
        parser.parseDicomDataSetExplicit(ds, stream, size, { untilTag: PIXEL_DATA });
      } catch {
        // the pixels are cut here
      }
      const layout = readLayout(ds);
      limit += Math.floor((layout.rows * layout.columns * layout.frames * layout.samples * layout.bitsAllocated) / 8);
    }
    if (size > limit) throw new UnreadableImage(more);
  });
  for (let at = 0; at < packed.length; at += 1 << 14) {
    inflater.push(packed.subarray(at, at + (1 << 14)), at + (1 << 14) >= packed.length);
  }
  if (!isEnd) throw new UnreadableImage(more);
  return join();
}

/** @param {Uint8Array} bytes @param {{dataOffset: number, length: number}} element */
function readText(bytes, element) {
  const part = bytes.subarray(element.dataOffset, element.dataOffset + element.length);
  return String.fromCharCode(...part.subarray(0, 4096)).replace(/[\0 ]+$/, "");
}

/** @param {DataSet} ds @param {Name} name */
const find = (ds, name) => ds.elements[KINDS[name][0]] ?? null;
/** Whether an element is there. @param {DataSet} ds @param {Name} name */
export const has = (ds, name) => find(ds, name) !== null;

/** The text of an element, of several values the first; "" where there is none. @param {DataSet} ds @param {Name} name */
export function getText(ds, name) {
  return (getTexts(ds, name)[0] ?? "").trim();
}

/** @param {DataSet} ds @param {Name} name */
function getTexts(ds, name) {
  const element = find(ds, name);
  return element?.length ? readText(ds.byteArray, element).split("\\") : [];
}

/** The words of an element, to be compared and never shown. @param {DataSet} ds @param {Name} [name] */
export function getWords(ds, name = "ImageType") {
  return new Set(getTexts(ds, name).map((word) => word.trim().toUpperCase()));
}

/** @type {Record<string, [number, string]>} */
const BINARY = {
  US: [2, "getUint16"], SS: [2, "getInt16"], UL: [4, "getUint32"], SL: [4, "getInt32"],
  FL: [4, "getFloat32"], FD: [8, "getFloat64"],
};

/** All values of an element; what is no number is NaN. @param {DataSet} ds @param {Name} name @returns {number[]} */
export function getNumbers(ds, name) {
  const element = find(ds, name);
  if (!element || !element.length) return [];
  const kind = element.vr && element.vr !== "UN" ? element.vr : KINDS[name][1];
  if (!BINARY[kind]) return getTexts(ds, name).map(parseNumber);
  const [size, method] = BINARY[kind];
  const view = new DataView(ds.byteArray.buffer, ds.byteArray.byteOffset + element.dataOffset, element.length);
  const isLittle = ds.byteArrayParser === parser.littleEndianByteArrayParser;
  if (element.length % size) throw new Error("a value is cut");
  return Array.from({ length: element.length / size }, (_, at) => /** @type {any} */ (view)[method](at * size, isLittle));
}

/** As Python's float(): no hexadecimal, no empty text. @param {string} text */
function parseNumber(text) {
  const plain = text.trim();
  if (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(plain)) return Number(plain);
  if (/^[+-]?inf(?:inity)?$/i.test(plain)) return plain.startsWith("-") ? -Infinity : Infinity;
  return NaN;
}

/** An integer that may stand as a number, as text or as bytes of an unknown kind. @param {DataSet} ds @param {Name} name */
export function getInteger(ds, name) {
  const element = find(ds, name);
  if (!element || !element.length) return null;
  const text = readText(ds.byteArray, element).trim();
  const isNumber = ["US", "SS", "UL", "SL"].includes(element.vr) || ([2, 4].includes(element.length) && !/^\d+$/.test(text));
  if (isNumber) {
    const part = [...ds.byteArray.subarray(element.dataOffset, element.dataOffset + element.length)];
    const isLittle = ds.byteArrayParser === parser.littleEndianByteArrayParser;
    return (isLittle ? part.reverse() : part).reduce((sum, byte) => sum * 256 + byte, 0);
  }
  return /^[+-]?\d+$/.test(text) ? Number(text) : null;
}

/** The bytes of an element as unsigned 16-bit values. @param {DataSet} ds @param {Name} name */
export function getTable(ds, name) {
  const element = find(ds, name);
  const view = new DataView(ds.byteArray.buffer, ds.byteArray.byteOffset + element.dataOffset, element.length);
  const isLittle = ds.byteArrayParser === parser.littleEndianByteArrayParser;
  return Uint16Array.from({ length: element.length >> 1 }, (_, at) => view.getUint16(2 * at, isLittle));
}

/** The items of a sequence. @param {DataSet} ds @param {Name} name @returns {DataSet[]} */
export function getItems(ds, name) {
  return (find(ds, name)?.items ?? []).map((/** @type {any} */ item) => item.dataSet).filter(Boolean);
}

/** So many values of an element, of the frame rather than of the file. @param {DataSet[]} about @param {Name} name @param {number} count */
export function getFirst(about, name, count) {
  for (const ds of about) {
    const numbers = tryNumbers(ds, name);
    if (numbers.length === count) return numbers;
  }
  return [];
}

/** The first finite value that is there; null where there is none. @param {DataSet[]} about @param {Name[]} names */
export function getNumber(about, ...names) {
  for (const name of names) {
    for (const ds of about) {
      const [number] = tryNumbers(ds, name);
      if (Number.isFinite(number)) return number;
    }
  }
  return null;
}

/** @param {DataSet} ds @param {Name} name */
export function tryNumbers(ds, name) {
  try {
    return getNumbers(ds, name);
  } catch {
    return [];
  }
}

/** @type {Name[]} */
export const SPACINGS = ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"];

/** Height and width of a pixel, by the first of these elements. @param {DataSet[]} about @param {Name[]} names @returns {[number, number] | null} */
export function getSides(about, names) {
  for (const name of names) {
    const sides = getFirst(about, name, 2);
    if (sides.length && sides.every((side) => Number.isFinite(side) && side > 0)) return [sides[0], sides[1]];
  }
  return null;
}

/** Where what holds for one frame may stand: in these sequences, then in the file. @param {DataSet} ds @param {number} index @param {Name[]} sequences */
export function describeFrame(ds, index, sequences) {
  const found = [];
  for (const item of [getItems(ds, "FrameGroups")[index], getItems(ds, "SharedGroups")[0]]) {
    if (item) for (const sequence of sequences) found.push(...getItems(item, sequence).slice(0, 1));
  }
  return [...found, ds];
}

/**
 * What the header says of the pixels; refused where it is too much or no sense.
 * @param {DataSet} ds
 * @returns {Layout}
 */
export function readLayout(ds) {
  if (!has(ds, "Rows") || !has(ds, "Columns")) {
    throw new UnreadableImage("is a DICOM file without a picture; choose one that holds a slice.");
  }
  const read = (/** @type {Name} */ name, /** @type {number} */ otherwise) => {
    const numbers = getNumbers(ds, name);
    if (numbers.length > 1 || (numbers.length && !Number.isFinite(numbers[0]))) throw new Error("no number");
    return Math.trunc(numbers[0] ?? 0) || otherwise;
  };
  const bitsAllocated = read("BitsAllocated", 16);
  const layout = {
    rows: read("Rows", 0),
    columns: read("Columns", 0),
    frames: read("NumberOfFrames", 1),
    samples: read("SamplesPerPixel", 1),
    bitsAllocated,
    bitsStored: read("BitsStored", bitsAllocated),
    signed: read("PixelRepresentation", 0) !== 0,
    photometric: getText(ds, "PhotometricInterpretation") || "MONOCHROME2",
    planar: read("PlanarConfiguration", 0),
  };
  checkSize(layout.columns, layout.rows);
  const isSensible = layout.frames >= 1 && [1, 3].includes(layout.samples) && [1, 8, 16, 32].includes(bitsAllocated);
  if (!isSensible || layout.bitsStored < 1 || layout.bitsStored > bitsAllocated) {
    throw new UnreadableImage("is a DICOM file whose header contradicts itself; export the slice again.");
  }
  checkPages(layout.frames, layout.rows * layout.columns * layout.frames * layout.samples);
  return layout;
}
