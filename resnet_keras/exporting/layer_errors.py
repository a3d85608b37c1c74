"""Quantization errors, layer by layer, of an integer LiteRT file against the float one."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.checks import extras

with extras.required("export", "LiteRT"):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType


@dataclass(frozen=True)
class LayerError:
    """Quantization error of a layer's output, including the errors of the layers before it.

    Attributes:
        layer: Name of the layer in the network.
        error: Root mean square of the difference, divided by the root mean square of the float output.
    """

    layer: str
    error: float


def layer_errors(reference: Path, integers: Path, pixels: np.ndarray) -> list[LayerError]:
    """Compares the layers that two `.tflite` files of one network have in common.

    Args:
        reference: The file in float32.
        integers: The file in int8 or int16.
        pixels: Images uint8 (N, H, W, C).

    Returns:
        An error for each layer, in the order of the graph. Layers that the converter has merged have one error.
    """
    true, rounded = _opened(reference), _opened(integers)
    other = _tensors(rounded)
    common = {name: (tensor, other[name]) for name, tensor in _tensors(true).items() if name in other}
    squares = {name: np.zeros(2) for name in common}
    for image in pixels:
        for interpreter in (true, rounded):
            given = interpreter.get_input_details()[0]
            interpreter.set_tensor(given["index"], image[None].astype(given["dtype"]))
            interpreter.invoke()
        for name, (first, second) in common.items():
            expected = true.get_tensor(first["index"]).astype(np.float64)
            scale, zero = second["quantization"]
            found = (rounded.get_tensor(second["index"]).astype(np.float64) - zero) * scale
            squares[name] += [((found - expected) ** 2).sum(), (expected**2).sum()]
    return [
        LayerError(_layer(name), float(np.sqrt(lost / max(whole, np.finfo(float).tiny))))
        for name, (lost, whole) in squares.items()
    ]


def largest_errors(errors: list[LayerError], count: int = 3) -> str:
    """Returns a phrase that names the layers which add most to the error of their input."""
    before = [0.0, *(each.error for each in errors[:-1])]
    order = np.argsort([earlier - each.error for earlier, each in zip(before, errors, strict=True)], kind="stable")
    named = [f"{errors[i].layer} ({before[i]:.1%} to {errors[i].error:.1%})" for i in order[:count]]
    return "the largest quantization errors, before and after the layer: " + ", ".join(named)


def _opened(path: Path) -> Interpreter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the memory that all tensors take
        interpreter = Interpreter(
            str(path),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    interpreter.allocate_tensors()
    return interpreter


def _tensors(interpreter: Interpreter) -> dict[str, dict[str, Any]]:
    """Returns the output of each operator by its name, in the order of the graph."""
    details = {each["index"]: each for each in interpreter.get_tensor_details()}
    written = [details[index] for op in interpreter._get_ops_details() for index in op["outputs"] if index in details]
    return {each["name"]: each for each in written if len(each["shape"]) > 1 and "/" in each["name"]}


def _layer(name: str) -> str:
    """Returns the layer of a tensor, e.g. stem_conv of 'x_1/stem_conv_1/BiasAdd;x_1/stem_conv_1/convolution'."""
    paths = [path.split("/") for path in name.split(";")]
    return re.sub(r"_\d+$", "", next(path[-2] for path in paths if len(path) > 1))
