"""LiteRT, for mobile devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

LITERT_FORMATS = ("float32", "float16", "dynamic_range", "int8")

_CONVERTER = Path(__file__).with_name("litert_converter.py")
_SHOWN_LINES = 15
_BUILTIN_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def convert(saved_model: Path, calibration: np.ndarray, artefacts: dict[str, Path]) -> None:
    """Converts a SavedModel of float32 pixels to each of the formats that `artefacts` gives a file for.

    Args:
        saved_model: Folder of the SavedModel.
        calibration: Pixels uint8 (N, H, W, C) whose activations set the scales of "int8".
        artefacts: File of each format.

    Raises:
        RuntimeError: The converter failed; the message ends with what it said.
    """
    images = saved_model.with_name("calibration.npy")
    np.save(images, calibration)
    pairs = [word for form, path in artefacts.items() for word in (form, str(path))]
    command = [sys.executable, str(_CONVERTER), str(saved_model), str(images), *pairs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.splitlines()[-_SHOWN_LINES:])
        raise RuntimeError(f"Expected a SavedModel that converts to {', '.join(artefacts)}. Received:\n{said}")


class LiteRTModel:
    """A `.tflite` file of one input and one output, ready to run."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    @property
    def input_type(self) -> str:
        """What the pixels (0–255) are given as."""
        return np.dtype(self._input["dtype"]).name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities: pixels uint8 (N, H, W, C) -> float32 (N, classes), one image at a time."""
        return np.concatenate([self._one(image[None]) for image in images])

    def _one(self, image: np.ndarray) -> Any:
        self._interpreter.set_tensor(self._input["index"], image.astype(self._input["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])


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
