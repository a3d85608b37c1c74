// What an image goes through before the model, as resnet_keras/images.py has it: resized as by Pillow, then cropped.
// The canvas's own resizing differs from browser to browser, and by enough to change what the model says.

const KERNELS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    reach: 2,
    weight: (x) => {
      const d = Math.abs(x);
      return d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((2.5 - 0.5 * d) * d - 4) * d + 2 : 0;
    },
  },
};

/** Returns what the model sees of an image, gray if it takes one channel: RGBA of any size -> RGBA of `image_size`. */
export function seen({ data, width, height }, preprocessing) {
  const [rows, columns] = preprocessing.image_size;
  const { reach, weight } = KERNELS[preprocessing.interpolation];
  const [scaledRows, scaledColumns] = scaledSize(height, width, preprocessing);
  const across = taps(width, scaledColumns, columns, reach, weight);
  const down = taps(height, scaledRows, rows, reach, weight);
  const narrow = along(preprocessing.channels === 1 ? gray(data) : data, across, height, width, columns, 1);
  return new ImageData(along(narrow, down, columns, 1, 1, columns), columns, rows);
}

/**
 * Returns an image on the canvas of a detector: resized without antialiasing to its upper left, 0 elsewhere; and the
 * height and width that it has there. RGBA of any size -> floats (rows, columns, channels).
 */
export function placed({ data, width, height }, { image_size: [rows, columns], channels }, fit) {
  let scale = Math.min(rows / height, columns / width);
  if (fit) scale = Math.min(scale, fit[0] / Math.min(height, width), fit[1] / Math.max(height, width));
  const size = [height, width].map((length) => Math.max(Math.floor(length * scale), 1));
  const down = corners(height, size[0]);
  const across = corners(width, size[1]);
  const from = channels === 1 ? gray(data) : data;
  const pixels = new Float32Array(rows * columns * channels);
  const at = (row, column, channel) => from[4 * (row * width + column) + channel];
  down.forEach(([upper, lower, y], row) => {
    across.forEach(([left, right, x], column) => {
      for (let channel = 0; channel < channels; channel++) {
        const top = at(upper, left, channel) + (at(upper, right, channel) - at(upper, left, channel)) * x;
        const bottom = at(lower, left, channel) + (at(lower, right, channel) - at(lower, left, channel)) * x;
        pixels[channels * (row * columns + column) + channel] = top + (bottom - top) * y;
      }
    });
  });
  return { pixels, size };
}

/** Returns, for each pixel of an axis that is resized without antialiasing, its two neighbors and where it is between. */
function corners(length, scaled) {
  return Array.from({ length: scaled }, (_, i) => {
    const place = ((i + 0.5) * length) / scaled - 0.5;
    const first = Math.floor(place);
    return [Math.max(first, 0), Math.min(first + 1, length - 1), place - first];
  });
}

/** Returns the height and width that an image is resized to before its center is taken. */
function scaledSize(height, width, { image_size: [rows, columns], shorter_side: side }) {
  if (side !== null) {
    return [height, width].map((length) => Math.max(Math.floor((side * length) / Math.min(height, width)), 1));
  }
  const scale = Math.max(rows / height, columns / width);
  return [Math.max(nearest(height * scale), rows), Math.max(nearest(width * scale), columns)];
}

/** Returns the nearest whole number; of a half, the even one. */
function nearest(x) {
  return x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

/** Returns, for each pixel of the center of an axis that is resized, the pixels it is made of: { first, weights }. */
function taps(length, scaled, kept, reach, weight) {
  const corner = nearest((scaled - kept) / 2);
  const step = length / scaled;
  const blur = Math.max(step, 1); // smaller means antialiased
  return Array.from({ length: kept }, (_, i) => {
    const middle = (corner + i + 0.5) * step;
    const first = Math.max(Math.floor(middle - reach * blur + 0.5), 0);
    const end = Math.min(Math.floor(middle + reach * blur + 0.5), length);
    const weights = Array.from({ length: end - first }, (_, j) => weight((first + j + 0.5 - middle) / blur));
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((w) => w / sum) };
  });
}

/** Resizes `lines` along one axis, to whole numbers of 0-255; steps, in pixels, lead to the next line and along it. */
function along(source, made, lines, lineStep, madeLineStep, step) {
  const result = new Uint8ClampedArray(4 * lines * made.length);
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < made.length; i++) {
      const { first, weights } = made[i];
      for (let channel = 0; channel < 4; channel++) {
        let sum = 0.5;
        let at = 4 * (line * lineStep + first * step) + channel;
        for (let j = 0; j < weights.length; j++, at += 4 * step) sum += weights[j] * source[at];
        result[4 * (line * madeLineStep + i * step) + channel] = Math.floor(sum);
      }
    }
  }
  return result;
}

/** Returns RGBA pixels as gray ones, by the weights of JPEG. */
function gray(data) {
  const result = new Uint8ClampedArray(data);
  for (let i = 0; i < data.length; i += 4) {
    result.fill(Math.round(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]), i, i + 3);
  }
  return result;
}
