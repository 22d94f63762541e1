// Shapes in a small binary picture: the port of stroke_hub/io/morphology.py.

/** @typedef {import("./pillow.js").Picture<Uint8Array>} Mask  1 inside, 0 outside */

const UNIT = 1 << 16;
const STRAIGHT = Math.round(0.955 * UNIT);
const DIAGONAL = Math.round(1.3693 * UNIT);
const FAR = 1 << 30;

/**
 * Find the threshold that separates grey levels best (Otsu, 1979).
 * @param {Uint8Array} pixels
 */
export function findOtsu(pixels) {
  const counts = new Float64Array(256);
  for (const pixel of pixels) counts[pixel]++;
  const below = new Float64Array(256);
  const moment = new Float64Array(256);
  let share = 0;
  let sum = 0;
  for (let level = 0; level < 256; level++) {
    share += counts[level] / pixels.length;
    sum += (counts[level] / pixels.length) * level;
    below[level] = share;
    moment[level] = sum;
  }
  let best = 0;
  let most = 0;
  for (let level = 0; level < 256; level++) {
    const above = 1 - below[level];
    if (Math.min(below[level], above) < 1e-7) continue;
    const between = moment[255] * below[level] - moment[level];
    const variance = (between * between) / (below[level] * above);
    if (Number.isFinite(variance) && variance > most) [best, most] = [level, variance];
  }
  return best;
}

/** Close gaps that a disc of 5 x 5 pixels does not fit into. @param {Mask} bright @returns {Mask} */
export function closeGaps(bright) {
  return invert(dilate(invert(dilate(bright))));
}

/** Fill what the background does not reach by its four sides. @param {Mask} bright @returns {Mask} */
export function fillHoles(bright) {
  const first = bright.data[0];
  const background = { ...bright, data: bright.data.map((one) => (one === first ? 1 : 0)) };
  const labels = labelParts(background, false).data;
  const outside = labels[0];
  return { ...bright, data: bright.data.map((one, at) => (one || labels[at] !== outside ? 1 : 0)) };
}

/**
 * Measure how far each pixel is from the nearest one outside, by the 3 x 3 chamfer metric (Borgefors, 1986).
 * @param {Mask} mask
 * @returns {import("./pillow.js").Picture<Float32Array>}
 */
export function measureDistance(mask) {
  const { data, height, width } = mask;
  const wide = width + 2; // a frame that is never nearest saves the tests at the edges
  const far = new Int32Array(wide * (height + 2)).fill(FAR);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) if (!data[y * width + x]) far[(y + 1) * wide + x + 1] = 0;
  }
  const passes = [
    [wide + 1, wide * (height + 1) - 1, 1],
    [wide * (height + 1) - 2, wide, -1],
  ];
  for (const [first, last, step] of passes) {
    for (let at = first; at !== last; at += step) {
      const x = at % wide;
      if (x === 0 || x === wide - 1) continue;
      const back = at - step * wide;
      const near = Math.min(far[at - step], far[back]) + STRAIGHT;
      const aslant = Math.min(far[back - 1], far[back + 1]) + DIAGONAL;
      far[at] = Math.min(far[at], near, aslant);
    }
  }
  const out = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) out[y * width + x] = Math.fround(far[(y + 1) * wide + x + 1]) * (1 / UNIT);
  }
  return { data: out, height, width };
}

/**
 * Number the connected parts of a mask in the order of their first pixels, from 1; 0 is outside.
 * @param {Mask} mask @param {boolean} [diagonal]
 */
export function labelParts(mask, diagonal = true) {
  const { data, height, width } = mask;
  const labels = new Int32Array(data.length);
  const stack = new Int32Array(data.length);
  let count = 0;
  for (let start = 0; start < data.length; start++) {
    if (!data[start] || labels[start]) continue;
    labels[start] = ++count;
    let top = 0;
    stack[top++] = start;
    while (top) {
      const at = stack[--top];
      const y = Math.floor(at / width);
      const x = at - y * width;
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          if ((!dy && !dx) || (!diagonal && dy && dx)) continue;
          if (y + dy < 0 || y + dy >= height || x + dx < 0 || x + dx >= width) continue;
          const next = at + dy * width + dx;
          if (!data[next] || labels[next]) continue;
          labels[next] = count;
          stack[top++] = next;
        }
      }
    }
  }
  return { data: labels, count };
}

/** @param {Mask} mask @returns {Mask} */
function invert(mask) {
  return { ...mask, data: mask.data.map((one) => (one ? 0 : 1)) };
}

/** Widen by OpenCV's ellipse of 5 x 5: three rows of five, and one pixel above and below them. @param {Mask} mask @returns {Mask} */
function dilate(mask) {
  const { data, height, width } = mask;
  const across = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0, last = -3; x < width + 2; x++) {
      if (x < width && data[y * width + x]) last = x;
      if (x >= 2 && x - last <= 4) across[y * width + x - 2] = 1;
    }
  }
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      let found = across[at];
      if (y > 0) found |= across[at - width];
      if (y < height - 1) found |= across[at + width];
      if (y > 1) found |= data[at - 2 * width];
      if (y < height - 2) found |= data[at + 2 * width];
      out[at] = found;
    }
  }
  return { data: out, height, width };
}
