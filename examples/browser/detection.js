// Runs a detector on an image, and draws the boxes that it finds.
import { Tensor } from "@litertjs/core";

import { placed } from "./preprocessing.js";

const LEAST_SCORE = 0.5; // as `resnet predict --boxes`
const COLORS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#9a6324"];

/** Returns the model's inputs: the pixels on their canvas, 0-255, and the height and width of the image there. */
export function inputsOf(image, about) {
  const { image_size: [rows, columns], channels } = about.preprocessing;
  const { pixels, size } = placed(image, about.preprocessing, about.fit);
  const inputs = {
    images: new Tensor(pixels, [1, rows, columns, channels]),
    sizes: new Tensor(Int32Array.from(size), [1, 2]),
  };
  return { inputs, size };
}

/** Returns the objects in an image, the best first; edges in its own pixels. */
export async function objectsIn({ width, height }, model, { inputs, size }) {
  const outputs = await model.run(inputs);
  const values = {};
  for (const [name, output] of Object.entries(outputs)) {
    values[name] = await output.data();
    output.delete();
  }
  const { boxes, scores, labels, number } = values;
  const ratios = [width / size[1], height / size[0]];
  return Array.from({ length: number[0] }, (_, i) => ({
    box: Array.from({ length: 4 }, (_, edge) => boxes[4 * i + edge] * ratios[edge % 2]),
    score: scores[i],
    label: labels[i],
  }));
}

/** Returns the objects that are worth to be shown. */
export function sure(objects) {
  return objects.filter(({ score }) => score >= LEAST_SCORE);
}

/** Draws objects over the image on a canvas, with their names. */
export function draw(canvas, objects, names) {
  const context = canvas.getContext("2d");
  const line = Math.max(1, Math.round(canvas.width / 200));
  context.lineWidth = line;
  context.font = `${8 * line}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (const { box: [left, top, right, bottom], label, score } of [...objects].reverse()) { // the best above all
    const text = `${names[label]} ${Math.round(100 * score)} %`;
    context.strokeStyle = context.fillStyle = COLORS[label % COLORS.length];
    context.strokeRect(left, top, right - left, bottom - top);
    const height = Math.max(top, 9 * line); // within the image
    context.fillRect(left, height - 9 * line, context.measureText(text).width + 2 * line, 9 * line);
    context.fillStyle = "white";
    context.fillText(text, left + line, height);
  }
}
