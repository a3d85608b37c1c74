"""Where in a network an integer file loses what the float one computes."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras import extras

with extras.required("export", "LiteRT"):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType


@dataclass(frozen=True)
class LayerError:
    """How far a layer's output is off, with all that was lost before it.

    Attributes:
        layer: Its name in the network.
        error: Root of the mean square difference, as a part of the root mean square of the true output.
    """

    layer: str
    error: float


def layer_errors(reference: Path, integers: Path, pixels: np.ndarray) -> list[LayerError]:
    """Compares the outputs of all layers that two `.tflite` files of one network have in common.

    Args:
        reference: The file in float32.
        integers: The file in int8 or int16.
        pixels: Images to compare on, uint8 (N, H, W, C).

    Returns:
        An error for each layer, in the order of the graph; layers that a converter has merged have one together.
    """
    true, rounded = _opened(reference), _opened(integers)
    places = _tensors(rounded)
    common = {name: (about, places[name]) for name, about in _tensors(true).items() if name in places}
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


def worst(errors: list[LayerError], count: int = 3) -> str:
    """Returns the layers that add most to the error that comes in, in words."""
    before = [0.0, *(each.error for each in errors[:-1])]
    order = np.argsort([earlier - each.error for earlier, each in zip(before, errors, strict=True)], kind="stable")
    named = [f"{errors[i].layer} ({before[i]:.1%} to {errors[i].error:.1%})" for i in order[:count]]
    return "the layers that lose most, by the error of what comes in and goes out: " + ", ".join(named)


def _opened(path: Path) -> Interpreter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that keeping all tensors takes memory
        interpreter = Interpreter(
            str(path),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    interpreter.allocate_tensors()
    return interpreter


def _tensors(interpreter: Interpreter) -> dict[str, dict[str, Any]]:
    """Returns what each operator writes, by name, in the graph's order."""
    about = {each["index"]: each for each in interpreter.get_tensor_details()}
    written = [about[index] for op in interpreter._get_ops_details() for index in op["outputs"] if index in about]
    return {each["name"]: each for each in written if len(each["shape"]) > 1 and "/" in each["name"]}


def _layer(name: str) -> str:
    """Returns the layer of a tensor, e.g. stem_conv of 'x_1/stem_conv_1/BiasAdd;x_1/stem_conv_1/convolution'."""
    paths = [path.split("/") for path in name.split(";")]
    return re.sub(r"_\d+$", "", next(path[-2] for path in paths if len(path) > 1))
