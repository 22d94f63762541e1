// Headers of DICOM files: where each frame lies, and its series; the port of stroke_hub/scan/headers.py.

import { DERIVED_WORDS, LOCALIZER_WORDS, countTiles } from "../io/dicom.js";
import {
  SPACINGS,
  describeFrame,
  getFirst,
  getInteger,
  getNumber,
  getSides,
  getText,
  getWords,
  has,
  readElements,
  readLayout,
} from "../io/elements.js";
import { UnreadableImage, printable } from "../io/errors.js";
import { checkPixels } from "../io/frames.js";
import { roundEven } from "../io/pillow.js";

/** @typedef {import("../io/elements.js").DataSet} DataSet */
/** @typedef {import("../io/elements.js").Name} Name */
/**
 * One picture of a DICOM file.
 * @typedef {object} Frame
 * @property {number} file @property {number} page @property {string} uid
 * @property {number} rows @property {number} columns @property {[number, number] | null} spacing
 * @property {number[]} directions @property {number[]} corner @property {boolean} isTile
 * @property {Set<string>} words @property {number | null} instance @property {number | null} acquisition
 * @property {number | null} time @property {number | null} echo @property {number | null} bValue
 * @property {string} direction
 */
/**
 * What a DICOM file says of its series; `patient` and `study` are compared and never shown.
 * @typedef {object} Header
 * @property {string} patient @property {string} study @property {string} series @property {number | null} number
 * @property {string} description @property {string} modality @property {boolean} isLocalizer
 * @property {boolean} isDerived @property {boolean} hasContrast @property {string} kernel
 * @property {number | null} thickness @property {Frame[]} frames
 */

/** @type {Name[]} */
const GROUPS = [
  "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "FrameContentSequence",
  "MRDiffusionSequence", "MREchoSequence", "MRImageFrameTypeSequence", "CTImageFrameTypeSequence",
  "CTReconstructionSequence",
];
const NO_CONTRAST = ["", "NONE", "NO", "N", "0", "WITHOUT"];

/**
 * Read what a DICOM file says of its series and its frames; null where it holds no picture.
 * @param {Uint8Array} bytes @param {number} file its number in what was given
 * @returns {Header | null}
 */
export function readHeader(bytes, file) {
  try {
    const elements = readElements(bytes);
    const { ds } = elements;
    if (!has(ds, "Rows") || !elements.pixels?.length) return null;
    const layout = readLayout(ds);
    checkPixels(elements, layout);
    return describe(ds, layout, file);
  } catch (error) {
    if (error instanceof UnreadableImage) throw error;
    throw new UnreadableImage("is a damaged DICOM file; copy or export it again.");
  }
}

/** @param {DataSet} ds @param {import("../io/elements.js").Layout} layout @param {number} file @returns {Header} */
function describe(ds, layout, file) {
  const tiles = countTiles(ds, layout);
  const side = Math.ceil(Math.sqrt(tiles));
  const finite = (/** @type {DataSet[]} */ about, /** @type {Name} */ name, /** @type {number} */ size) => {
    const numbers = getFirst(about, name, size);
    return numbers.every(Number.isFinite) ? numbers : [];
  };
  const first = (/** @type {DataSet[]} */ about, /** @type {Name} */ name) =>
    about.map((one) => getText(one, name)).find(Boolean) ?? "";
  const whole = (/** @type {number | null} */ number) => (number === null ? null : roundEven(number));
  /** @type {Frame[]} */
  const frames = [];
  for (let index = 0; index < layout.frames; index++) {
    const about = describeFrame(ds, index, GROUPS);
    const placed = layout.frames === 1 ? about : about.slice(0, -1);
    const kinds = about.map((one) => new Set([...getWords(one, "FrameType"), ...getWords(one)]));
    const frame = {
      file,
      uid: printable(getText(ds, "SOPInstanceUID"), 64),
      rows: Math.floor(layout.rows / side),
      columns: Math.floor(layout.columns / side),
      spacing: getSides(about, SPACINGS),
      directions: finite(about, "ImageOrientationPatient", 6),
      corner: tiles > 1 ? [] : finite(placed, "ImagePositionPatient", 3),
      isTile: tiles > 1,
      words: kinds.find((words) => words.size) ?? new Set(),
      instance: whole(getNumber([ds], "InstanceNumber")),
      acquisition: whole(getNumber(about, "FrameAcquisitionNumber", "AcquisitionNumber")),
      time: whole(getNumber(about, "TemporalPositionIndex", "TemporalPositionIdentifier")),
      echo: getNumber(about, "EffectiveEchoTime", "EchoTime"),
      bValue: readBValue(about),
      direction: first(about, "DiffusionDirectionality"),
    };
    for (let tile = 0; tile < tiles; tile++) frames.push({ ...frame, page: index * tiles + tile });
  }
  const about = describeFrame(ds, 0, GROUPS);
  const words = getWords(ds);
  return {
    patient: getText(ds, "PatientID"),
    study: getText(ds, "StudyInstanceUID"),
    series: getText(ds, "SeriesInstanceUID"),
    number: whole(getNumber([ds], "SeriesNumber")),
    description: printable(getText(ds, "SeriesDescription")),
    modality: getText(ds, "Modality").toUpperCase(),
    isLocalizer: LOCALIZER_WORDS.some((word) => words.has(word)),
    isDerived: DERIVED_WORDS.some((word) => words.has(word)),
    hasContrast: !NO_CONTRAST.includes(getText(ds, "ContrastBolusAgent").toUpperCase()),
    kernel: first(about, "ConvolutionKernel"),
    thickness: getNumber(about, "SliceThickness"),
    frames,
  };
}

/** The b-value in s/mm², by the standard's element or those of Siemens and GE. @param {DataSet[]} about */
function readBValue(about) {
  const standard = getNumber(about, "DiffusionBValue");
  if (standard !== null) return standard;
  const ds = about[about.length - 1];
  if (getText(ds, "SiemensCreator").includes("SIEMENS MR HEADER")) return getInteger(ds, "SiemensB");
  if (getText(ds, "GEMSCreator").includes("GEMS_PARM_01")) {
    const first = /^\D*(\d+)/.exec(getText(ds, "GEMSB"));
    return first ? Number(first[1]) % 1_000_000 : null;
  }
  return null;
}
