"""Converts a SavedModel to LiteRT; a program of its own.

`TFLiteConverter` prints thousands of lines and keeps its memory, so it runs in a child process, which imports nothing
of this package. Each line of its input is a job in JSON: the SavedModel, the calibration images (.npy), the file of
each format, the types that int8 takes and returns, and whether the network comes from quantization-aware training. It
prints a line of JSON for each file: its format and the seconds that it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

for _name in ("keras", "tf_keras"):
    sys.modules[_name] = None  # type: ignore[assignment]  # TensorFlow would import Keras, which takes a third longer

import tensorflow as tf  # noqa: E402


def convert(job: dict[str, Any], name: str) -> bytes:
    """Returns the flatbuffer of one format."""
    converter = tf.lite.TFLiteConverter.from_saved_model(job["saved_model"])
    if name != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if name in ("int8", "int16") and not job["quantization_aware"]:

        def images() -> Iterator[list[np.ndarray]]:
            for image in np.load(job["calibration"], allow_pickle=False):
                yield [image[None].astype(np.float32)]

        converter.representative_dataset = images
    if name == "int8":
        if not job["quantization_aware"]:  # otherwise the ranges in the graph decide which tensors are int8
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.as_dtype(job["int8_input"])
        converter.inference_output_type = tf.as_dtype(job["int8_output"])
    if name == "int16":
        kernels = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [kernels]
    return converter.convert()


def main() -> None:
    """Writes the artifacts of each job."""
    # Libraries print to the standard output, too, where only answers may be.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        job = json.loads(line)
        for name, path in job["artifacts"].items():
            start = time.monotonic()
            Path(path).write_bytes(convert(job, name))
            print(json.dumps({"format": name, "seconds": time.monotonic() - start}), file=answers, flush=True)


if __name__ == "__main__":
    main()
