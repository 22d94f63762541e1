// Build web/dist: the page, its worker, what they need, and the licences of all that is in them.

import { cp, mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const OUT = path.join(HERE, "dist");
const MODEL = path.join(HERE, "..", "stroke_hub", "models", "sample_model");
const RUNTIME = ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

await rm(OUT, { recursive: true, force: true });
await mkdir(path.join(OUT, "model"), { recursive: true });
const { metafile } = await build({
  entryPoints: ["src/worker.js", "src/engine.js", "src/page.js", "src/sw.js"].map((name) => path.join(HERE, name)),
  outdir: OUT,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  metafile: true,
  conditions: ["onnxruntime-web-use-extern-wasm"],
  loader: { ".wasm": "file" },
  assetNames: "[name]",
  external: ["fs", "path", "crypto", "node:*"],
  logLevel: "warning",
});
for (const name of RUNTIME) await cp(path.join(HERE, "node_modules", "onnxruntime-web", "dist", name), path.join(OUT, name));
for (const name of ["onnx/model.onnx", "report.json"]) await cp(path.join(MODEL, name), path.join(OUT, "model", path.basename(name)));
const isPicture = (source) => !/\.(json|csv)$/.test(source);
await cp(path.join(MODEL, "examples"), path.join(OUT, "examples"), { recursive: true, filter: isPicture });
await cp(path.join(HERE, "static"), OUT, { recursive: true });
await cp(path.join(HERE, "..", "space", "static", "viewer", "reading_room.css"), path.join(OUT, "reading_room.css"));
await writeFile(path.join(OUT, "THIRD_PARTY.md"), await listLicences(Object.keys(metafile.inputs)));
await writeFile(path.join(OUT, "files.json"), `${JSON.stringify(await listFiles(), null, 1)}\n`);

/** What is downloaded: each file with its bytes and SHA-256, for the service worker and for the size on the page. */
async function listFiles() {
  const files = {};
  for (const entry of (await readdir(OUT, { recursive: true })).sort()) {
    const file = path.join(OUT, entry);
    if (!(await stat(file)).isFile()) continue;
    const content = await readFile(file);
    files[entry.replaceAll("\\", "/")] = { bytes: content.length, sha256: createHash("sha256").update(content).digest("hex") };
  }
  return files;
}

/** The licences of the packages whose code is in the bundle, and of the runtime beside it. */
async function listLicences(inputs) {
  const names = new Set(["onnxruntime-web"]);
  for (const input of inputs) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (found) names.add(found[1]);
  }
  let text = "# What this page is made of\n\nThe page's own code: stroke_hub, Apache-2.0.\n";
  for (const name of [...names].sort()) {
    const folder = path.join(HERE, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    text += `\n## ${name} ${version}\n\nLicence: ${license}\n`;
    const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one));
    if (file) text += `\n\`\`\`\n${(await readFile(path.join(folder, file), "utf8")).trim()}\n\`\`\`\n`;
  }
  return text;
}
