"""LiteRT, for mobile devices."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from resnet_keras import extras
from resnet_keras.exporting.constant_weights import with_constant_weights
from resnet_keras.surgery.quantization import is_quantized

with extras.required("export", "LiteRT"):
    from ai_edge_litert import schema_py_generated as schema

LITERT_FORMATS = ("float32", "float16", "dynamic_range", "int8", "int16")
Int8Edge = Literal["uint8", "float32"]

_CONVERTER = Path(__file__).with_name("litert_converter.py")
_SHOWN_LINES = 15
_TOGETHER_BYTES = 32 << 20  # above it, each format has a process of its own, for the converter keeps its memory
_BUILTIN_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def convert_to_litert(
    model: keras.Model,
    calibration: np.ndarray,
    artifacts: Mapping[str, Path],
    *,
    batch: int | None = None,
    int8_input: Int8Edge = "uint8",
    int8_output: Int8Edge = "float32",
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Converts a pixel model to each of the formats that `artifacts` gives a file for.

    Args:
        model: See `pixel_model`.
        calibration: Pixels uint8 (N, H, W, C) whose activations set the scales of "int8" and "int16"; of a network
            that was trained for int8 they are not looked at.
        artifacts: File of each format.
        batch: Images in a call; `None` leaves it to the caller, who resizes the input (from 1, as the file is).
        int8_input: Type of the pixels, 0–255 in both, that "int8" takes.
        int8_output: Type of the probabilities that "int8" returns; in uint8 they are 256ths.
        log: Takes a line for each file.

    Raises:
        RuntimeError: The converter failed; the message ends with what it said.
    """
    size = 4 * model.count_params()  # bytes of float32
    with tempfile.TemporaryDirectory() as scratch:
        saved_model, images = Path(scratch) / "saved_model", Path(scratch) / "calibration.npy"
        np.save(images, calibration)
        _write_graph(model, saved_model, batch)
        whole = dict(artifacts)
        for part in [whole] if size <= _TOGETHER_BYTES else [{form: path} for form, path in whole.items()]:
            job = {
                "saved_model": str(saved_model),
                "calibration": str(images),
                "artifacts": {form: str(path) for form, path in part.items()},
                "int8_input": int8_input,
                "int8_output": int8_output,
                "trained_for_int8": is_quantized(model),
            }
            _run(job, log)


def operators(path: Path) -> dict[str, int]:
    """Returns the operators in a `.tflite` file and how often each stands there; custom ones as `custom:NAME`."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    counts: dict[str, int] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            name = f"custom:{code.customCode.decode()}" if code.customCode else _BUILTIN_NAMES[builtin]
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _write_graph(model: keras.Model, folder: Path, batch: int | None) -> None:
    """Writes a model as a SavedModel with one signature, of float32 pixels."""
    compute = with_constant_weights(model)

    @tf.function(input_signature=[tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": compute(images)}

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serve})


def _run(job: dict[str, object], log: Callable[[str], None]) -> None:
    # Isolated: TensorFlow looks for a module called `litert`, and must not find the one beside the converter.
    command = [sys.executable, "-I", str(_CONVERTER), json.dumps(job)]
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("converted to "):
                    log(line.rstrip())
        if process.returncode != 0:
            said.seek(0)
            told = "\n".join(said.read().splitlines()[-_SHOWN_LINES:])
            forms = ", ".join(job["artifacts"])  # type: ignore[arg-type]
            raise RuntimeError(f"Expected a network that converts to {forms}. Received:\n{told}")
