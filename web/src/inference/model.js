// The exported model: one graph gives prediction and maps; onnxruntime runs it.

import * as ort from "onnxruntime-web/wasm";
import { frameSlice, lift } from "../io/sight.js";
import {
  findBaseline,
  fromLogOdds,
  getShown,
  judgeDistance,
  label,
  listRemarks,
  measureOutside,
  spreadSums,
  toProbability,
  upsample,
} from "./results.js";

/** @typedef {import("./results.js").Settings} Settings */

const VERSION = 4;
const PREDICTED = ["logits", "distance"];
const EXPLAINED = [...PREDICTED, "log_odds", "cnn_map", "vit_map", "cnn_evidence", "vit_evidence", "contributions"];

export class Model {
  /** @param {ort.InferenceSession} session @param {Settings} settings */
  constructor(session, settings) {
    this.session = session;
    this.settings = settings;
  }

  /**
   * Read a graph.
   * @param {Uint8Array} graph @param {Settings} settings of its metadata
   * @param {{glue: string, binary: Uint8Array, threads: number}} runtime onnxruntime's two files
   */
  static async load(graph, settings, { glue, binary, threads }) {
    if (settings.format_version !== VERSION || !settings.explains || settings.rendering !== "canonical") {
      throw new Error("The model was exported by another version of stroke_hub; export it again.");
    }
    ort.env.wasm.wasmPaths = { mjs: glue };
    ort.env.wasm.wasmBinary = /** @type {any} */ (binary.buffer);
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    const model = new Model(session, settings);
    await model.run(new Uint8Array(settings.image_size ** 2), null, EXPLAINED); // the first run takes many times as long
    return model;
  }

  /** @param {Uint8Array} square @param {string | null} modality @param {string[]} names */
  async run(square, modality, names) {
    const { settings, session } = this;
    const size = settings.image_size;
    const found = await session.run(
      {
        pixels: new ort.Tensor("uint8", square, [1, size, size]),
        sign: new ort.Tensor("float32", [1], [1]),
        rows: new ort.Tensor("int64", [BigInt(findBaseline(settings, modality))], [1]),
      },
      names,
    );
    return Object.fromEntries(names.map((name) => [name, /** @type {Float32Array} */ (found[name].data)]));
  }

  /**
   * Predict of one slice, for a scan.
   * @param {import("../io/rendering.js").Measured} one @param {import("../io/windowing.js").Modality | null} modality
   */
  async predict(one, modality) {
    const framed = frameSlice(this.settings, one, modality);
    const { logits, distance } = await this.run(framed.square, framed.modality, PREDICTED);
    const { temperature, distance_limit: limit } = this.settings;
    return {
      probability: toProbability(logits, temperature),
      logOdds: (logits[1] - logits[0]) / temperature,
      distance: distance[0],
      unusual: judgeDistance(distance[0], limit, framed.square).unusual,
      remarks: framed.remarks,
    };
  }

  /**
   * Explain one slice: its answer, and its maps lifted to its own pixels.
   * @param {import("../io/rendering.js").Measured} one @param {import("../io/windowing.js").Modality | null} modality
   */
  async explain(one, modality) {
    const { settings } = this;
    const framed = frameSlice(settings, one, modality);
    const found = await this.run(framed.square, framed.modality, EXPLAINED);
    const size = settings.image_size;
    const evidence = [spreadSums(found.cnn_evidence, size), spreadSums(found.vit_evidence, size)];
    const maps = {
      cnn: upsample(found.cnn_map, size),
      vit: upsample(found.vit_map.map((cell) => Math.max(cell, 0)), size),
      fused: evidence[0].map((share, at) => share + evidence[1][at]),
    };
    const { shown, head } = framed;
    const { height, width } = shown.grey;
    const distance = found.distance[0];
    const { unusual, sentence } = judgeDistance(distance, settings.distance_limit, framed.square);
    const logOdds = found.log_odds[0];
    const [cnn, vit, rest] = found.contributions;
    return {
      width,
      height,
      values: shown.values,
      unit: shown.unit,
      window: { center: (shown.low + shown.high) / 2, width: shown.high - shown.low },
      left: one.plane === "axial" || one.plane === "coronal" ? "R" : null,
      maps: {
        cnn: lift(framed, getShown(maps.cnn, head)),
        vit: lift(framed, getShown(maps.vit, head)),
        fused: lift(framed, getShown(maps.fused, head)),
      },
      probability: fromLogOdds(logOdds),
      label: label(toProbability(found.logits, settings.temperature), settings.threshold),
      log_odds: logOdds,
      contributions: { baseline: rest, cnn, vit },
      baseline: settings.baselines[findBaseline(settings, framed.modality)],
      unusual,
      distance,
      outside: measureOutside(maps.fused, head),
      outsides: { cnn: measureOutside(maps.cnn, head), vit: measureOutside(maps.vit, head) },
      spacing: one.spacing,
      notices: sentence ? [...framed.remarks, sentence] : framed.remarks,
      remarks: listRemarks(maps, head, framed.remarks, sentence),
      modality: framed.modality,
      square: framed.square,
    };
  }
}
