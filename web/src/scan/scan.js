// What was given becomes one scan, its slices decoded when they are asked for: the port of stroke_hub/scan/load_scan.py.

import { DicomFile, MODALITIES } from "../io/dicom.js";
import { isDicom } from "../io/elements.js";
import { UnreadableImage, pluralise, printable } from "../io/errors.js";
import { Volume, isVolume, readVolume } from "../io/nifti.js";
import { OnePage } from "../io/pages.js";
import { decodePicture, findKind, measurePicture } from "../io/picture.js";
import { arrange } from "./grid.js";
import { readHeader } from "./headers.js";
import { chooseSeries, describeDicom, describePictures, describeVolume } from "./series.js";

/** @typedef {import("../io/windowing.js").Modality} Modality */
/** @typedef {{name: string, read: () => Promise<Uint8Array>}} Source  a file: its name, and its bytes */
/** @typedef {import("./series.js").Series} Series */

const SHOWN = 3;
const START = 352;

/** A scan: its slices from foot to head. */
export class Scan {
  /**
   * @param {Source[]} sources @param {Series} series @param {Modality | null} modality
   * @param {Map<number, {pages: any, name: string}>} opened files that are decoded already
   * @param {string} name @param {string[]} remarks
   */
  constructor(sources, series, modality, opened, name, remarks) {
    this.sources = sources;
    this.series = series;
    this.modality = modality;
    this.opened = opened;
    this.name = name;
    this.remarks = remarks;
  }

  get length() {
    return this.series.pages.length;
  }

  /**
   * Decode a slice.
   * @param {number} number from foot to head
   * @returns {Promise<import("../io/rendering.js").Measured>}
   */
  async slice(number) {
    const { file, page } = this.series.pages[number];
    const name = printable(this.sources[file].name) || "image";
    try {
      let pages = this.opened.get(file)?.pages;
      if (!pages) {
        this.opened.clear(); // one file at a time is in memory
        pages = await openFile(await this.sources[file].read());
        this.opened.set(file, { pages, name });
      }
      return await pages.page(page);
    } catch (error) {
      if (error instanceof UnreadableImage) throw new UnreadableImage(`${name}: ${error.message}`);
      throw new UnreadableImage(`${name}: cannot be decoded, it is damaged or of a rare kind; export the slice again as an 8-bit PNG.`);
    }
  }
}

/**
 * Load one scan of all files that were given.
 * @param {Source[]} sources @param {{modality: Modality | null, progress?: (done: number, all: number) => void}} options
 */
export async function loadScan(sources, { modality, progress = () => {} }) {
  if (!sources.length) throw new UnreadableImage("There is no file; choose a slice or a scan.");
  const name = sources.length > 1 ? pluralise(sources.length, "file") : printable(sources[0].name) || "image";
  const found = new Found();
  for (const [number, source] of sources.entries()) {
    progress(number, sources.length);
    try {
      await found.look(number, source);
    } catch (error) {
      const words = error instanceof UnreadableImage ? error.message : "cannot be read; copy it and try again.";
      found.errors.push(`${printable(source.name) || "image"}: ${words}`);
    }
  }
  const all = found.listSeries();
  if (!all.length) {
    if (sources.length === 1) throw new UnreadableImage(found.errors[0] ?? `${name}: holds no slice that can be read; pass DICOM, NIfTI or pictures of a scan.`);
    const reason = found.errors.length ? ` (${found.errors[0].replace(/\.$/, "")})` : "";
    throw new UnreadableImage(`${name}: holds no slice that can be read${reason}; pass DICOM, NIfTI or pictures of a scan.`);
  }
  const { taken, remarks } = chooseSeries(all, modality);
  const left = found.errors.length
    ? [`Left out because of what is wrong with them: ${pluralise(found.errors.length, "file")}. ${found.errors.slice(0, SHOWN).join(" ")}`]
    : [];
  const told = [...new Set([...remarks, ...found.remarks, ...left, ...taken.remarks])];
  const scan = new Scan(sources, taken, modality ?? MODALITIES[taken.modality] ?? null, found.volumesOf(taken), name, told);
  await scan.slice(0); // what cannot be read at all says so
  return scan;
}

/** What the files are, by their headers. */
class Found {
  constructor() {
    /** @type {Map<string, import("./headers.js").Header[]>} */
    this.headers = new Map();
    /** @type {{file: number, name: string, volume: Volume}[]} */
    this.volumes = [];
    /** @type {{file: number, name: string, size: string}[]} */
    this.pictures = [];
    /** @type {string[]} */
    this.errors = [];
    /** @type {string[]} */
    this.remarks = [];
  }

  /** @param {number} file @param {Source} source */
  async look(file, source) {
    const bytes = await source.read();
    const start = bytes.subarray(0, START);
    if (!bytes.length) throw new UnreadableImage("is empty; export or upload the slice again.");
    const kind = isDicom(start) ? null : findKind(start);
    if (isDicom(start)) {
      const header = readHeader(bytes, file);
      if (!header) return;
      const key = JSON.stringify([header.patient, header.series, header.number]);
      this.headers.set(key, [...(this.headers.get(key) ?? []), header]);
    } else if (kind) {
      this.pictures.push({ file, name: source.name, size: measurePicture(bytes, kind).join(" x ") });
    } else if (isVolume(start)) {
      const { header, bytes: unpacked } = await readVolume(bytes);
      const number = header.volumes - 1; // of diffusion the weighted one
      if (number) {
        this.remarks.push(
          `Of ${header.volumes} volumes the last was taken: nothing says what they are, and of diffusion it is the weighted one.`,
        );
      }
      this.volumes.push({ file, name: source.name, volume: new Volume(header, unpacked, number) });
    } else if (["PK\x03\x04", "PK\x05\x06"].includes(String.fromCharCode(...start.subarray(0, 4)))) {
      throw new UnreadableImage("is a zip archive, which this page does not read; unpack it and open its files.");
    } else {
      throw new UnreadableImage(
        "is not a PNG, JPEG, WebP or BMP image, nor DICOM or NIfTI; export the slice in one of these formats and try again.",
      );
    }
  }

  /** Put together what belongs together. */
  listSeries() {
    const all = [...this.headers.values()].map((headers) => {
      const grid = arrange(headers.flatMap((header) => header.frames), headers[0].thickness);
      const first = grid.frames[0];
      const own = headers.find((header) => header.frames.includes(first)) ?? headers[0];
      return describeDicom(own, grid);
    });
    all.push(...this.volumes.map(({ file, name, volume }) => describeVolume(file, printable(name), volume)));
    if (this.pictures.length) all.push(describePictures(this.pictures));
    return all;
  }

  /** The volume of the series, which is in memory already. @param {Series} taken */
  volumesOf(taken) {
    const own = this.volumes.filter(({ file }) => taken.kind === "volume" && file === taken.pages[0].file);
    return new Map(own.map(({ file, name, volume }) => [file, { pages: volume, name }]));
  }
}

/** @param {Uint8Array} bytes */
async function openFile(bytes) {
  const start = bytes.subarray(0, START);
  if (isDicom(start)) return new DicomFile(bytes);
  const kind = findKind(start);
  if (kind) return new OnePage(await decodePicture(bytes, kind));
  const { header, bytes: unpacked } = await readVolume(bytes);
  return new Volume(header, unpacked, header.volumes - 1);
}
