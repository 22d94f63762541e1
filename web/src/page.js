// The page: files go to the worker, answers to the reading room, which the demo shows too. Nothing goes anywhere else.

import colormaps from "../../stroke_hub/inference/colormaps.json";
import { setTable } from "../../space/static/viewer/colours.js";
import { make } from "../../space/static/viewer/elements.js";
import { ReadingRoom } from "../../space/static/viewer/reading_room.js";
import { Engine } from "./engine.js";
import { EXAMPLE, pickKinds } from "./examples.js";
import { findObstacle, findWarning } from "./support.js";
import { sayBaseline, sayThreshold, writeSentences } from "./words.js";

const LEVELS = 127; // of a map on each side of zero: a picture shows no more
const MOST = 64; // slices whose maps are computed by themselves; those of others when somebody goes to them
const SAID = ["The scan does not look like a head", "Unlike the training slices:"]; // the headline says it

/** @template {HTMLElement} T @param {string} id */
const find = (id) => /** @type {T} */ (document.getElementById(id));
const input = /** @type {HTMLInputElement} */ (find("files"));
const modality = /** @type {HTMLSelectElement} */ (find("modality"));
const status = find("status");
const meter = /** @type {HTMLProgressElement} */ (find("meter"));

/** @type {Engine} */
let engine;
/** @type {any} the model's report */
let report = null;
let threshold = 0.5;
let turn = 0; // what was asked for before the last file was chosen is not shown any more
/** @type {File[]} */
let chosen = [];
let truth = "";
/** @type {Uint8Array | null} */
let outline = null;

const room = new ReadingRoom(find("room"), { need: (/** @type {number[]} */ indices) => give(indices, turn) });

/** Say what goes on. @param {string} words @param {{done: number, all: number} | null} [progress] @param {boolean} [isError] */
function say(words, progress = null, isError = false) {
  status.textContent = words;
  status.classList.toggle("error", isError);
  meter.hidden = progress === null;
  if (progress) [meter.value, meter.max] = [progress.done, Math.max(progress.all, 1)];
}

const follow = (/** @type {string} */ words) => (/** @type {import("./engine.js").Progress} */ progress) => say(words, progress);

async function start() {
  document.documentElement.dataset.state = "loading";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const dress = () => document.documentElement.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", dress);
  dress();
  setTable(Uint8Array.from(atob(colormaps.RdBu_r), (sign) => sign.charCodeAt(0)));
  const obstacle = findObstacle();
  if (obstacle) {
    say(obstacle, null, true);
    return;
  }
  find("warning").textContent = findWarning();
  try {
    const files = await (await fetch("files.json")).json();
    const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
    find("size").textContent = `${Math.round(bytes / 1e6)} MB`;
    engine = new Engine();
    const loaded = engine.load(follow("The model is being loaded."));
    await loadReport(files);
    ({ threshold } = await loaded);
    await showExamples(Object.keys(files));
  } catch (error) {
    say(/** @type {Error} */ (error).message, null, true);
    return;
  }
  input.disabled = false;
  say("Ready. Choose a file, or an example.");
  document.documentElement.dataset.state = "ready";
  keep();
}

/** Keep the page for the time without a network. */
async function keep() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    find("offline").textContent = "It is kept in this browser, and works without a network from now on.";
  } catch {
    // in a private window there may be none; the page works, with a network
  }
}

/** @param {Record<string, {bytes: number}>} files */
async function loadReport(files) {
  if ("model/report.json" in files) report = await (await fetch("model/report.json")).json();
  const note = report?.data?.note ?? "";
  if (!report) find("trained").textContent = "This model has no report. Nobody can say what it was trained on or how good it is.";
  else if (note.includes("simulated")) find("trained").textContent = "Trained on simulated slices: its answers say nothing about patients.";
}

/** The examples are fetched now, later nothing is; the model's answers name them. @param {string[]} files */
async function showExamples(files) {
  const fetchFile = async (/** @type {string} */ name) => new File([await (await fetch(name)).blob()], name.split("/").pop() ?? name);
  const found = await Promise.all(
    files.flatMap((name) => {
      const [, truth, kind] = EXAMPLE.exec(name) ?? [];
      if (!truth) return [];
      const mask = name.replace("examples/", "examples/masks/");
      const fetched = Promise.all([fetchFile(name), files.includes(mask) ? fetchFile(mask) : null]);
      return [fetched.then(([file, outline]) => ({ file, outline, isStroke: truth === "stroke", modality: /** @type {"BT" | "MR"} */ (kind) }))];
    }),
  );
  const buttons = [];
  for (const kind of /** @type {const} */ (["BT", "MR"])) {
    const own = found.filter((one) => one.modality === kind);
    const asked = [];
    for (const one of own) {
      await engine.open([one.file], { modality: kind });
      const { probability, label } = await engine.answer(0);
      asked.push({ probability, isStroke: one.isStroke, isCalled: label === "Stroke" });
    }
    for (const [name, at] of pickKinds(asked)) {
      const { file, outline, isStroke } = own[at];
      const given = async () => {
        modality.value = kind;
        read([file], isStroke ? "Stroke" : "Normal", outline ? await readMask(outline) : null);
      };
      const picture = make("img", { src: URL.createObjectURL(file), alt: "", width: 96, height: 96 });
      buttons.push(make("button", { type: "button", onclick: given }, picture, make("span", {}, `${kind === "BT" ? "CT" : "MR"}, ${name}`)));
    }
  }
  find("examples").replaceChildren(...buttons);
}

/** The pixels of a lesion mask, not 0 in the lesion. @param {File} file */
async function readMask(file) {
  const bitmap = await createImageBitmap(file);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d"));
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, at) => (data[4 * at] > 127 ? 1 : 0));
}

/** Read what was chosen, and show its answer. @param {File[]} files @param {string} [known] @param {Uint8Array | null} [mask] of an example */
async function read(files, known = "", mask = null) {
  if (!files.length) return;
  const mine = ++turn;
  [chosen, truth, outline] = [files, known, mask];
  room.close();
  document.documentElement.dataset.state = "reading";
  const isMine = () => mine === turn;
  const tell = (/** @type {string} */ words) => (/** @type {any} */ progress) => isMine() && say(words, progress);
  try {
    say("The file is being read.");
    const own = /** @type {"BT" | "MR" | null} */ (modality.value || null);
    const opened = await engine.open(files, { modality: own, progress: tell("The headers are being read.") });
    if (!isMine()) return;
    const only = opened.slices === 1 ? await engine.answer(0) : null;
    const study = only ? describeSlice(opened, only) : await readScan(opened, tell);
    if (!isMine()) return;
    room.open({ ...study, truth, upwards: opened.positions !== null, most: MOST, downloads: [] });
    say("");
    if (only) room.add(toSlice(0, only, opened.remarks));
    else await give([study.first], mine);
  } catch (error) {
    if (isMine()) say(/** @type {Error} */ (error).message, null, true);
  }
  if (isMine()) document.documentElement.dataset.state = "ready";
}

/** @param {import("./engine.js").Opened} opened @param {import("./engine.js").Answer} answer */
function describeSlice(opened, { probability, label, unusual, modality: known }) {
  const { point, details } = sayThreshold(report, threshold, known);
  return { title: opened.name, slices: [{ probability, label, unusual }], scan: null, threshold, first: 0, point, details, remarks: [] };
}

/** @param {import("./engine.js").Opened} opened @param {(words: string) => (progress: any) => void} tell */
async function readScan(opened, tell) {
  const answer = await engine.scan(tell("The slices are being judged."));
  const { point, details } = sayThreshold(report, threshold, opened.modality);
  const remarks = answer.remarks.filter((words) => !SAID.some((start) => words.startsWith(start)));
  const judged = remarks.filter((words) => words.includes(answer.rule)).join(" ");
  const slices = answer.slices.map((probability, at) => ({ probability, label: answer.labels[at], unusual: answer.unusual[at] }));
  const known = answer.ranked.filter((at) => !answer.unusual[at]);
  return {
    title: opened.name,
    slices,
    scan: { label: answer.label, probability: answer.probability, judged },
    threshold,
    first: known[0] ?? answer.ranked[0],
    point,
    details,
    remarks: remarks.filter((words) => !judged.includes(words)),
  };
}

/** Compute the maps of some slices, one after the other. @param {number[]} indices @param {number} mine */
async function give(indices, mine) {
  for (const index of indices) {
    if (mine !== turn) return;
    try {
      const answer = await engine.answer(index);
      if (mine === turn) room.add(toSlice(index, answer, []));
    } catch (error) {
      if (mine === turn) say(/** @type {Error} */ (error).message, null, true);
      return;
    }
  }
  if (mine === turn) room.ask();
}

/** A slice as the reading room takes it. @param {number} index @param {import("./engine.js").Answer} answer @param {string[]} remarks */
function toSlice(index, answer, remarks) {
  const { contributions, window: shown } = answer;
  const pack = (/** @type {"cnn" | "vit" | "fused"} */ layer) => {
    const map = answer.maps[layer];
    const strongest = map.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
    const silent = strongest === 0 || (layer !== "fused" && contributions[layer] <= 0);
    const data = silent ? null : Int8Array.from(map, (one) => Math.round((one / strongest) * LEVELS));
    return { data, strongest: LEVELS, silent, outside: layer === "fused" ? answer.outside : answer.outsides[layer] };
  };
  return {
    index,
    width: answer.width,
    height: answer.height,
    values: answer.values,
    unit: answer.unit,
    window: { low: shown.center - shown.width / 2, high: shown.center + shown.width / 2 },
    left: answer.left,
    spacing: answer.spacing,
    maps: { cnn: pack("cnn"), vit: pack("vit"), fused: pack("fused") },
    sign: 1,
    outline,
    evidence: [
      { name: sayBaseline(answer.baseline), value: contributions.baseline },
      { name: "ResNet (CNN)", value: contributions.cnn },
      { name: "ViT", value: contributions.vit },
    ],
    remarks: writeSentences([...remarks, ...answer.notices]),
  };
}

input.addEventListener("change", () => {
  if (truth) modality.value = ""; // what was said of an example is not said of a file
  read([...(input.files ?? [])]);
});
modality.addEventListener("change", () => read(chosen, truth, outline));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (!input.disabled) read([...(event.dataTransfer?.files ?? [])]);
});
start();
