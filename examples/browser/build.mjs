// Writes dist/, a static page that runs one model of an export: node build.mjs EXPORT [--model int8.tflite]
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { fixBatch } from "./batch_of_one.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, "dist");
const LITERT = join(HERE, "node_modules", "@litertjs");
const PAGE = ["index.html", "main.js", "detection.js", "preprocessing.js"];
// The runtime takes the first where the browser has relaxed SIMD, else the second.
const RUNTIME = ["litert_wasm_internal", "litert_wasm_compat_internal"];

function build(folder, wanted) {
  const report = join(folder, "export.json");
  if (!existsSync(report)) {
    throw new Error(`Expected the folder of an export, with an export.json. Received: ${folder}`);
  }
  const { model, class_names, preprocessing, artifacts, fit } = JSON.parse(readFileSync(report, "utf8"));
  const files = artifacts.map(({ file, path }) => ({ file: file ?? path })); // of a classifier, and of a detector
  const models = files.filter(({ file }) => file.endsWith(".tflite") && existsSync(join(folder, file)));
  const chosen = wanted ? models.find(({ file }) => file === wanted) : models[0];
  if (!chosen) {
    const names = models.map(({ file }) => file).join(", ") || "a .tflite file";
    throw new Error(`Expected ${names} in ${folder}. Received: ${wanted ?? "none"}`);
  }
  if (!existsSync(join(LITERT, "core"))) {
    throw new Error(`Expected @litertjs/core in node_modules: run npm install in ${HERE}. Received: none`);
  }

  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(DIST);
  const copy = (from, to) => cpSync(from, join(DIST, to));
  for (const name of PAGE) copy(join(HERE, name), name);
  writeFileSync(join(DIST, chosen.file), fixBatch(readFileSync(join(folder, chosen.file))));
  for (const name of ["core", "wasm-utils"]) copy(join(LITERT, name, "dist", "index.js"), `litert/${name}.js`);
  for (const name of RUNTIME) {
    for (const type of ["js", "wasm"]) copy(join(LITERT, "core", "wasm", `${name}.${type}`), `litert/${name}.${type}`);
  }
  const about = { model, file: chosen.file, class_names, preprocessing, detector: fit !== undefined, fit };
  writeFileSync(join(DIST, "about.json"), JSON.stringify(about));
  return chosen.file;
}

try {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { model: { type: "string" } } });
  if (positionals.length !== 1) {
    const received = positionals.join(" ") || "none";
    throw new Error(`Expected one folder: node build.mjs EXPORT [--model FILE]. Received: ${received}`);
  }
  console.log(`${build(positionals[0], values.model)} is in ${DIST}; serve it, e.g. python3 -m http.server -d ${DIST}`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
