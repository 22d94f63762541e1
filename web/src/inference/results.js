// From the graph's outputs to an answer: the port of stroke_hub/inference/results.py.

import { pluralise } from "../io/errors.js";
import { roundEven } from "../io/pillow.js";

export const CLASSES = ["Normal", "Stroke"];
const OUTSIDE = 0.25;
const BLANK = 16;

/**
 * What export wrote into the graph's metadata.
 * @typedef {import("../io/sight.js").Sight & {
 *   format_version: number, weights_sha256: string, temperature: number, threshold: number,
 *   distance_limit: number | null, baselines: string[], explains: boolean,
 *   scan_rule: Partial<import("./highest_mean.js").Rule> | null}} Settings
 */

/** The calibrated probability of Stroke. @param {ArrayLike<number>} logits @param {number} temperature */
export function toProbability(logits, temperature) {
  return 1 / (1 + Math.exp((logits[0] - logits[1]) / temperature));
}

/** The probability of log-odds, without overflow. @param {number} logOdds */
export function fromLogOdds(logOdds) {
  return logOdds >= 0 ? 1 / (1 + Math.exp(-logOdds)) : Math.exp(logOdds) / (1 + Math.exp(logOdds));
}

/** @param {number} probability @param {number} threshold */
export const label = (probability, threshold) => CLASSES[probability >= threshold ? 1 : 0];

/**
 * Whether a slice is unlike the training slices, and the sentence that says so.
 * @param {number} distance @param {number | null} limit @param {Uint8Array} square
 */
export function judgeDistance(distance, limit, square) {
  if (limit === null) return { unusual: false, sentence: "" };
  let low = 255;
  let high = 0;
  for (let at = 0; at < square.length; at++) {
    low = Math.min(low, square[at]);
    high = Math.max(high, square[at]);
  }
  if (distance > limit) {
    const sentence =
      `unlike the training slices (distance ${distance.toFixed(2)}, limit ${limit.toFixed(2)}): how good answers are was not ` +
      "measured on slices like it";
    return { unusual: true, sentence };
  }
  const blank = high - low < BLANK;
  return { unusual: blank, sentence: blank ? "a blank picture: there is nothing in it that could be judged" : "" };
}

/** The number of a slice's baseline: its modality's, or the last. @param {Settings} settings @param {string | null} modality */
export function findBaseline(settings, modality) {
  const last = settings.baselines.length - 1;
  const own = settings.modalities.indexOf(/** @type {any} */ (modality));
  return last > 0 && own >= 0 ? own : last;
}

/**
 * Upsample a grid, bilinear between the centres of its cells, in float32 as numpy does.
 * @param {Float32Array} grid square @param {number} size
 */
export function upsample(grid, size) {
  const cells = Math.round(Math.sqrt(grid.length));
  const { fround } = Math;
  const places = Array.from({ length: size }, (_, at) => {
    const position = Math.min(cells - 1, Math.max(0, (at + 0.5) * (cells / size) - 0.5));
    const low = Math.trunc(position);
    const share = fround(position - low);
    return { low, high: Math.min(low + 1, cells - 1), share, rest: fround(1 - share) };
  });
  const half = new Float32Array(size * cells);
  places.forEach(({ low, high, share, rest }, row) => {
    for (let x = 0; x < cells; x++) {
      half[row * cells + x] = fround(grid[low * cells + x] * rest) + fround(grid[high * cells + x] * share);
    }
  });
  const out = new Float32Array(size * size);
  for (let row = 0; row < size; row++) {
    places.forEach(({ low, high, share, rest }, column) => {
      out[row * size + column] = fround(half[row * cells + low] * rest) + fround(half[row * cells + high] * share);
    });
  }
  return out;
}

/**
 * Spread a grid of sums into a density with the same sum.
 * @param {Float32Array} grid square @param {number} size
 */
export function spreadSums(grid, size) {
  const cells = Math.round(Math.sqrt(grid.length));
  if (size % cells === 0) {
    const area = (size / cells) ** 2;
    return upsample(grid, size).map((one) => one / area);
  }
  const place = Array.from({ length: size }, (_, at) => Math.floor((at * cells) / size));
  const lengths = new Array(cells).fill(0);
  for (const cell of place) lengths[cell]++;
  const out = new Float32Array(size * size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      out[y * size + x] = grid[place[y] * cells + place[x]] / (lengths[place[y]] * lengths[place[x]]);
    }
  }
  return out;
}

/** The map that is drawn: 0 beside the head. @param {Float32Array} map @param {Uint8Array} head */
export function getShown(map, head) {
  const shown = map.slice();
  for (let at = 0; at < shown.length; at++) if (!head[at]) shown[at] = 0;
  return shown;
}

/** The share of a map's absolute values that lies beside the head. @param {Float32Array} map @param {Uint8Array} head */
export function measureOutside(map, head) {
  let total = 0;
  let beside = 0;
  for (let at = 0; at < map.length; at++) {
    const size = Math.abs(map[at]);
    total += size;
    if (!head[at]) beside += size;
  }
  return total > 0 ? beside / total : 0;
}

/**
 * What a reader must not miss: of the picture, then a slice unlike the training slices, empty maps.
 * @param {Record<"cnn" | "vit" | "fused", Float32Array>} maps @param {Uint8Array} head
 * @param {string[]} ofPicture @param {string} ofDistance
 */
export function listRemarks(maps, head, ofPicture, ofDistance) {
  const names = { cnn: "Grad-CAM of the CNN", vit: "relevance of the ViT", fused: "fused map" };
  const layers = /** @type {("cnn" | "vit" | "fused")[]} */ (Object.keys(names));
  const empty = layers.filter((layer) => !maps[layer].some((one) => one > 0));
  const told = layers
    .map((layer) => ({ layer, share: measureOutside(maps[layer], head) }))
    .filter(({ share }) => share >= OUTSIDE)
    .map(({ layer, share }) => `${roundEven(share * 100)}% of the ${names[layer]}`);
  return [
    ...ofPicture,
    ...(ofDistance ? [ofDistance] : []),
    ...empty.map((layer) => `${names[layer]}: no positive evidence for Stroke`),
    ...(told.length ? [`beside the head, and not drawn: ${told.join(", ")}`] : []),
  ];
}

const NO_HEAD = "The scan does not look like a head: most of its slices are unlike the training slices.";
const MOST = 0.5;

/**
 * What the reader of a scan's answer must know of its slices.
 * @param {{unusual: boolean, remarks: string[]}[]} slices
 */
export function describeSlices(slices) {
  const told = [];
  const unusual = slices.filter((one) => one.unusual).length;
  if (unusual > MOST * slices.length) told.push(NO_HEAD);
  if (unusual) told.push(`Unlike the training slices: ${unusual} of ${pluralise(slices.length, "slice")}.`);
  /** @type {Map<string, number>} */
  const often = new Map();
  for (const { remarks } of slices) {
    for (const sentence of new Set(remarks)) often.set(sentence, (often.get(sentence) ?? 0) + 1);
  }
  for (const [sentence, times] of often) if (times > MOST * slices.length) told.push(`Of most slices: ${sentence}`);
  return told;
}
