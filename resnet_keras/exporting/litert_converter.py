"""Converts a SavedModel to LiteRT; a program of its own.

`TFLiteConverter` prints thousands of lines and keeps its memory, so it runs in a child process, which imports nothing
of this package. Arguments: the SavedModel, the calibration images (.npy), and a pair of format and file for each
artefact.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf


def convert(saved_model: str, calibration: str, form: str) -> bytes:
    """Returns the flatbuffer of one format; `int8` takes uint8 pixels and returns float32 probabilities."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form == "int8":

        def images() -> Iterator[list[np.ndarray]]:
            for image in np.load(calibration, allow_pickle=False):
                yield [image[None].astype(np.float32)]

        converter.representative_dataset = images
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    return converter.convert()


def main(arguments: list[str]) -> None:
    """Writes each artefact that is asked for."""
    saved_model, calibration, *pairs = arguments
    for form, path in zip(pairs[::2], pairs[1::2], strict=True):
        Path(path).write_bytes(convert(saved_model, calibration, form))


if __name__ == "__main__":
    main(sys.argv[1:])
