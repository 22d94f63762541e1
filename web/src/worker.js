// The worker: it holds the model and the scan, so that the page stays responsive. Nothing leaves it but answers.

import { preload } from "./io/codecs.js";
import { UnreadableImage } from "./io/errors.js";
import { DEFAULT, describeRule, judge, rank } from "./inference/highest_mean.js";
import { Model } from "./inference/model.js";
import { readSettings } from "./inference/graph.js";
import { describeSlices, fromLogOdds, label } from "./inference/results.js";
import { loadScan } from "./scan/scan.js";

/** @typedef {(done: number, all: number, what: string) => void} Progress */

/** @type {Model | null} */
let model = null;
/** @type {import("./scan/scan.js").Scan | null} */
let scan = null;

const calls = {
  /**
   * Load the model.
   * @param {{threads: number}} options @param {Progress} progress
   */
  async load({ threads }, progress) {
    /** @type {Record<string, {bytes: number, sha256: string}>} */
    const files = await (await fetch(locate("files.json"))).json();
    const wanted = ["ort-wasm-simd-threaded.wasm", "model/model.onnx"];
    const all = wanted.reduce((sum, name) => sum + files[name].bytes, 0);
    let done = 0;
    const count = (/** @type {number} */ bytes) => progress((done += bytes), all, "downloading");
    const [binary, graph] = await Promise.all(wanted.map((name) => fetchBytes(name, files[name], count)));
    const settings = readSettings(graph);
    progress(all, all, "starting");
    model = await Model.load(graph, settings, { glue: locate("ort-wasm-simd-threaded.mjs"), binary, threads });
    await preload();
    return { modalities: settings.modalities, threshold: settings.threshold, weights: settings.weights_sha256 };
  },

  /**
   * Open the files that were chosen as one scan.
   * @param {{files: File[], modality: import("./io/windowing.js").Modality | null}} given @param {Progress} progress
   */
  async open({ files, modality }, progress) {
    const sources = files.map((file) => ({ name: file.name, read: async () => new Uint8Array(await file.arrayBuffer()) }));
    scan = null;
    const loaded = await loadScan(sources, { modality, progress: (done, all) => progress(done, all, "reading headers") });
    scan = loaded;
    const { series } = loaded;
    const one = await loaded.slice(0);
    return {
      name: loaded.name,
      slices: loaded.length,
      modality: loaded.modality,
      spacing: one.spacing === null ? series.spacing : [one.spacing, one.spacing],
      positions: series.positions,
      remarks: loaded.remarks,
    };
  },

  /** Explain a slice. @param {{index: number}} asked */
  async answer({ index }) {
    const { model, scan } = ready();
    return model.explain(await scan.slice(index), scan.modality);
  },

  /** Judge the whole scan. @param {object} _ @param {Progress} progress */
  async scan(_, progress) {
    const { model, scan } = ready();
    const slices = [];
    for (let index = 0; index < scan.length; index++) {
      progress(index, scan.length, "predicting");
      slices.push(await model.predict(await scan.slice(index), scan.modality));
    }
    const { settings } = model;
    const rule = { ...DEFAULT, ...(settings.scan_rule ?? { threshold: settings.threshold }) };
    const words = describeRule(rule);
    const judged = judge(rule, slices.map((one) => one.logOdds));
    const probability = fromLogOdds(judged.logOdds);
    const told = settings.scan_rule
      ? `The scan is judged by ${words}, as chosen on validation scans.`
      : `This model stores no scan rule, so the default was taken: ${words}, not calibrated for scans.`;
    return {
      probability,
      label: label(probability, rule.threshold),
      log_odds: judged.logOdds,
      threshold: rule.threshold,
      rule: words,
      weights: judged.weights,
      ranked: rank(slices.map((one) => one.logOdds)),
      slices: slices.map((one) => one.probability),
      labels: slices.map((one) => label(one.probability, settings.threshold)),
      unusual: slices.map((one) => one.unusual),
      remarks: [...scan.remarks, ...describeSlices(slices), told],
    };
  },
};

function ready() {
  if (!model) throw new UnreadableImage("The model is not loaded yet; wait a moment.");
  if (!scan) throw new UnreadableImage("No scan is open; choose a file first.");
  return { model, scan };
}

/** @param {string} name of a file of the page */
const locate = (name) => new URL(name, import.meta.url).href;

/**
 * Fetch a file of the page, and check that it is whole.
 * @param {string} name @param {{bytes: number, sha256: string}} expected @param {(bytes: number) => void} count
 */
async function fetchBytes(name, expected, count) {
  const response = await fetch(locate(name));
  if (!response.ok || !response.body) throw new Error("The model could not be loaded; load the page again.");
  const whole = new Uint8Array(expected.bytes);
  const reader = response.body.getReader();
  for (let at = 0; ; ) {
    const { done, value } = await reader.read();
    if (done || at + value.length > whole.length) break;
    whole.set(value, at);
    at += value.length;
    count(value.length);
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected.sha256) throw new Error("The model was not downloaded whole; load the page again.");
  return whole;
}

/** One call after another: a slice that is asked for while a scan is predicted waits. */
let queue = Promise.resolve();

self.onmessage = ({ data: { id, call, args } }) => {
  const post = (/** @type {object} */ message, /** @type {Transferable[]} */ moved = []) =>
    /** @type {any} */ (self).postMessage({ id, ...message }, moved);
  queue = queue.then(async () => {
    try {
      const result = await /** @type {any} */ (calls)[call](args, (/** @type {number} */ done, /** @type {number} */ all, /** @type {string} */ what) =>
        post({ progress: { done, all, what } }),
      );
      post({ result }, Object.values(result.maps ?? {}).map((map) => /** @type {Float32Array} */ (map).buffer));
    } catch (error) {
      post({ error: tell(error) });
    }
  });
};

/** One sentence; what a library says of its inside is not passed on. @param {unknown} error */
function tell(error) {
  if (error instanceof UnreadableImage) return error.message;
  const isMemory = error instanceof RangeError || /memory/i.test(String(error));
  if (isMemory) return "This device has too little memory for the file; open a smaller scan, or use another device.";
  return error instanceof Error && /^The model .*\.$/.test(error.message) ? error.message : "Something went wrong in this page; load it again.";
}
