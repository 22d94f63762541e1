// The settings that export wrote into an ONNX file: its metadata, which onnxruntime-web does not give.

const KEY = "stroke_hub";
const METADATA = 14; // field of ModelProto: entries of a key (1) and a value (2)

/**
 * Read the settings of an exported model.
 * @param {Uint8Array} graph
 * @returns {import("./results.js").Settings}
 */
export function readSettings(graph) {
  for (const [field, entry] of listFields(graph)) {
    if (field !== METADATA) continue;
    const parts = new Map([...listFields(entry)].map(([number, text]) => [number, new TextDecoder().decode(text)]));
    if (parts.get(1) === KEY) return JSON.parse(parts.get(2) ?? "");
  }
  throw new Error("The model is no export of stroke_hub; export it again.");
}

/**
 * The fields of a protobuf message that have a length, one after another; others are passed over.
 * @param {Uint8Array} bytes
 * @returns {Generator<[number, Uint8Array]>}
 */
function* listFields(bytes) {
  let at = 0;
  const readVarint = () => {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (!(byte & 128)) return value;
      factor *= 128;
    }
  };
  while (at < bytes.length) {
    const key = readVarint();
    const kind = key & 7;
    if (kind === 0) readVarint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = readVarint();
      yield [Math.floor(key / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error("The model is damaged; load the page again.");
  }
}
