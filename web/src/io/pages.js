// The pages of one file: their units are told of all together, as stroke_hub/io/pages.py does.

import { findHounsfield, findStep, sample } from "./rendering.js";

/** @typedef {import("./rendering.js").Measured} Measured */
/** @typedef {import("./rendering.js").Hounsfield} Hounsfield */

export class JudgedPages {
  constructor() {
    /** @type {Promise<Hounsfield | null> | null} */
    this.units = null;
  }

  /** @param {number} _number @returns {Promise<Measured>} */
  async decode(_number) {
    throw new Error("is made by the class below");
  }

  /** @param {Measured} _page */
  isKnown(_page) {
    return true;
  }

  /** Pixels of each page. @returns {Map<number, number>} */
  sizes() {
    return new Map();
  }

  /** Give a page with its units. @param {number} number @returns {Promise<Measured>} */
  async judge(number) {
    const page = await this.decode(number);
    if (this.isKnown(page)) return page;
    this.units ??= this.findUnits();
    return { ...page, hounsfield: await this.units };
  }

  async findUnits() {
    let sizes = this.sizes();
    while (sizes.size) {
      /** @type {Map<number, Float64Array>} */
      const few = new Map();
      const step = findStep([...sizes.values()].reduce((sum, size) => sum + size, 0));
      for (const number of sizes.keys()) {
        const page = await this.decode(number);
        if (!this.isKnown(page)) few.set(number, sample(page.picture.data, step));
      }
      if (few.size === sizes.size) {
        const all = new Float64Array([...few.values()].reduce((sum, part) => sum + part.length, 0));
        let at = 0;
        for (const part of few.values()) {
          all.set(part, at);
          at += part.length;
        }
        return findHounsfield(all);
      }
      sizes = new Map([...sizes].filter(([number]) => few.has(number)));
    }
    return null;
  }
}

/** The only page of a file that holds one. */
export class OnePage {
  /** @param {Measured} page */
  constructor(page) {
    this.only = page;
    this.modality = null;
    this.length = 1;
  }

  async page() {
    return this.only;
  }
}
