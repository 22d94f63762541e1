// What a browser must have, told in a sentence where it has not.

// a module with one instruction of SIMD: (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt)
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);
const LITTLE = 2; // GiB: below it tabs of scans are closed by the system

/** Why this browser cannot run the model; "" where it can. */
export function findObstacle() {
  if (typeof WebAssembly !== "object") {
    return "This browser has no WebAssembly, or it is switched off; open the page in a current browser.";
  }
  if (!WebAssembly.validate(SIMD)) {
    return "This browser or its processor has no WebAssembly SIMD; open the page in a current browser on another device.";
  }
  if (typeof DecompressionStream !== "function" || typeof OffscreenCanvas !== "function" || !globalThis.crypto?.subtle) {
    return "This browser is too old for the page; open it in one of 2023 or newer, over https.";
  }
  return "";
}

/** What to know before a large scan is opened; "" where there is nothing. */
export function findWarning() {
  const memory = /** @type {any} */ (navigator).deviceMemory;
  return memory && memory < LITTLE ? "This device has little memory; single slices work, a large scan may not open." : "";
}
