// NIfTI volumes to axial slices, bottom to top: the port of stroke_hub/io/nifti.py and of nibabel's affines.

import { UnreadableImage, count } from "./errors.js";
import { checkPages, checkSize } from "./limits.js";
import { compact, findHounsfield, layOut, measured } from "./rendering.js";

/** @typedef {number[][]} Matrix */
/**
 * What the header of a NIfTI file says.
 * @typedef {object} Header
 * @property {[number, number, number]} shape
 * @property {number} volumes
 * @property {any} kind of array that holds the voxels
 * @property {number} size bytes of a voxel
 * @property {boolean} isLittle
 * @property {number} offset of the first voxel
 * @property {number} slope
 * @property {number} intercept
 * @property {Matrix} affine 3 x 4, voxel to right, anterior, superior in mm
 * @property {boolean} hasPlace
 * @property {[number, number][]} turned for each axis the closest axis of the patient, and its direction
 * @property {[number, number] | null} spacing
 */

const HEADER_SIZE = 352;
const SLACK = 65536;
const SAMPLED = 4_000_000;
const FREE_BYTES = 1 << 30;
const MAX_RATIO = 200;
const DAMAGED = "is a damaged NIfTI volume or of a rare kind; convert it again (for example dcm2niix).";
const SHORT = "ends before its last voxel; copy or convert the volume again.";

/** The arrays of voxels by the header's number of their kind. @type {Record<number, any>} */
const KINDS = {
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array,
  256: Int8Array, 512: Uint16Array, 768: Uint32Array, 1024: BigInt64Array, 1280: BigUint64Array,
};
const COLOURS = [32, 128, 1536, 1792, 2048, 2304];

/** @param {Uint8Array} start */
export const isGzip = (start) => start[0] === 0x1f && start[1] === 0x8b;

/** Whether a file that starts with these bytes is NIfTI in one file, or gzip. @param {Uint8Array} start */
export const isVolume = (start) => isGzip(start) || findVersion(start) !== null;

/** @param {Uint8Array} start */
function findVersion(start) {
  const text = (/** @type {number} */ from, /** @type {number} */ to) => String.fromCharCode(...start.subarray(from, to));
  const isFirst = ["\x5c\x01\0\0", "\0\0\x01\x5c"].includes(text(0, 4)) && ["n+1\0", "ni1\0"].includes(text(344, 348));
  if (isFirst) return 1;
  const isSecond = ["\x1c\x02\0\0", "\0\0\x02\x1c"].includes(text(0, 4)) && ["n+2\0", "ni2\0"].includes(text(4, 8));
  return isSecond ? 2 : null;
}

/** Give the axial slices of a NIfTI file. */
export class Volume {
  /** @param {Header} header @param {Uint8Array} bytes @param {number} number of the volume */
  constructor(header, bytes, number) {
    this.header = header;
    this.modality = null;
    const { shape, size, offset, volumes } = header;
    const length = shape[0] * shape[1] * shape[2];
    if (bytes.length < offset + length * size * volumes) throw new UnreadableImage(SHORT);
    if (bytes.length > offset + length * size * volumes + SLACK) {
      throw new UnreadableImage("holds more than its header announces; convert the volume again.");
    }
    const start = offset + number * length * size;
    this.voxels = view(bytes, start, length, header);
    this.axis = header.turned.findIndex(([goal]) => goal === 2);
    this.length = shape[this.axis];
    this.tellUnits();
  }

  /** Every k-th voxel in the order of right, anterior, superior tells the units. */
  tellUnits() {
    const { shape, turned, slope, intercept } = this.header;
    const { voxels } = this;
    const [nx, ny, nz] = shape;
    const step = Math.max(1, Math.ceil((nx * ny * nz) / SAMPLED));
    const values = new Float64Array(Math.ceil((nx * ny * nz) / step));
    let size = 0;
    for (let number = 0; number < nx * ny * nz; number += step) {
      let [x, y, z] = [number % nx, Math.floor(number / nx) % ny, Math.floor(number / (nx * ny))];
      if (turned[0][1] < 0) x = nx - 1 - x;
      if (turned[1][1] < 0) y = ny - 1 - y;
      if (turned[2][1] < 0) z = nz - 1 - z;
      const value = Number(voxels[x + nx * (y + ny * z)]) * slope + intercept;
      if (Number.isFinite(value)) values[size++] = value;
    }
    if (!size) throw new UnreadableImage("holds no finite voxel; convert the volume again.");
    const found = values.subarray(0, size);
    let low = Infinity;
    let high = -Infinity;
    for (let at = 0; at < size; at++) {
      low = Math.min(low, found[at]);
      high = Math.max(high, found[at]);
    }
    if (!Number.isFinite(high - low)) {
      throw new UnreadableImage("spans more than a float can hold; rescale the volume and try again.");
    }
    this.darkest = low;
    this.hounsfield = findHounsfield(found);
  }

  /** @param {number} number from foot to head */
  async page(number) {
    const { shape, turned, spacing, slope, intercept } = this.header;
    const { voxels } = this;
    const darkest = /** @type {number} */ (this.darkest);
    const [right, front] = [0, 1].map((goal) => turned.findIndex(([own]) => own === goal));
    const steps = [1, shape[0], shape[0] * shape[1]];
    const [height, width] = [shape[front], shape[right]];
    const values = new Float64Array(height * width);
    const plane = (turned[this.axis][1] > 0 ? number : this.length - 1 - number) * steps[this.axis];
    for (let y = 0; y < height; y++) {
      const row = (turned[front][1] > 0 ? height - 1 - y : y) * steps[front];
      for (let x = 0; x < width; x++) {
        const column = (turned[right][1] > 0 ? width - 1 - x : x) * steps[right];
        const value = Number(voxels[plane + row + column]) * slope + intercept;
        values[y * width + x] = Number.isFinite(value) ? value : darkest;
      }
    }
    const one = measured({ data: compact(values), height, width }, { hounsfield: this.hounsfield ?? null, plane: "axial" });
    return layOut(one, null, spacing);
  }
}

/**
 * The voxels as an array; they are copied where they lie askew or are big endian.
 * @param {Uint8Array} bytes @param {number} start @param {number} length @param {Header} header
 */
function view(bytes, start, length, { kind: Kind, size, isLittle }) {
  if (isLittle && (bytes.byteOffset + start) % size === 0) return new Kind(bytes.buffer, bytes.byteOffset + start, length);
  const copy = bytes.slice(start, start + length * size);
  if (!isLittle) for (let at = 0; at < copy.length; at += size) copy.subarray(at, at + size).reverse();
  return new Kind(copy.buffer);
}

/**
 * Unpack what the header announces, and not a byte of a bomb.
 * @param {Uint8Array} bytes
 * @returns {Promise<{header: Header, bytes: Uint8Array}>}
 */
export async function readVolume(bytes) {
  try {
    if (!isGzip(bytes)) return { header: readHeader(bytes), bytes };
    return await unpack(bytes);
  } catch (error) {
    throw error instanceof UnreadableImage ? error : new UnreadableImage(DAMAGED);
  }
}

/** @param {Uint8Array} packed */
async function unpack(packed) {
  const blob = new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (packed)]);
  const reader = blob.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  /** @type {Header | null} */
  let header = null;
  let whole = new Uint8Array(1 << 16);
  let [size, wanted] = [0, 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (size + value.length > whole.length) {
      const room = header ? Math.min(wanted + SLACK + 1, 2 * (size + value.length)) : 2 * (size + value.length);
      const larger = new Uint8Array(Math.max(room, size + value.length));
      larger.set(whole.subarray(0, size));
      whole = larger;
    }
    whole.set(value, size);
    size += value.length;
    if (!header && size >= 544) {
      header = readHeader(whole.subarray(0, size));
      const voxels = header.shape[0] * header.shape[1] * header.shape[2] * header.volumes * header.size;
      if (voxels > Math.max(FREE_BYTES, MAX_RATIO * packed.length)) {
        const announced = `unpacks to ${count(Math.floor(voxels / 2 ** 20))} MiB`;
        throw new UnreadableImage(`${announced}, which is too much for a file of its size; unpack it first.`);
      }
      wanted = header.offset + voxels;
    }
    if (header && size > wanted + SLACK) {
      await reader.cancel();
      throw new UnreadableImage("holds more than its header announces; convert the volume again.");
    }
  }
  return { header: header ?? readHeader(whole.subarray(0, size)), bytes: whole.subarray(0, size) };
}

/** @param {Uint8Array} bytes @returns {Header} */
function readHeader(bytes) {
  const version = findVersion(bytes);
  if (version === null) {
    throw new UnreadableImage("is gzip, but holds no NIfTI volume; unpack it, or convert the scan to .nii.gz.");
  }
  if (String.fromCharCode(...bytes.subarray(version === 1 ? 344 : 4, version === 1 ? 347 : 7)).startsWith("ni")) {
    throw new UnreadableImage("is a NIfTI header whose voxels lie in another file; convert both to one .nii.gz.");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isLittle = bytes[0] !== 0;
  const isFirst = version === 1;
  const long = (/** @type {number} */ at) => Number(view.getBigInt64(at, isLittle));
  const real = (/** @type {number} */ first, /** @type {number} */ second) =>
    isFirst ? view.getFloat32(first, isLittle) : view.getFloat64(second, isLittle);
  const dimensions = Array.from({ length: 8 }, (_, k) => (isFirst ? view.getInt16(40 + 2 * k, isLittle) : long(16 + 8 * k)));
  const zooms = Array.from({ length: 8 }, (_, k) => real(76 + 4 * k, 104 + 8 * k));
  const kind = view.getInt16(isFirst ? 70 : 12, isLittle);
  const sides = dimensions.slice(1, 1 + Math.max(0, Math.min(7, dimensions[0])));
  if (dimensions[0] > 7) throw new Error("too many axes");
  if (!sides.length || Math.min(...sides) < 1) throw new UnreadableImage("holds no slices; convert the volume again.");
  const [x, y, z] = [...sides.slice(0, 3), 1, 1];
  for (const [a, b] of [[x, y], [x, z], [y, z]]) checkSize(a, b);
  checkPages(1, x * y * z);
  const volumes = sides.slice(3).reduce((product, side) => product * side, 1);
  if (COLOURS.includes(kind)) {
    throw new UnreadableImage("holds colours or complex numbers, not one value a voxel; convert it to float32.");
  }
  const Kind = KINDS[kind];
  if (!Kind) throw new Error("an unknown kind of voxel");
  const offset = isFirst ? Math.trunc(view.getFloat32(108, isLittle)) : long(168);
  const start = isFirst ? HEADER_SIZE : 544;
  if (!(offset >= start && offset <= start + (1 << 24))) {
    throw new UnreadableImage("says that its voxels start where they cannot; convert the volume again.");
  }
  let [slope, intercept] = [real(112, 176), real(116, 184)];
  if (!Number.isFinite(slope) || slope === 0) [slope, intercept] = [1, 0];
  else if (!Number.isFinite(intercept)) throw new Error("a slope without an intercept");
  const codes = [view[isFirst ? "getInt16" : "getInt32"](isFirst ? 252 : 344, isLittle)];
  codes.push(view[isFirst ? "getInt16" : "getInt32"](isFirst ? 254 : 348, isLittle));
  const affine = findAffine(view, isLittle, isFirst, codes, [x, y, z], zooms, real);
  const turned = findOrientation(affine);
  const found = turned.map(([goal], axis) => ({ goal, side: zooms[axis + 1] }));
  const sideOf = (/** @type {number} */ goal) => found.slice(0, sides.length).find((one) => one.goal === goal)?.side ?? NaN;
  const [tall, wide] = [sideOf(1), sideOf(0)];
  const isKnown = [tall, wide].every((side) => Number.isFinite(side) && side > 0);
  return {
    shape: [x, y, z], volumes, kind: Kind, size: Kind.BYTES_PER_ELEMENT, isLittle, offset, slope, intercept, affine, turned,
    hasPlace: codes.some((code) => code !== 0),
    spacing: isKnown ? [tall, wide] : null,
  };
}

/**
 * nibabel's best affine: sform, else qform, else the centre of the voxels with x to the left.
 * @param {DataView} view @param {boolean} isLittle @param {boolean} isFirst @param {number[]} codes of qform and sform
 * @param {number[]} shape @param {number[]} zooms @param {(first: number, second: number) => number} real
 * @returns {Matrix}
 */
function findAffine(view, isLittle, isFirst, codes, shape, zooms, real) {
  const [byQuaternion, bySform] = codes;
  if (bySform !== 0) {
    return [0, 1, 2].map((row) => [0, 1, 2, 3].map((column) => real(280 + 16 * row + 4 * column, 400 + 32 * row + 8 * column)));
  }
  if (byQuaternion !== 0) {
    const [b, c, d] = [0, 1, 2].map((k) => real(256 + 4 * k, 352 + 8 * k));
    const rest = 1 - (b * b + c * c + d * d);
    if (!(rest > -3 * 1.1920929e-7)) throw new Error("no rotation");
    const a = Math.sqrt(Math.max(0, rest));
    const factor = zooms[0];
    if (Math.abs(factor) !== 1) throw new Error("no handedness");
    const lengths = [zooms[1], zooms[2], zooms[3] * factor];
    const turn = [
      [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
      [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
      [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    return turn.map((row, k) => [...row.map((one, axis) => one * lengths[axis]), real(268 + 4 * k, 376 + 8 * k)]);
  }
  const lengths = [-zooms[1], zooms[2], zooms[3]];
  return lengths.map((length, axis) => [0, 1, 2].map((k) => (k === axis ? length : 0)).concat((-(shape[axis] - 1) / 2) * length));
}

/**
 * For each axis of the voxels the closest axis of the patient, as nibabel's io_orientation: of the closest rotation.
 * @param {Matrix} affine
 * @returns {[number, number][]}
 */
function findOrientation(affine) {
  if (affine.flat().some((one) => !Number.isFinite(one))) {
    throw new UnreadableImage("has an orientation that is no number; convert the volume again.");
  }
  const lengths = [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]) || 1);
  let turn = [0, 1, 2].map((row) => [0, 1, 2].map((axis) => affine[row][axis] / lengths[axis]));
  if (Math.abs(determinant(turn)) < 1e-12) {
    throw new UnreadableImage("has an orientation that is flat; convert the volume again.");
  }
  for (let step = 0; step < 50; step++) {
    const other = invertTransposed(turn);
    turn = turn.map((row, i) => row.map((one, j) => (one + other[i][j]) / 2)); // Newton's way to the polar factor
  }
  /** @type {[number, number][]} */
  const found = [[0, 1], [0, 1], [0, 1]];
  const order = [0, 1, 2].sort((a, b) => largest(turn, b) - largest(turn, a) || a - b);
  const left = turn.map((row) => [...row]);
  for (const axis of order) {
    const sizes = left.map((row) => Math.abs(row[axis]));
    const goal = sizes.indexOf(Math.max(...sizes));
    found[axis] = [goal, turn[goal][axis] < 0 ? -1 : 1];
    left[goal].fill(0);
  }
  return found;
}

/** @param {Matrix} m @param {number} axis */
const largest = (m, axis) => Math.max(...m.map((row) => Math.abs(row[axis])));
/** @param {Matrix} m */
const determinant = (m) =>
  m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
  m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
  m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
/** @param {Matrix} m */
function invertTransposed(m) {
  const whole = determinant(m);
  return [0, 1, 2].map((i) =>
    [0, 1, 2].map((j) => {
      const [a, b] = [(i + 1) % 3, (i + 2) % 3];
      const [c, d] = [(j + 1) % 3, (j + 2) % 3];
      return (m[a][c] * m[b][d] - m[a][d] * m[b][c]) / whole;
    }),
  );
}
