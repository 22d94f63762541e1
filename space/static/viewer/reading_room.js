// The reading room: one answer, one large slice, its maps and evidence. The demo and the static page both show it.
import { LAYERS, SliceCanvas } from "./slice_canvas.js";
import { colourOf, coverOf } from "./colours.js";
import { listNumbers, make, percent, plain, signed } from "./elements.js";

/**
 * @typedef {object} Study What is known before any map; `open` takes it.
 * @property {string} title where it comes from, in words
 * @property {{probability: number, label: string, unusual: boolean}[]} slices from foot to head
 * @property {?{label: string, probability: number, judged: string}} scan the answer for all slices together
 * @property {number} threshold probability from which a slice is called Stroke
 * @property {number} first the slice to show, from 0
 * @property {string} truth "Stroke" or "Normal" where it is known, else ""
 * @property {string} point one sentence on how good the threshold is
 * @property {string[]} details further sentences on the threshold
 * @property {string[]} remarks on the whole
 * @property {boolean} upwards whether the slices are known to go from foot to head
 * @property {number} most how many slices' maps are asked for by themselves; the rest when somebody goes to them
 * @property {string[]} downloads kinds that can be had of it
 *
 * @typedef {object} Slice What `add` takes.
 * @property {number} index from 0
 * @property {number} width
 * @property {number} height
 * @property {Int16Array|Float32Array|Uint8Array} values as measured, in `unit` ("HU", "")
 * @property {{low: number, high: number}} window as the model was shown the slice
 * @property {?string} left the side of the patient at the left edge: "R", "L" or null
 * @property {?number} spacing mm of a pixel
 * @property {Record<string, {data: Float32Array|Int8Array|Uint8Array, strongest: number, silent: boolean, outside: number}>} maps
 * @property {number} sign 1 where positive map values speak for Stroke
 * @property {?Uint8Array} outline a lesion mask
 * @property {{name: string, value: number}[]} evidence log-odds of Stroke: baseline, CNN, ViT
 * @property {string[]} remarks
 */

const NO_ANSWER = "No answer";
const UNLIKE = "This does not look like the slices that the model knows.";
const WINDOWS = { Brain: [0, 80], Narrow: [20, 60], Subdural: [-25, 175], Bone: [-700, 1300] };
const RANKED = 8; // slices to choose from: those above the threshold, and at least `LEAST`
const LEAST = 3;
const NARROW = 880; // px of the room, below which the answer stands above the slice
const PATIENCE = 30_000; // ms, after which an unanswered wish is asked again

export class ReadingRoom {
  /**
   * @param {HTMLElement} root is filled
   * @param {{need?: (indices: number[]) => void, shown?: (index: number) => void, downloads?: Record<string, string>,
   *   download?: (kind: string, index: number) => void}} host `need` is asked for slices that were not added yet, a few
   *   at a time; `shown` is told which slice is seen; `download` is asked for a file of a kind, `downloads` has words
   */
  constructor(root, host = {}) {
    this.root = root;
    this.host = host;
    this.study = null;
    this.slices = new Map();
    this.index = 0;
    this.insists = false; // whether an answer is shown for what the model does not know
    this.build();
    this.close();
  }

  build() {
    const radio = (name, value, words, checked, onchange) =>
      make("label", {}, make("input", { type: "radio", name, value, checked, onchange }), make("span", {}, words));
    const group = Math.random().toString(36).slice(2);
    this.verdict = make("section", { class: "room-verdict", "aria-live": "polite", "aria-label": "Answer" });
    this.picture = make("canvas", { class: "room-canvas", tabindex: "0", role: "img", "aria-label": "The slice" });
    this.cover = make("p", { class: "room-cover", hidden: true });
    this.pointed = make("output", { class: "room-pointed", "aria-live": "off" });
    this.slider = make("input", { type: "range", min: 1, max: 1, value: 1, "aria-label": "Slice",
      oninput: () => this.show(Number(this.slider.value) - 1) });
    this.number = make("output", { class: "room-number" });
    this.strip = make("canvas", { class: "room-strip", role: "img", onclick: (event) => this.chooseInStrip(event) });
    this.layers = make("fieldset", { class: "room-choice" }, make("legend", {}, "Map"),
      ...Object.entries({ ...LAYERS, all: "Side by side" }).map(([layer, words]) =>
        radio(`layer-${group}`, layer, words, layer === "fused", () => this.setLayer(layer))));
    this.opacity = make("input", { type: "range", min: 0, max: 100, step: 5, value: 50,
      oninput: () => this.setOpacity(Number(this.opacity.value)) });
    this.outlining = make("input", { type: "checkbox", checked: true, onchange: () => {
      this.canvas.outlined = this.outlining.checked;
      this.canvas.draw();
    } });
    this.outlineLabel = make("label", { class: "room-check" }, this.outlining, "Lesion outline");
    this.windows = make("select", { onchange: () => this.chooseWindow(this.windows.value) });
    this.windowWords = make("output", { class: "room-window" });
    this.dragging = make("fieldset", { class: "room-choice" }, make("legend", {}, "Drag"),
      radio(`drag-${group}`, "window", "Window", true, () => { this.canvas.drag = "window"; }),
      radio(`drag-${group}`, "move", "Move", false, () => { this.canvas.drag = "move"; }));
    const button = (words, label, onclick) => make("button", { type: "button", "aria-label": label, title: label, onclick }, words);
    this.ramp = make("div", { class: "room-ramp" }, make("span", {}, "against Stroke"),
      make("canvas", { width: 255, height: 1, "aria-hidden": "true" }), make("span", {}, "for Stroke"));
    this.mapWords = make("p", { class: "room-words" });
    this.answer = make("section", { class: "room-answer", "aria-label": "Answer for this slice" });
    this.stage = make("div", { class: "room-stage" }, this.picture, this.cover, this.pointed);
    this.stepping = make("div", { class: "room-stepping" }, this.strip,
      make("label", {}, this.slider), this.number);
    this.downloads = make("div", { class: "room-downloads" });
    this.body = make("div", { class: "room-body" },
      this.verdict,
      make("div", { class: "room-view" }, this.stage, this.stepping,
        make("div", { class: "room-tools" }, this.layers,
          make("label", { class: "room-opacity" }, "Opacity", this.opacity), this.outlineLabel),
        make("div", { class: "room-map" }, this.ramp, this.mapWords),
        make("div", { class: "room-tools" },
          make("label", { class: "room-windows" }, "Display", this.windows), this.windowWords, this.dragging,
          make("span", { class: "room-buttons" },
            button("−", "Zoom out", () => this.canvas.zoomBy(1 / 1.4)),
            button("+", "Zoom in", () => this.canvas.zoomBy(1.4)),
            button("Reset", "Reset window and zoom", () => this.reset()))),
        make("p", { class: "room-words" }, "On the picture: wheel or arrow keys go through the slices, 0 to 4 choose the map, ",
          "+ and − zoom, R resets.")),
      make("div", { class: "room-side" }, this.answer, this.downloads));
    this.root.classList.add("room");
    this.root.replaceChildren(this.body);
    this.canvas = new SliceCanvas(this.picture, {
      step: (by) => this.show(this.index + by),
      point: (words) => { this.pointed.textContent = words; },
      windowed: () => this.writeWindow(),
    });
    this.picture.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.drawStrip()).observe(this.strip);
    new ResizeObserver(() => this.root.classList.toggle("narrow", this.root.clientWidth < NARROW)).observe(this.root);
  }

  /** Show a study: its answer, then its slices as they come. @param {Study} study */
  open(study) {
    this.study = study;
    this.slices = new Map();
    this.insists = false;
    this.asked = new Set();
    this.body.hidden = false;
    const count = study.slices.length;
    this.stepping.hidden = count < 2;
    [this.slider.max, this.slider.value] = [Math.max(count, 1), study.first + 1];
    this.canvas.setSlice(null);
    this.index = -1;
    this.writeVerdict();
    this.writeDownloads();
    this.show(study.first);
  }

  /** Forget everything; nothing is shown. */
  close() {
    this.study = null;
    this.slices = new Map();
    this.body.hidden = true;
    this.canvas.setSlice(null);
  }

  /** Take one slice with its maps. @param {Slice} slice */
  add(slice) {
    if (!this.study) return;
    this.slices.set(slice.index, slice);
    this.asked.delete(slice.index);
    if (slice.index === this.index) this.writeSlice();
    this.drawStrip();
    this.writeProgress();
  }

  /** Ask for slices that are not here: the seen one first, then by probability. `limit` is of those by themselves. */
  ask(limit = this.slices.size ? 8 : 1) {
    const isWaiting = this.asked.size && Date.now() - this.askedAt < PATIENCE;
    if (!this.host.need || !this.study || isWaiting) return;
    const most = this.study.most ?? Infinity; // further ones come when somebody goes to them
    const wanted = [this.index, ...this.ranked().slice(0, most)];
    const missing = [...new Set(wanted)].filter((i) => !this.slices.has(i)).slice(0, limit);
    if (!missing.length) return;
    this.asked = new Set(missing);
    this.askedAt = Date.now();
    this.host.need(missing);
  }

  /** Slices by probability, the highest first; those that the model does not know come last. */
  ranked() {
    const { slices } = this.study;
    return slices.map((_, i) => i).sort((a, b) =>
      Number(slices[a].unusual) - Number(slices[b].unusual) || slices[b].probability - slices[a].probability || a - b);
  }

  get counted() {
    return this.study.slices.filter((slice) => !slice.unusual);
  }

  /** The slices above the threshold, by their number from 0; those that the model does not know are left out. */
  get above() {
    return this.study.slices.flatMap((slice, i) => (slice.label === "Stroke" && (!slice.unusual || this.insists) ? [i] : []));
  }

  /** Whether the study as a whole gets no answer: most of its slices are unlike those that the model knows. */
  get isUnknown() {
    const { slices } = this.study;
    return this.counted.length < slices.length / 2;
  }

  show(index) {
    if (!this.study) return;
    const next = Math.min(Math.max(index, 0), this.study.slices.length - 1);
    if (next === this.index) return;
    this.index = next;
    this.slider.value = next + 1;
    const words = `Slice ${next + 1} of ${this.study.slices.length}`;
    this.slider.setAttribute("aria-valuetext", words);
    this.number.textContent = words;
    this.writeSlice();
    this.drawStrip();
    this.host.shown?.(next);
    if (this.slices.size) this.ask(); // the first slice comes with the study
  }

  onKey(event) {
    // downwards goes on, as the wheel does
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 5, PageUp: -5 };
    const layer = ["off", "cnn", "vit", "fused", "all"][Number(event.key)];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) this.show(this.index + steps[event.key]);
    else if (event.key === "Home") this.show(0);
    else if (event.key === "End") this.show(Infinity);
    else if (event.key === "+" || event.key === "-") this.canvas.zoomBy(event.key === "+" ? 1.4 : 1 / 1.4);
    else if (event.key.toLowerCase() === "r") this.reset();
    else if (event.key.trim() && layer) this.layers.querySelector(`input[value=${layer}]`).click();
    else return;
    event.preventDefault();
  }

  // --- the answer ---------------------------------------------------------------------------------------------

  writeVerdict() {
    const { study } = this;
    const { slices, scan, threshold } = study;
    const parts = [make("p", { class: "room-title" }, study.title)];
    if (this.isUnknown && !this.insists) {
      parts.push(make("h2", { class: "room-unknown" }, NO_ANSWER),
        make("p", {}, slices.length === 1 ? UNLIKE : "Most of the slices do not look like those that the model knows."));
      parts.push(this.makeInsist());
    } else if (slices.length === 1) {
      const [one] = slices;
      parts.push(make("h2", { class: one.label.toLowerCase() }, one.label),
        make("p", {}, "Probability of stroke: ", make("strong", {}, percent(one.probability))),
        this.makeBar(one.probability));
    } else {
      const known = slices.filter((slice) => !slice.unusual || this.insists);
      const above = this.above.length;
      const highest = this.ranked()[0];
      const count = above ? `${above} of ${known.length} slices above the threshold` : `No slice above the threshold`;
      parts.push(make("h2", { class: above ? "stroke" : "normal" }, count),
        make("p", {}, ...(above ? [make("strong", {}, `Slices ${listNumbers(this.above)}`), ". "] : []),
          "Highest: ", make("strong", {}, `slice ${highest + 1} (${percent(slices[highest].probability)})`), "."));
      if (known.length < slices.length)
        parts.push(make("p", {}, `Not counted: ${slices.length - known.length} of ${slices.length} slices, unlike those that the model knows.`));
      if (scan) parts.push(make("p", {}, "The scan as a whole: ",
        make("strong", {}, `${scan.label}, ${percent(scan.probability)}`), "."));
    }
    const isWrong = study.truth && this.calledLabel() !== study.truth;
    if (study.truth) parts.push(make("p", { class: isWrong ? "room-wrong" : "room-right" },
      isWrong ? `The model is wrong here: the truth is ${study.truth}.` : `The truth is ${study.truth}.`));
    if (!this.isUnknown || this.insists) {
      parts.push(make("p", { class: "room-point" }, `${percent(threshold)} or more is called Stroke. ${study.point}`));
      const details = [...study.details, ...(scan?.judged ? [scan.judged] : [])];
      if (details.length) parts.push(make("details", {}, make("summary", {}, "Details"),
        ...details.map((words) => make("p", {}, words))));
    }
    parts.push(...study.remarks.map((words) => make("p", { class: "room-notice" }, plain(words))));
    this.progress = make("p", { class: "room-progress", role: "status" });
    this.verdict.replaceChildren(...parts, this.progress);
    this.writeProgress();
  }

  calledLabel() {
    const { slices, scan } = this.study;
    return slices.length === 1 ? slices[0].label : scan?.label;
  }

  makeInsist() {
    return make("button", { type: "button", class: "room-insist", onclick: () => {
      this.insists = true;
      this.writeVerdict();
      this.writeSlice();
      this.drawStrip();
    } }, "Show anyway");
  }

  makeBar(probability) {
    const bar = make("div", { class: "room-bar", "aria-hidden": "true" }, make("i"), make("b"));
    bar.firstChild.style.width = `${100 * probability}%`;
    bar.lastChild.style.left = `${100 * this.study.threshold}%`;
    if (probability < this.study.threshold) bar.classList.add("below");
    return bar;
  }

  writeProgress() {
    if (!this.study || !this.progress) return;
    const wanted = Math.min(this.study.slices.length, this.study.most ?? Infinity);
    const here = Math.min(this.slices.size, wanted);
    this.progress.textContent = here < wanted ? `Maps: ${here} of ${wanted} slices` : "";
    this.root.dataset.maps = here < wanted ? "coming" : "complete";
  }

  writeDownloads() {
    const kinds = (this.study.downloads ?? []).filter((kind) => this.host.downloads?.[kind]);
    this.downloads.replaceChildren(...(kinds.length ? [make("h3", {}, "Take it home")] : []), ...kinds.map((kind) =>
      make("button", { type: "button", onclick: () => this.host.download(kind, this.index) }, this.host.downloads[kind])));
  }

  // --- one slice ----------------------------------------------------------------------------------------------

  writeSlice() {
    const slice = this.slices.get(this.index) ?? null;
    const told = this.study.slices[this.index];
    const isHidden = told.unusual && !this.insists;
    this.canvas.setSlice(slice && isHidden ? { ...slice, maps: {} } : slice);
    this.cover.hidden = Boolean(slice);
    this.cover.textContent = slice ? "" : "This slice is being read.";
    const words = this.study.slices.length > 1 ? `Slice ${this.index + 1} of ${this.study.slices.length}` : "The slice";
    const state = isHidden ? NO_ANSWER.toLowerCase() : `${told.label}, ${percent(told.probability)}`;
    this.picture.setAttribute("aria-label", `${words}: ${state}`);
    this.outlineLabel.hidden = !slice?.outline;
    this.listWindows(slice);
    this.writeWindow();
    this.writeMapWords();
    this.writeAnswer(slice, told, isHidden);
  }

  writeAnswer(slice, told, isHidden) {
    const parts = [];
    if (this.study.slices.length > 1) {
      parts.push(make("h3", {}, `Slice ${this.index + 1}: `, make("span",
        { class: isHidden ? "room-unknown" : told.label.toLowerCase() },
        isHidden ? NO_ANSWER : `${told.label}, ${percent(told.probability)}`)));
      if (isHidden) parts.push(make("p", {}, UNLIKE), this.makeInsist());
      else parts.push(this.makeBar(told.probability));
    }
    if (slice && !isHidden) parts.push(this.makeEvidence(slice));
    parts.push(...(slice?.remarks ?? []).map((words) => make("p", { class: "room-notice" }, plain(words))));
    if (this.study.slices.length > 1) parts.push(this.makeRanked());
    this.answer.replaceChildren(...parts);
  }

  makeRanked() {
    const { slices } = this.study;
    const shown = this.ranked().slice(0, Math.max(LEAST, Math.min(RANKED, this.above.length)));
    const buttons = shown.map((i) =>
      make("button", { type: "button", "data-slice": i + 1, "aria-current": i === this.index, onclick: () => this.choose(i) },
        make("strong", {}, `${i + 1}`), slices[i].unusual && !this.insists ? "no answer" : percent(slices[i].probability)));
    return make("div", { class: "room-ranked" }, make("span", {}, "Highest slices"), ...buttons);
  }

  /** Show a slice that a button named, and keep the focus on its button. */
  choose(index) {
    this.show(index);
    this.answer.querySelector(`[data-slice="${index + 1}"]`)?.focus({ preventScroll: true });
  }

  makeEvidence({ evidence }) {
    const total = evidence.reduce((sum, { value }) => sum + value, 0);
    const rows = [];
    let start = 0;
    for (const { name, value } of evidence) {
      rows.push({ name, value, from: start, to: start + value });
      start += value;
    }
    rows.push({ name: "Sum", value: total, from: 0, to: total });
    const edges = [0, ...rows.flatMap(({ from, to }) => [from, to])];
    const [low, high] = [Math.min(...edges), Math.max(...edges)];
    const place = (value) => (100 * (value - low)) / (high - low || 1);
    return make("table", { class: "room-evidence" }, make("caption", {}, "What counted, in log-odds of Stroke"),
      make("tbody", {}, ...rows.map(({ name, value, from, to }) => {
        const bar = make("i", { class: value > 0 ? "for" : "against" });
        bar.style.left = `${place(Math.min(from, to))}%`;
        bar.style.width = `${Math.max(place(Math.max(from, to)) - place(Math.min(from, to)), 0.5)}%`;
        const zero = make("b");
        zero.style.left = `${place(0)}%`;
        return make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "number" }, signed(value)),
          make("td", { class: "room-track" }, make("span", {}, bar, zero)));
      })));
  }

  // --- tools --------------------------------------------------------------------------------------------------

  setLayer(layer) {
    this.canvas.layer = layer;
    this.opacity.disabled = layer === "off";
    this.canvas.draw();
    this.writeMapWords();
  }

  setOpacity(value) {
    this.canvas.opacity = value / 100;
    this.opacity.setAttribute("aria-valuetext", `${value} per cent`);
    this.canvas.pictures = new Map();
    this.canvas.draw();
    this.drawRamp();
  }

  reset() {
    this.canvas.resetView();
    this.canvas.setWindow(null);
    this.windows.value = "model";
  }

  listWindows(slice) {
    const names = slice?.unit === "HU" ? Object.keys(WINDOWS) : [];
    const wanted = ["model", ...names, "own"].join();
    if (this.windows.dataset.names !== wanted) {
      this.windows.dataset.names = wanted;
      const option = (value, words) => make("option", { value }, words);
      this.windows.replaceChildren(option("model", "As the model sees it"), ...names.map((name) => option(name, name)),
        make("option", { value: "own", hidden: true }, "Own window"));
    }
    if (!this.canvas.window) this.windows.value = "model";
  }

  chooseWindow(name) {
    const range = WINDOWS[name];
    this.canvas.setWindow(range ? { low: range[0], high: range[1] } : null);
    if (range) this.windows.value = name;
  }

  writeWindow() {
    const { low, high } = this.canvas.shownWindow;
    const round = (value) => (high - low > 20 ? Math.round(value) : Number(value.toPrecision(3)));
    this.windowWords.textContent = this.canvas.slice ? `W ${round(high - low)} L ${round((low + high) / 2)}` : "";
    if (this.canvas.window && this.windows.value === "model") this.windows.value = "own";
  }

  writeMapWords() {
    const { layer, slice } = this.canvas;
    const seen = layer === "all" ? ["cnn", "vit", "fused"] : layer === "off" ? [] : [layer];
    const words = [];
    for (const name of slice ? seen : []) {
      const map = slice.maps?.[name];
      if (!map) continue;
      if (map.silent) words.push(`${LAYERS[name]} speaks against ${slice.sign < 0 ? "Normal" : "Stroke"} here, so nothing is drawn for it.`);
      else if (map.outside >= 0.005) words.push(`${LAYERS[name]}: ${percent(map.outside)} of its evidence lies outside the head and is not drawn.`);
    }
    if (seen.length && slice) words.push(seen.includes("fused") ?
      "Each map is scaled to its own maximum. The display window changes the picture only, never the answer." :
      "Brighter regions matter more to this branch. The map is scaled to its own maximum.");
    this.mapWords.textContent = words.join(" ");
    this.ramp.hidden = !seen.length || !slice;
    this.drawRamp();
  }

  drawRamp() {
    const pen = this.ramp.querySelector("canvas").getContext("2d");
    for (let i = 0; i < 255; i++) {
      const share = (i - 127) / 127;
      const cover = coverOf(share, 1);
      pen.fillStyle = `rgb(${colourOf(share).map((band) => band * cover).join()})`; // as laid on black
      pen.fillRect(i, 0, 1, 1);
    }
  }

  // --- probabilities along the scan ---------------------------------------------------------------------------

  drawStrip() {
    const { strip, study } = this;
    const [width, height] = [strip.clientWidth, strip.clientHeight];
    if (!study || !width || !height) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    [strip.width, strip.height] = [width * ratio, height * ratio];
    const pen = strip.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(this.root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const step = width / study.slices.length;
    pen.fillStyle = colour("--room-marked");
    pen.fillRect(this.index * step, 0, Math.max(step, 2), height);
    study.slices.forEach((slice, i) => {
      const isKnown = !slice.unusual || this.insists;
      pen.fillStyle = colour(!isKnown ? "--room-quiet" : slice.label === "Stroke" ? "--room-stroke" : "--room-normal");
      const tall = isKnown ? Math.max(2, slice.probability * (height - 2)) : 2;
      pen.globalAlpha = this.slices.has(i) ? 1 : 0.55;
      pen.fillRect(i * step + (step > 4 ? 1 : 0), height - tall, Math.max(step - (step > 4 ? 2 : 0), 0.8), tall);
    });
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("--room-ink");
    pen.setLineDash([4, 3]);
    pen.beginPath();
    const line = height - study.threshold * (height - 2);
    pen.moveTo(0, line);
    pen.lineTo(width, line);
    pen.stroke();
    const ends = study.upwards ? ", from foot to head" : "";
    strip.setAttribute("aria-label", `Probability of stroke along the ${study.slices.length} slices${ends}; the line is the threshold`);
  }

  chooseInStrip(event) {
    const { width } = this.strip.getBoundingClientRect();
    this.show(Math.floor((event.offsetX / width) * this.study.slices.length));
  }
}
