"""Converts a SavedModel to LiteRT; a program of its own.

`TFLiteConverter` prints thousands of lines and keeps its memory, so it runs in a child process, which imports nothing
of this package. Its argument is JSON: the SavedModel, the calibration images (.npy), the file of each format, the types
that int8 takes and returns, and whether the network was trained for int8. It prints a line for each file written.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


def convert(job: dict[str, Any], form: str) -> bytes:
    """Returns the flatbuffer of one format."""
    converter = tf.lite.TFLiteConverter.from_saved_model(job["saved_model"])
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form in ("int8", "int16") and not job["trained_for_int8"]:

        def images() -> Iterator[list[np.ndarray]]:
            for image in np.load(job["calibration"], allow_pickle=False):
                yield [image[None].astype(np.float32)]

        converter.representative_dataset = images
    if form == "int8":
        if not job["trained_for_int8"]:  # else the ranges in the graph say what is int8
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.as_dtype(job["int8_input"])
        converter.inference_output_type = tf.as_dtype(job["int8_output"])
    if form == "int16":
        kernels = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [kernels]
    return converter.convert()


def main(arguments: list[str]) -> None:
    """Writes each artifact that is asked for."""
    job = json.loads(arguments[0])
    for form, path in job["artifacts"].items():
        start = time.monotonic()
        Path(path).write_bytes(convert(job, form))
        print(f"converted to {form} in {time.monotonic() - start:.1f} s, {_peak()} of memory at most", flush=True)


def _peak() -> str:
    status = Path("/proc/self/status")
    if not status.is_file():
        return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9:.1f} GB"
    # Of this process alone; `getrusage` would tell of its parent, too.
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return f"{int(line.split()[1]) / 1e6:.1f} GB"


if __name__ == "__main__":
    main(sys.argv[1:])
