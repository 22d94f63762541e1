// The page's side of the worker: calls that return promises.

/** @typedef {{done: number, all: number, what: string}} Progress */
/**
 * @typedef {object} Opened
 * @property {string} name @property {number} slices @property {"BT" | "MR" | null} modality
 * @property {[number, number] | null} spacing mm, of a pixel's height and width
 * @property {number[] | null} positions mm, of each slice
 * @property {string[]} remarks
 */
/**
 * @typedef {object} Answer
 * @property {number} width @property {number} height
 * @property {Int16Array | Float32Array | Uint8Array} values on the slice's own grid, as it is displayed
 * @property {"HU" | ""} unit @property {{center: number, width: number}} window that the model was shown
 * @property {"R" | null} left the side of the patient at the left edge
 * @property {{cnn: Float32Array, vit: Float32Array, fused: Float32Array}} maps on the same grid
 * @property {number} probability @property {string} label @property {number} log_odds
 * @property {{baseline: number, cnn: number, vit: number}} contributions @property {string} baseline
 * @property {boolean} unusual @property {number} distance
 * @property {number} outside share of the evidence beside the head @property {{cnn: number, vit: number}} outsides
 * @property {number | null} spacing mm, of a pixel @property {"BT" | "MR" | null} modality
 * @property {string[]} remarks @property {string[]} notices those of the picture alone
 */
/**
 * @typedef {object} ScanAnswer
 * @property {number} probability @property {string} label @property {number} threshold @property {string} rule
 * @property {number[]} ranked @property {number[]} slices @property {string[]} labels @property {boolean[]} unusual
 * @property {string[]} remarks
 */

export class Engine {
  /** @param {{url?: URL, threads?: number}} [options] */
  constructor({ url = new URL("worker.js", import.meta.url), threads } = {}) {
    const cores = Math.min(4, navigator.hardwareConcurrency || 1);
    this.threads = threads ?? (globalThis.crossOriginIsolated ? cores : 1);
    // from a blob: such a worker stands under the page's own content security policy, another one under none
    const start = URL.createObjectURL(new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" }));
    this.worker = new Worker(start, { type: "module" });
    this.next = 0;
    /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void, progress?: (one: Progress) => void}>} */
    this.waiting = new Map();
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) reject(new Error("Something went wrong in this page; load it again."));
      this.waiting.clear();
    };
  }

  /** @param {{id: number, result?: any, error?: string, progress?: Progress}} message */
  receive({ id, result, error, progress }) {
    const one = this.waiting.get(id);
    if (!one) return;
    if (progress) {
      one.progress?.(progress);
      return;
    }
    this.waiting.delete(id);
    if (error === undefined) one.resolve(result);
    else one.reject(new Error(error));
  }

  /** @param {string} call @param {object} args @param {(one: Progress) => void} [progress] @returns {Promise<any>} */
  ask(call, args, progress) {
    return new Promise((resolve, reject) => {
      const id = this.next++;
      this.waiting.set(id, { resolve, reject, progress });
      this.worker.postMessage({ id, call, args });
    });
  }

  /** Load the model. @param {(one: Progress) => void} [progress] */
  load(progress) {
    return this.ask("load", { threads: this.threads }, progress);
  }

  /**
   * Open files as one scan.
   * @param {Iterable<File>} files @param {{modality?: "BT" | "MR" | null, progress?: (one: Progress) => void}} [options]
   * @returns {Promise<Opened>}
   */
  open(files, { modality = null, progress } = {}) {
    return this.ask("open", { files: [...files], modality }, progress);
  }

  /** Explain a slice. @param {number} index @returns {Promise<Answer>} */
  answer(index) {
    return this.ask("answer", { index });
  }

  /** Judge the whole scan. @param {(one: Progress) => void} [progress] @returns {Promise<ScanAnswer>} */
  scan(progress) {
    return this.ask("scan", {}, progress);
  }
}
