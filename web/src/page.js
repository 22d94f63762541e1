import { Engine } from "./engine.js";
/** @type {any} */ (globalThis).Engine = Engine;
