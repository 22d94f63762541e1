// DICOM files to measured values, upright: the port of stroke_hub/io/dicom.py. Nothing of the patient is read.

import {
  SPACINGS,
  describeFrame,
  getFirst,
  getInteger,
  getItems,
  getNumber,
  getNumbers,
  getSides,
  getTable,
  getText,
  getWords,
  has,
  readElements,
  readLayout,
  tryNumbers,
} from "./elements.js";
import { UnreadableImage } from "./errors.js";
import { checkPixels, decodeFrame } from "./frames.js";
import { findView, isOblique } from "./geometry.js";
import { JudgedPages } from "./pages.js";
import { CT_SMALLEST, SHIFTED, compact, findHounsfield, layOut, measured, sample, toHounsfield } from "./rendering.js";
import { AIR, applyWindow, findRange, stretch } from "./windowing.js";
import { roundEven } from "./pillow.js";

/** @typedef {import("./rendering.js").Measured} Measured */
/** @typedef {import("./elements.js").DataSet} DataSet */

/** @type {Record<string, import("./windowing.js").Modality>} */
export const MODALITIES = { CT: "BT", MR: "MR" };
export const LOCALIZER_WORDS = ["LOCALIZER", "SCOUT"];
const MAPS = ["ADC", "FA", "TRACEW", "RCBV", "RCBF", "CBV", "CBF", "MTT", "TTP", "TMAX", "PHASE", "PERFUSION"];
export const DERIVED_WORDS = [...MAPS, "DERIVED"];
const LOCALIZER = "The slice is a localizer; models are trained on axial slices of a scan.";
const DERIVED = "The slice was computed from others (a map or a reconstruction); models are trained on measured slices.";
const OTHER_MODALITY = "The file is neither CT nor MR; models are trained on head CT and MR alone.";
const OBLIQUE = "The slice is oblique; models are trained on axial slices.";
const DAMAGED = "is a damaged DICOM file or of a rare kind; export the slice again as an 8-bit PNG.";
/** @type {import("./elements.js").Name[]} */
const SHOWN_IN = [
  "PixelValueTransformationSequence",
  "FrameVOILUTSequence",
  "PlaneOrientationSequence",
  "PixelMeasuresSequence",
];

/** Decode the slices of a DICOM file when they are asked for. */
export class DicomFile extends JudgedPages {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    super();
    const { elements, layout, tiles } = refuseDamage(() => {
      const elements = readElements(bytes);
      const layout = readLayout(elements.ds);
      checkPixels(elements, layout);
      return { elements, layout, tiles: countTiles(elements.ds, layout) };
    });
    this.elements = elements;
    this.ds = elements.ds;
    this.layout = layout;
    this.tiles = tiles;
    this.name = getText(this.ds, "Modality");
    this.modality = MODALITIES[this.name] ?? null;
    this.remarks = describeKind(this.ds, this.name);
  }

  get length() {
    return this.layout.frames * this.tiles;
  }

  /** @param {number} number @returns {Promise<Measured>} */
  async page(number) {
    try {
      const page = await this.judge(number);
      const about = describeFrame(this.ds, Math.floor(number / this.tiles), SHOWN_IN);
      const view = findView(getFirst(about, "ImageOrientationPatient", 6));
      const spacing = getSides(about, SPACINGS);
      const sides = spacing ?? getSides(about, ["PixelAspectRatio"]);
      const remarks = [...this.remarks, ...page.remarks, ...describeView(view)];
      const upright = layOut({ ...page, remarks }, view, sides);
      return spacing ? upright : { ...upright, spacing: null };
    } catch (error) {
      throw error instanceof UnreadableImage ? error : new UnreadableImage(DAMAGED);
    }
  }

  /** @param {Measured} page */
  isKnown(page) {
    return page.hounsfield !== null || page.isPicture;
  }

  sizes() {
    const side = Math.ceil(Math.sqrt(this.tiles));
    const size = Math.floor((this.layout.rows * this.layout.columns) / (side * side));
    return new Map(Array.from({ length: this.length }, (_, number) => [number, size]));
  }

  /** @param {number} number @returns {Promise<Measured>} */
  async decode(number) {
    const index = Math.floor(number / this.tiles);
    const { rows, columns } = this.layout;
    const frame = { data: await decodeFrame(this.elements, this.layout, index), height: rows, width: columns };
    const about = describeFrame(this.ds, index, SHOWN_IN);
    return measure(cutTile(frame, this.tiles, number % this.tiles), about, this.layout, this.name);
  }
}

/** @template T @param {() => T} action */
function refuseDamage(action) {
  try {
    return action();
  } catch (error) {
    throw error instanceof UnreadableImage ? error : new UnreadableImage(DAMAGED);
  }
}

/** @typedef {{data: import("./frames.js").Stored, height: number, width: number}} Frame */

/** One slice of a mosaic, which lie row by row in a square grid. @param {Frame} frame @param {number} tiles @param {number} number @returns {Frame} */
function cutTile(frame, tiles, number) {
  if (tiles === 1) return frame;
  const side = Math.ceil(Math.sqrt(tiles));
  const [height, width] = [Math.floor(frame.height / side), Math.floor(frame.width / side)];
  const [top, left] = [Math.floor(number / side) * height, (number % side) * width];
  const data = /** @type {import("./frames.js").Stored} */ (new /** @type {any} */ (frame.data.constructor)(height * width));
  for (let y = 0; y < height; y++) {
    const from = (top + y) * frame.width + left;
    data.set(/** @type {any} */ (frame.data.subarray(from, from + width)), y * width);
  }
  return { data, height, width };
}

/**
 * One frame as stored: its values in the units of its modality.
 * @param {Frame} frame @param {DataSet[]} about @param {import("./elements.js").Layout} layout @param {string} modality
 * @returns {Measured}
 */
function measure(frame, about, layout, modality) {
  const ds = about[about.length - 1];
  const { height, width } = frame;
  if (layout.photometric === "PALETTE COLOR" || layout.samples === 3) {
    return measured({ data: showColour(frame, ds, layout), height, width }, { isPicture: true });
  }
  const { values, wasRescaled } = rescaleValues(frame.data, about);
  const padding = findPadding(frame.data, ds, layout);
  const isDeep = layout.bitsStored > 8;
  const isInverted = layout.photometric === "MONOCHROME1";
  const real = padding && !padding.every(Boolean) ? values.filter((_, at) => !padding[at]) : values;
  const [least, most] = findRange(real);
  if (modality === "CT" && isDeep && (wasRescaled || findRange(values)[0] <= AIR)) {
    const how = findHounsfield(sample(compact(real))) ?? { offset: 0, wrapped: false, evidence: "possible" };
    const hu = toHounsfield(values, how);
    if (padding) hu.forEach((_, at) => padding[at] && (hu[at] = CT_SMALLEST));
    return measured(
      { data: compact(hu), height, width },
      { hounsfield: { offset: 0, wrapped: false, evidence: "plain" }, remarks: how.offset ? [SHIFTED] : [] },
    );
  }
  if (padding && real !== values) values.forEach((_, at) => padding[at] && (values[at] = isInverted ? most : least));
  if (!isDeep && !layout.signed && !wasRescaled) {
    const factor = 255 / (2 ** layout.bitsStored - 1);
    let grey = applyOwnWindow(values, about) ?? Uint8Array.from(values, (value) => roundEven(value * factor));
    if (isInverted) grey = grey.map((level) => 255 - level);
    return measured({ data: grey, height, width }, { isPicture: true });
  }
  const data = compact(isInverted ? values.map((value) => -value) : values);
  return measured({ data, height, width });
}

/** Which stored values are padding (DICOM PS3.3 C.7.5.1.1.2); null where the file has none. @param {ArrayLike<number>} data @param {DataSet} ds @param {import("./elements.js").Layout} layout */
function findPadding(data, ds, layout) {
  const read = (/** @type {import("./elements.js").Name} */ name) => {
    let number = getInteger(ds, name);
    if (number === null) return null;
    const range = 2 ** layout.bitsAllocated;
    number = ((number % range) + range) % range;
    return layout.signed && number >= range / 2 ? number - range : number;
  };
  const first = read("PixelPaddingValue");
  if (first === null) return null;
  const last = read("PixelPaddingRangeLimit") ?? first;
  const [low, high] = [Math.min(first, last), Math.max(first, last)];
  const found = Array.from({ length: data.length }, (_, at) => data[at] >= low && data[at] <= high);
  return found.some(Boolean) ? found : null;
}

/**
 * Stored values in the units of their modality, and whether the file says how.
 * @param {import("./frames.js").Stored} data @param {DataSet[]} about
 */
function rescaleValues(data, about) {
  const ds = about[about.length - 1];
  const table = readLut(getItems(ds, "ModalityLUTSequence")[0]);
  if (table) return { values: Float64Array.from(data, table.look), wasRescaled: true };
  const [slope, intercept] = [getNumber(about, "RescaleSlope"), getNumber(about, "RescaleIntercept")];
  const values = Float64Array.from(data, (value) => value * (slope || 1) + (intercept || 0));
  if (!values.every(Number.isFinite)) {
    throw new UnreadableImage("is a DICOM file whose rescaling leads beyond all numbers; export the slice again.");
  }
  return { values, wasRescaled: slope !== null || intercept !== null };
}

/** A table of values: the number of entries, the first stored value, the bits of an entry. @param {DataSet | undefined} item */
function readLut(item) {
  if (!item || !has(item, "LUTDescriptor") || !has(item, "LUTData")) return null;
  const [size, first, bits] = getNumbers(item, "LUTDescriptor");
  const entries = getTable(item, "LUTData");
  const last = Math.min(size || 65536, entries.length) - 1;
  if (last < 0) throw new Error("an empty table");
  return { bits, look: (/** @type {number} */ value) => entries[Math.min(last, Math.max(0, value - first))] };
}

/** By the file's own VOI LUT or window; null where it has none that makes sense. @param {Float64Array} values @param {DataSet[]} about */
function applyOwnWindow(values, about) {
  for (const ds of about) {
    try {
      const table = readLut(getItems(ds, "VOILUTSequence")[0]);
      if (table) {
        const most = 2 ** table.bits - 1;
        return applyWindow(Float64Array.from(values, (value) => table.look(roundEven(value))), most / 2, most, "LINEAR_EXACT");
      }
    } catch {
      continue; // a table that contradicts itself; the next best thing is shown
    }
    const said = getText(ds, "VOILUTFunction").toUpperCase();
    const kind = ["LINEAR", "LINEAR_EXACT", "SIGMOID"].includes(said) ? said : "LINEAR";
    const [centres, widths] = [tryNumbers(ds, "WindowCenter"), tryNumbers(ds, "WindowWidth")];
    for (let at = 0; at < Math.min(centres.length, widths.length); at++) {
      const isSensible = Number.isFinite(centres[at]) && Number.isFinite(widths[at]);
      if (isSensible && widths[at] >= (kind === "LINEAR" ? 1 : 1e-9)) return applyWindow(values, centres[at], widths[at], kind);
    }
  }
  return null;
}

/** @param {Frame} frame @param {DataSet} ds @param {import("./elements.js").Layout} layout */
function showColour(frame, ds, layout) {
  const { data } = frame;
  const pixels = frame.height * frame.width;
  let bits = layout.bitsStored;
  /** @type {(at: number, k: number) => number} */
  let read = (at, k) => data[3 * at + k];
  if (layout.photometric === "PALETTE COLOR") {
    const names = /** @type {const} */ (["Red", "Green", "Blue"]);
    const [size, first, depth] = getNumbers(ds, "RedDescriptor");
    const tables = names.map((name) => {
      const table = getTable(ds, `${name}Data`);
      if (depth !== 8 || table.length >= (size || 65536)) return table;
      return Uint16Array.from({ length: table.length * 2 }, (_, at) => (at % 2 ? table[at >> 1] >> 8 : table[at >> 1] & 255));
    });
    const last = (size || 65536) - 1;
    read = (at, k) => tables[k][Math.min(last, Math.max(0, data[at] - first))];
    bits = depth > 8 ? 16 : 8;
  }
  const factor = 255 / (2 ** bits - 1);
  const grey = new Float64Array(pixels);
  for (let at = 0; at < pixels; at++) {
    grey[at] = roundEven((read(at, 0) * 0.299 + read(at, 1) * 0.587 + read(at, 2) * 0.114) * factor);
  }
  return stretch(grey, 0, 255);
}

/** Remarks on what the header says of the kind of picture. @param {DataSet} ds @param {string} modality */
function describeKind(ds, modality) {
  const words = getWords(ds);
  const found = [];
  if (LOCALIZER_WORDS.some((word) => words.has(word))) found.push(LOCALIZER);
  if (DERIVED_WORDS.some((word) => words.has(word))) found.push(DERIVED);
  if (!["", "CT", "MR"].includes(modality)) found.push(OTHER_MODALITY);
  return found;
}

/** @param {import("./geometry.js").View | null} view */
function describeView(view) {
  if (!view) return [];
  if (isOblique(view)) return [OBLIQUE];
  return view.plane === "axial" ? [] : [`The slice is ${view.plane}; models are trained on axial slices.`];
}

/** How many slices a Siemens mosaic holds in its one frame; 1 where it is none. @param {DataSet} ds @param {import("./elements.js").Layout} layout */
export function countTiles(ds, layout) {
  if (layout.frames > 1 || has(ds, "SharedGroups") || has(ds, "FrameGroups")) return 1;
  const number = getText(ds, "SiemensCreator").includes("SIEMENS MR HEADER") ? getInteger(ds, "SiemensNumber") : null;
  if (number === null) {
    if (!getWords(ds).has("MOSAIC")) return 1;
    throw new UnreadableImage(
      "is a mosaic that does not say how many slices it holds; convert the series (for example dcm2niix).",
    );
  }
  if (number < 2) return 1;
  const side = Math.ceil(Math.sqrt(number));
  if (layout.rows % side || layout.columns % side) {
    throw new UnreadableImage(
      "is a mosaic whose slices do not fit into its picture; convert the series (for example dcm2niix).",
    );
  }
  return number;
}
