"""Runs a SavedModel as a stranger would: with TensorFlow, without this package; a program of its own.

Arguments: the SavedModel, the pixels (.npy), where to write the probabilities (.npy). Prints JSON: the signature, the
graph's operators, and the median latency of one image.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import tensorflow as tf

BATCH = 64
TIMED = 30


def main(arguments: list[str]) -> dict[str, Any]:
    """Writes the probabilities and returns what is to be printed."""
    folder, pixels_file, out = arguments
    loaded = tf.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]
    (spec,) = serve.structured_input_signature[1].values()
    pixels = np.load(pixels_file, allow_pickle=False)

    def run(images: np.ndarray) -> np.ndarray:
        return serve(**{spec.name: tf.constant(images, spec.dtype)})["probabilities"].numpy()

    np.save(out, np.concatenate([run(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]))
    times = []
    for _ in range(TIMED + 5):
        start = time.perf_counter()
        run(pixels[:1])
        times.append(time.perf_counter() - start)
    definition = serve.graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return {
        "input": {"name": spec.name, "type": spec.dtype.name, "shape": spec.shape.as_list()},
        "outputs": {name: value.shape.as_list() for name, value in serve.structured_outputs.items()},
        "operators": dict(sorted(Counter(node.op for node in nodes).items())),
        "latency_ms": 1000 * float(np.median(times[5:])),
        "package_loaded": "resnet_keras" in sys.modules,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
