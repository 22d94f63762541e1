// Which of several series is the scan, and why: the port of stroke_hub/scan/series.py.

import { MODALITIES } from "../io/dicom.js";
import { pluralise, printable } from "../io/errors.js";
import { findView, isOblique } from "../io/geometry.js";

/**
 * What may be a scan.
 * @typedef {object} Series
 * @property {"DICOM" | "volume" | "pictures"} kind
 * @property {{file: number, page: number}[]} pages from foot to head
 * @property {string} name
 * @property {number | null} number
 * @property {string} uid
 * @property {string} modality as DICOM writes it
 * @property {string | null} plane
 * @property {number | null} thickness
 * @property {boolean} isLocalizer
 * @property {boolean} isDerived
 * @property {boolean} hasContrast
 * @property {string} kernel
 * @property {string[]} remarks
 * @property {number[] | null} positions
 * @property {[number, number] | null} spacing
 * @property {string} patient
 * @property {string} study
 */

const THICKNESS = [2.5, 6.0];
const FEWEST = 4;
const SHOWN = 6;
const SHARP_NAMES = ["BONE", "BONEPLUS", "EDGE", "LUNG", "ULTRA", "SHARP", "DETAIL", "D", "YD", "YE", "E", "L"];
const SHARP_SIEMENS = 50;
const LABELS = /(?:^|[^\p{L}\p{N}])(?:mask|msk|seg|segmentation|label|lesion|roi|brainmask)s?(?=$|[^\p{L}\p{N}])/iu;
const WEIGHTY = ["neither", "localizer", "computed", "contrast", "kernel"];

/** @type {Omit<Series, "kind" | "pages" | "name">} */
const UNKNOWN = {
  number: null, uid: "", modality: "", plane: null, thickness: null, isLocalizer: false, isDerived: false,
  hasContrast: false, kernel: "", remarks: [], positions: null, spacing: null, patient: "", study: "",
};

/** @param {Series} series */
function write(series) {
  const number = series.number === null ? "" : `${series.number} `;
  return series.name ? `${number}"${series.name}"` : number.trim() || printable(series.uid) || "one";
}

/** What speaks against a series, "" for nothing, the weightiest first. @param {Series} one @param {string | null} modality */
function findFaults(one, modality) {
  const { thickness } = one;
  const isThin = thickness !== null && thickness < THICKNESS[0] - 0.01;
  const isThick = thickness !== null && thickness > THICKNESS[1] + 0.01;
  const known = MODALITIES[one.modality];
  return [
    modality && one.modality && known !== modality ? `is ${one.modality}` : "",
    one.modality && !known ? "is neither CT nor MR" : "",
    one.isLocalizer ? "is a localizer" : "",
    one.plane !== null && one.plane !== "axial" ? `is ${one.plane}` : "",
    one.kind === "pictures" ? "holds pictures, not measured values" : "",
    one.pages.length < FEWEST ? `has ${pluralise(one.pages.length, "slice")}` : "",
    one.isDerived ? "was computed from others" : "",
    one.hasContrast ? "was taken with contrast" : "",
    isSharp(one.kernel) ? "has a sharp kernel" : "",
    isThin || isThick ? `has slices of ${Number(/** @type {number} */ (thickness).toPrecision(3))} mm` : "",
  ];
}

/**
 * Choose the series that suits, and say which and why.
 * @param {Series[]} all at least one @param {string | null} modality
 */
export function chooseSeries(all, modality) {
  const ranked = [...all].sort((a, b) => compare(rank(a, modality), rank(b, modality)));
  const [taken] = ranked;
  const remarks = all.length > 1 ? explain(ranked, modality) : [];
  const faults = findFaults(taken, null).filter((fault) => WEIGHTY.some((word) => fault.includes(word)));
  if (faults.length) remarks.push(`The series ${faults.join(" and ")}.`);
  return { taken, remarks };
}

/** @param {Series} series @param {string | null} modality */
function rank(series, modality) {
  const faults = findFaults(series, modality).map((fault) => (fault ? 1 : 0));
  return [...faults, -series.pages.length, series.number ?? 2 ** 31, series.name, series.uid];
}

/** @param {(number | string)[]} a @param {(number | string)[]} b */
function compare(a, b) {
  const at = a.findIndex((one, k) => one !== b[k]);
  return at < 0 ? 0 : a[at] < b[at] ? -1 : 1;
}

/** Which series was taken, and what spoke against each other one. @param {Series[]} ranked @param {string | null} modality */
function explain(ranked, modality) {
  const [taken, ...others] = ranked;
  const mine = findFaults(taken, modality);
  const against = others.slice(0, SHOWN).map((other) => {
    const fault = findFaults(other, modality).find((its, at) => its && !mine[at]);
    return `${write(other)} ${fault ?? (other.pages.length < taken.pages.length ? "has fewer slices" : "suits as well")}`;
  });
  if (others.length > SHOWN) against.push(`and ${others.length - SHOWN} more`);
  const remarks = [
    `Of ${ranked.length} series, ${write(taken)} was taken (${pluralise(taken.pages.length, "slice")}), because it suits ` +
      `best: ${against.join("; ")}.`,
    "To see another, open its files alone.",
  ];
  const found = new Set(ranked.map((one) => one.modality).filter(Boolean));
  if (found.size > 1) remarks.push(`The files are of several modalities: ${[...found].map((one) => printable(one)).sort().join(", ")}.`);
  const headers = ranked.filter((one) => one.kind === "DICOM");
  const patients = new Set(headers.map((one) => one.patient)).size;
  const studies = new Set(headers.map((one) => one.study)).size;
  if (patients > 1) remarks.push(`The files are of ${patients} patients; the series is of one of them.`);
  else if (studies > 1) remarks.push(`The files are of ${studies} studies; the series is of one of them.`);
  return remarks;
}

/** Whether a convolution kernel of CT is for bone; unknown ones count as soft. @param {string} kernel */
function isSharp(kernel) {
  const [name] = kernel.trim().toUpperCase().split(/[\\\s^]/);
  if (SHARP_NAMES.includes(name)) return true;
  const canon = /^FC(\d\d)$/.exec(name);
  if (canon) return ["3", "5", "8"].includes(canon[1][0]);
  const siemens = /^[A-Z]{1,2}(\d\d)/.exec(name);
  return siemens !== null && Number(siemens[1]) >= SHARP_SIEMENS;
}

/**
 * Describe a DICOM series whose frames were arranged.
 * @param {import("./headers.js").Header} header @param {import("./grid.js").Grid} grid
 * @returns {Series}
 */
export function describeDicom(header, grid) {
  const [first] = grid.frames;
  const view = findView(first.directions);
  let { thickness } = header;
  const { positions } = grid;
  if (thickness === null && positions && positions.length > 1) {
    thickness = Math.abs(positions[positions.length - 1] - positions[0]) / (positions.length - 1);
  }
  return {
    ...UNKNOWN,
    kind: "DICOM",
    pages: grid.frames.map(({ file, page }) => ({ file, page })),
    name: header.description,
    number: header.number,
    uid: header.series,
    modality: header.modality,
    plane: view ? (isOblique(view) ? "oblique" : view.plane) : null,
    thickness,
    isLocalizer: header.isLocalizer,
    isDerived: header.isDerived,
    hasContrast: header.hasContrast,
    kernel: header.kernel,
    remarks: grid.remarks,
    positions,
    spacing: first.spacing,
    patient: header.patient,
    study: header.study,
  };
}

/**
 * Describe a NIfTI file; a name such as lesion_mask.nii.gz says that it holds labels.
 * @param {number} file @param {string} name @param {import("../io/nifti.js").Volume} volume
 * @returns {Series}
 */
export function describeVolume(file, name, volume) {
  const { affine, turned, hasPlace, spacing } = volume.header;
  const column = (/** @type {number} */ axis) => affine.slice(0, 3).map((row) => row[axis]);
  const along = column(volume.axis);
  const others = [0, 1, 2].filter((axis) => axis !== volume.axis).map(column);
  let normal = [
    others[0][1] * others[1][2] - others[0][2] * others[1][1],
    others[0][2] * others[1][0] - others[0][0] * others[1][2],
    others[0][0] * others[1][1] - others[0][1] * others[1][0],
  ];
  const product = (/** @type {number[]} */ a, /** @type {number[]} */ b) => a.reduce((sum, one, axis) => sum + one * b[axis], 0);
  const [, direction] = turned[volume.axis];
  const sign = Math.sign(product(normal, along)) * direction;
  const length = Math.hypot(...normal);
  normal = normal.map((one) => (one / length) * sign);
  const origin = column(3);
  const positions = Array.from({ length: volume.length }, (_, place) => {
    const number = direction > 0 ? place : volume.length - 1 - place;
    return product(origin.map((one, axis) => one + number * along[axis]), normal);
  });
  return {
    ...UNKNOWN,
    kind: "volume",
    pages: positions.map((_, page) => ({ file, page })),
    name,
    plane: "axial",
    thickness: Math.hypot(...along),
    isDerived: LABELS.test(name),
    remarks: hasPlace ? [] : ["The volume does not say how it lies in the patient; left and right may be exchanged."],
    positions,
    spacing,
  };
}

/**
 * Describe pictures, of which those of the most frequent size are slices of one scan.
 * @param {{file: number, name: string, size: string}[]} pictures
 * @returns {Series}
 */
export function describePictures(pictures) {
  /** @type {Map<string, number>} */
  const often = new Map();
  for (const { size } of pictures) often.set(size, (often.get(size) ?? 0) + 1);
  const [size] = [...often].reduce((best, one) => (one[1] > best[1] ? one : best));
  const alike = pictures.filter((one) => one.size === size).sort((a, b) => compareNames(a.name, b.name));
  const left = pictures.length - alike.length;
  const was = left === 1 ? "picture of another size was" : "pictures of other sizes were";
  const remarks = left ? [`${left} ${was} left out.`] : [];
  if (alike.length > 1) {
    remarks.push(
      "The pictures do not say where they lie; they are in the order of their names, and positions are slice numbers.",
    );
  }
  return { ...UNKNOWN, kind: "pictures", pages: alike.map(({ file }) => ({ file, page: 0 })), name: "pictures", remarks };
}

/** Sort slice2 before slice10. @param {string} a @param {string} b */
function compareNames(a, b) {
  const split = (/** @type {string} */ name) =>
    (name.toLowerCase().match(/\d+|\D+/g) ?? []).flatMap((part) => (/^\d/.test(part) ? [0, Number(part), ""] : [1, 0, part]));
  const [mine, theirs] = [split(a), split(b)];
  return compare(mine, theirs) || mine.length - theirs.length;
}
