// Runs the model that about.json describes on each image that is dropped or chosen.
import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";

import { draw, inputsOf, objectsIn, sure } from "./detection.js";
import { seen } from "./preprocessing.js";

const SHOWN_CLASSES = 5;
const SAMPLES = 11; // of the time; fewer if they take longer than PATIENCE_MS
const SAMPLE_MS = 20; // at least: some browsers' clocks tick in whole milliseconds
const PATIENCE_MS = 1500;

const element = (id) => document.getElementById(id);

/** Sets the state of the page ("loading", "ready", "busy" or "failed") and what it says. */
function say(state, message) {
  document.body.dataset.state = state;
  element("message").textContent = message;
}

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`Expected ${path} beside the page. Received: status ${response.status}`);
  return response;
}

/** Returns the RGBA pixels of an image file, upright if it says how it is held, in whatever color space it has. */
async function decoded(file) {
  const image = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error(`Expected an image that this browser can read. Received: ${file.name}`);
  });
  const { width, height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  image.close();
  return context.getImageData(0, 0, width, height);
}

/** Returns the model's input, 0-255: RGBA -> (1, rows, columns, channels). */
function tensor({ data, width, height }, channels, model) {
  const [{ dtype }] = model.getInputDetails();
  const pixels = new (dtype === "uint8" ? Uint8Array : Float32Array)(height * width * channels);
  for (let i = 0; i < height * width; i++) {
    for (let channel = 0; channel < channels; channel++) pixels[channels * i + channel] = data[4 * i + channel];
  }
  return new Tensor(pixels, [1, height, width, channels]);
}

async function probabilitiesOf(model, pixels) {
  const [output] = await model.run([pixels]);
  const probabilities = await output.data();
  output.delete();
  return Array.from(probabilities, (value) => (output.type.dtype === "uint8" ? value / 256 : value));
}

/** Returns the median time of a run, in milliseconds. */
async function medianTime(run) {
  const samples = [];
  const end = performance.now() + PATIENCE_MS;
  while (samples.length < 3 || (samples.length < SAMPLES && performance.now() < end)) {
    const start = performance.now();
    let runs = 0;
    do {
      await run();
      runs += 1;
    } while (performance.now() - start < SAMPLE_MS);
    samples.push((performance.now() - start) / runs);
  }
  return samples.sort((a, b) => a - b)[samples.length >> 1];
}

/** Lists names and their probabilities, with a bar each. */
function list(named) {
  const rows = named.map(([name, probability]) => {
    const row = document.createElement("li");
    for (const text of [name, `${(100 * probability).toFixed(1)} %`]) {
      row.appendChild(document.createElement("span")).textContent = text;
    }
    row.style.setProperty("--probability", probability);
    return row;
  });
  element("classes").replaceChildren(...rows);
}

/** Returns the most probable classes, with their probabilities. */
function best(probabilities, names) {
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  return order.slice(0, SHOWN_CLASSES).map((index) => [names[index], probabilities[index]]);
}

function show(image) {
  const canvas = element("seen");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Shows the answer, then the median time of a run, and returns it in milliseconds. */
async function timed(run) {
  element("time").textContent = "…";
  element("answer").hidden = false;
  await new Promise((resolve) => setTimeout(resolve, 30)); // lets the browser paint
  const milliseconds = await medianTime(run);
  element("time").textContent = `${Number(milliseconds.toPrecision(2))} ms`;
  return milliseconds;
}

/** Shows what the model sees of an image, its classes and the time; returns them. */
async function classify(file, model, about) {
  if (!file) throw new Error("Expected an image file. Received: none");
  const image = seen(await decoded(file), about.preprocessing);
  show(image);
  const pixels = tensor(image, about.preprocessing.channels, model);
  try {
    const probabilities = await probabilitiesOf(model, pixels);
    list(best(probabilities, about.class_names));
    const milliseconds = await timed(() => probabilitiesOf(model, pixels));
    return { image: file.name, probabilities, milliseconds };
  } finally {
    pixels.delete();
  }
}

/** Shows an image with the objects that the model finds in it, and the time; returns all of them. */
async function detect(file, model, about) {
  if (!file) throw new Error("Expected an image file. Received: none");
  const image = await decoded(file);
  const given = inputsOf(image, about);
  try {
    const objects = await objectsIn(image, model, given);
    const shown = sure(objects);
    draw(show(image), shown, about.class_names);
    list(shown.slice(0, SHOWN_CLASSES).map(({ label, score }) => [about.class_names[label], score]));
    const milliseconds = await timed(() => objectsIn(image, model, given));
    return { image: file.name, objects, milliseconds };
  } finally {
    for (const tensor of Object.values(given.inputs)) tensor.delete();
  }
}

/** Loads the runtime, which always asks for WebGPU and warns where there is none: these models run on the CPU. */
async function loadRuntime() {
  const { warn } = console;
  console.warn = (...parts) => {
    if (!String(parts[0]).includes("WebGPU")) warn.apply(console, parts);
  };
  try {
    await loadLiteRt("litert/");
  } finally {
    console.warn = warn;
  }
}

async function start() {
  const about = await (await fetched("about.json")).json();
  document.title = element("model").textContent = about.model;
  element("file").textContent = about.file;
  element("caption").textContent = about.detector ? "objects with a score of 50 % and more" : "what the model sees";
  const answer = about.detector ? detect : classify;
  const bytes = new Uint8Array(await (await fetched(about.file)).arrayBuffer());
  await loadRuntime();
  const model = await loadAndCompile(bytes, { accelerator: "wasm" });

  let last = Promise.resolve(); // one image after the other
  const take = (file) => {
    last = last.then(async () => {
      say("busy", "");
      const result = await answer(file, model, about).catch((error) => ({ error: error.message }));
      element("result").textContent = JSON.stringify(result);
      if (result.error) element("answer").hidden = true;
      say("ready", result.error ?? "");
    });
  };
  document.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
  element("chooser").addEventListener("change", ({ target }) => {
    if (target.files.length) take(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
  say("ready", "");
}

for (const type of ["dragover", "drop"]) document.addEventListener(type, (event) => event.preventDefault());
start().catch((error) => say("failed", error.message));
