// Pillow's resampling, to the bit: the model was trained on pictures that Pillow made.

/** @typedef {Uint8Array | Int16Array | Float32Array} Values */
/**
 * A picture, row by row.
 * @template {Values} [T=Values]
 * @typedef {{data: T, height: number, width: number}} Picture
 */

const PRECISION = 22; // bits of a weight; Pillow's PRECISION_BITS for 8-bit pixels

const ROUNDER = 1.5 * 2 ** 52; // beyond it a float64 has no digits behind the point: adding it rounds

/**
 * Round as Python and numpy do: halves to the even number.
 * @param {number} value between -2^51 and 2^51
 */
export function roundEven(value) {
  return value + ROUNDER - ROUNDER;
}

/**
 * Weigh the pixels that each new pixel is made of: a triangle, wider when shrinking.
 * @param {number} before @param {number} after
 */
function weigh(before, after) {
  const scale = before / after;
  const support = Math.max(scale, 1);
  const size = Math.ceil(support) * 2 + 1;
  const weights = new Float64Array(after * size);
  const starts = new Int32Array(after);
  const counts = new Int32Array(after);
  const inverse = 1 / support;
  for (let place = 0; place < after; place++) {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(before, Math.trunc(center + support + 0.5));
    let sum = 0;
    for (let k = 0; k < last - first; k++) {
      const distance = Math.abs((k + first - center + 0.5) * inverse);
      const weight = distance < 1 ? 1 - distance : 0;
      weights[place * size + k] = weight;
      sum += weight;
    }
    if (sum !== 0) for (let k = 0; k < last - first; k++) weights[place * size + k] /= sum;
    starts[place] = first;
    counts[place] = last - first;
  }
  return { size, weights, starts, counts };
}

/**
 * Resize, bilinear, antialiased when shrinking: Image.resize of the modes L (uint8) and F (float32).
 * @template {Uint8Array | Float32Array} T
 * @param {Picture<T>} picture @param {number} height @param {number} width
 * @returns {Picture<T>}
 */
export function resize(picture, height, width) {
  let now = picture;
  if (width !== now.width) now = resample(now, width, true);
  if (height !== now.height) now = resample(now, height, false);
  return now === picture ? { ...picture, data: /** @type {T} */ (picture.data.slice()) } : now;
}

/**
 * @template {Uint8Array | Float32Array} T
 * @param {Picture<T>} picture @param {number} after @param {boolean} across
 * @returns {Picture<T>}
 */
function resample(picture, after, across) {
  const { data, height, width } = picture;
  const taps = weigh(across ? width : height, after);
  const shape = across ? { height, width: after } : { height: after, width };
  const out = data instanceof Uint8Array ? new Uint8Array(shape.height * shape.width) : new Float32Array(shape.height * shape.width);
  if (data instanceof Uint8Array) sumWhole(data, width, taps, across, /** @type {Uint8Array} */ (out), shape.width);
  else sumReal(data, width, taps, across, /** @type {Float32Array} */ (out), shape.width);
  return { data: /** @type {T} */ (out), ...shape };
}

// one loop for each type of values: a loop that sees both is three times as slow

/** @param {Uint8Array} data @param {number} width @param {ReturnType<typeof weigh>} taps @param {boolean} across @param {Uint8Array} out @param {number} columns */
function sumWhole(data, width, { size, weights, starts, counts }, across, out, columns) {
  const used = new Int32Array(weights.length);
  for (let k = 0; k < used.length; k++) used[k] = Math.trunc(weights[k] * (1 << PRECISION) + 0.5);
  const step = across ? 1 : width;
  for (let at = 0, row = 0; at < out.length; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const place = across ? column : row;
      const end = place * size + counts[place];
      let from = across ? row * width + starts[place] : starts[place] * width + column;
      let sum = 1 << (PRECISION - 1);
      for (let k = place * size; k < end; k++, from += step) sum += data[from] * used[k];
      out[at] = Math.min(255, Math.max(0, sum >> PRECISION));
    }
  }
}

/** @param {Float32Array} data @param {number} width @param {ReturnType<typeof weigh>} taps @param {boolean} across @param {Float32Array} out @param {number} columns */
function sumReal(data, width, { size, weights, starts, counts }, across, out, columns) {
  const sums = new Float64Array(columns);
  for (let start = 0, row = 0; start < out.length; start += columns, row++) {
    if (across) {
      for (let column = 0; column < columns; column++) {
        const from = row * width + starts[column];
        let sum = 0;
        for (let k = 0; k < counts[column]; k++) sum += data[from + k] * weights[column * size + k];
        sums[column] = sum;
      }
    } else {
      sums.fill(0);
      for (let k = 0; k < counts[row]; k++) {
        const from = (starts[row] + k) * width;
        const weight = weights[row * size + k];
        for (let column = 0; column < columns; column++) sums[column] += data[from + column] * weight;
      }
    }
    out.set(sums, start);
  }
}

/**
 * Shrink by a whole number: the mean of each block, as Image.reduce.
 * @param {Picture<Uint8Array>} picture @param {number} factor
 * @returns {Picture<Uint8Array>}
 */
export function reduce(picture, factor) {
  const { data, height, width } = picture;
  if (factor === 1) return { ...picture, data: data.slice() };
  const rows = Math.ceil(height / factor);
  const columns = Math.ceil(width / factor);
  const out = new Uint8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const bottom = Math.min(height, (row + 1) * factor);
    for (let column = 0; column < columns; column++) {
      const right = Math.min(width, (column + 1) * factor);
      const count = (bottom - row * factor) * (right - column * factor);
      let sum = count >> 1;
      for (let y = row * factor; y < bottom; y++) {
        for (let x = column * factor; x < right; x++) sum += data[y * width + x];
      }
      out[row * columns + column] = Math.floor((sum * Math.floor(2 ** 24 / count)) / 2 ** 24);
    }
  }
  return { data: out, height: rows, width: columns };
}

/**
 * Resize by taking the nearest pixel, as Image.resize does: it adds up the steps.
 * @param {Picture<Uint8Array>} picture @param {number} height @param {number} width
 * @returns {Picture<Uint8Array>}
 */
export function resizeNearest(picture, height, width) {
  const rows = listNearest(picture.height, height);
  const columns = listNearest(picture.width, width);
  const out = new Uint8Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) out[y * width + x] = picture.data[rows[y] * picture.width + columns[x]];
  }
  return { data: out, height, width };
}

/** @param {number} before @param {number} after */
function listNearest(before, after) {
  const step = before / after;
  const found = new Int32Array(after);
  let at = step * 0.5;
  for (let k = 0; k < after; k++) {
    found[k] = Math.min(before - 1, Math.trunc(at));
    at += step;
  }
  return found;
}

/**
 * Give what belongs to resampled pixels to those that they were made of; the sum is kept (geometry.undo_square).
 * @param {Picture<Float32Array>} values @param {number} rows @param {number} columns
 * @returns {Picture<Float32Array>}
 */
export function undoResize(values, rows, columns) {
  if (values.height === rows && values.width === columns) return values;
  const { height, width } = values;
  const down = weigh(rows, height);
  const right = weigh(columns, width);
  const half = new Float64Array(rows * width);
  for (let y = 0; y < height; y++) {
    for (let k = 0; k < down.counts[y]; k++) {
      const weight = down.weights[y * down.size + k];
      const row = (down.starts[y] + k) * width;
      for (let x = 0; x < width; x++) half[row + x] += weight * values.data[y * width + x];
    }
  }
  const out = new Float64Array(rows * columns);
  for (let x = 0; x < width; x++) {
    for (let k = 0; k < right.counts[x]; k++) {
      const weight = right.weights[x * right.size + k];
      const column = right.starts[x] + k;
      for (let y = 0; y < rows; y++) out[y * columns + column] += weight * half[y * width + x];
    }
  }
  return { data: Float32Array.from(out), height: rows, width: columns };
}
