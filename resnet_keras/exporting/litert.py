"""LiteRT files, for mobile devices and browsers."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import psutil
import tensorflow as tf

from resnet_keras import files
from resnet_keras.checks import extras
from resnet_keras.exporting.child_process import ChildProcess
from resnet_keras.exporting.constant_weights import CONSTANT_BYTES, with_fixed_weights
from resnet_keras.exporting.formats import FORMATS
from resnet_keras.surgery.quantization import is_quantized

with extras.required("export", "LiteRT"):
    from ai_edge_litert import schema_py_generated as schema

Int8Edge = Literal["uint8", "float32"]

_log = logging.getLogger(__name__)
_LARGE_BYTES = 32 << 20  # weights of networks whose formats are worth another import of TensorFlow
_PROCESS_BYTES, _BYTES_PER_WEIGHT_BYTE = 1 << 30, 12  # of a converting process
_BUILTIN_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def convert_to_litert(
    model: keras.Model,
    calibration: np.ndarray,
    artifacts: Mapping[Any, Path],
    *,
    batch: int | None = None,
    int8_input: Int8Edge = "uint8",
    int8_output: Int8Edge = "float32",
) -> None:
    """Converts a model to each of the formats that `artifacts` gives a file for.

    Args:
        model: A model of float32 pixels 0–255 (N, H, W, C) with one output, such as `probability_network` returns.
        calibration: Pixels uint8 (N, H, W, C), whose activations set the scales of "int8" and "int16". They are not
            used for a network from quantization-aware training.
        artifacts: File of each format.
        batch: Images per call; if `None`, the caller resizes the input, which is for one image in the file.
        int8_input: Type of the pixels, 0–255 in both, that "int8" takes.
        int8_output: Type of the probabilities that "int8" returns; in uint8 they are multiples of 1/256.

    Raises:
        ArtifactError: The converter failed; the message has its reason, and `output` the end of what it printed.
    """
    with litert_conversion(
        model, calibration, artifacts, batch=batch, int8_input=int8_input, int8_output=int8_output
    ) as converted:
        for _ in converted:
            pass


@contextmanager
def litert_conversion(
    model: keras.Model,
    calibration: np.ndarray,
    artifacts: Mapping[Any, Path],
    *,
    batch: int | None = None,
    int8_input: Int8Edge = "uint8",
    int8_output: Int8Edge = "float32",
) -> Iterator[Iterator[Any]]:
    """Converts in the background; yields an iterator of the formats, each returned as soon as its file is written.

    The arguments and errors are those of `convert_to_litert`.
    """
    groups = _groups(artifacts, 4 * model.count_params(), calibrated=not is_quantized(model))
    with files.scratch_folder() as scratch, ExitStack() as stack:
        # The children import TensorFlow while the graph is written.
        children = [stack.enter_context(ChildProcess("litert_converter.py")) for _ in groups]
        saved_model, images = scratch / "saved_model", scratch / "calibration.npy"
        np.save(images, calibration)
        _write_graph(model, saved_model, batch)
        job = {
            "saved_model": str(saved_model),
            "calibration": str(images),
            "int8_input": int8_input,
            "int8_output": int8_output,
            "quantization_aware": is_quantized(model),
        }
        for child, group in zip(children, groups, strict=True):
            _start(child, job, group)
        yield itertools.chain.from_iterable(map(_finished, children, groups))


def has_memory_for(conversions: int, weight_bytes: int) -> bool:
    """Returns whether a network with so many bytes of weights can be converted by as many processes at a time.

    One that converted ResNet-50, of 102 MB, in all formats took 1.7 GB; 2.2 GB are counted.
    """
    return psutil.virtual_memory().available > conversions * (_PROCESS_BYTES + _BYTES_PER_WEIGHT_BYTE * weight_bytes)


def _groups(artifacts: Mapping[Any, Path], weight_bytes: int, *, calibrated: bool) -> list[dict[Any, Path]]:
    """Returns the formats that each of one or two processes converts, side by side.

    Of a large network, the calibration of a format of integers takes as long as all formats of floats.
    """
    whole = dict(artifacts)
    integers = [name for name in whole if FORMATS[name].integer]
    large = weight_bytes > _LARGE_BYTES and has_memory_for(2, weight_bytes)
    if not (integers and calibrated and large and len(whole) > 1):
        return [whole]
    return [{name: path for name, path in whole.items() if name != integers[-1]}, {integers[-1]: whole[integers[-1]]}]


def convert_saved_model(folder: Path, artifacts: Mapping[Any, Path], *, quantization_aware: bool = False) -> None:
    """Converts a SavedModel with one signature, of any inputs and outputs.

    Args:
        folder: The SavedModel.
        artifacts: File of each format, "float32", "float16", or "dynamic_range"; or "int8", if fake quantization in the
            graph says what computes in 8 bits. Inputs and outputs stay as they are.
        quantization_aware: Whether there is fake quantization.

    Raises:
        ArtifactError: See `convert_to_litert`.
    """
    job = {
        "saved_model": str(folder),
        "quantization_aware": quantization_aware,
        "int8_input": "float32",
        "int8_output": "float32",
    }
    with ChildProcess("litert_converter.py") as child:
        _start(child, job, artifacts)
        for _ in _finished(child, artifacts):
            pass


def operators(path: Path) -> dict[str, int]:
    """Returns the number of each operator in a `.tflite` file; custom ones are named `custom:NAME`."""
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
    module = tf.Module()
    # The converter loads the graph three times for each format, and so would copy constants many times. With fake
    # quantization all weights are constants, as in its SavedModel.
    compute, module.weights = with_fixed_weights(model, math.inf if is_quantized(model) else CONSTANT_BYTES)
    images = tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": compute(images)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def _start(child: ChildProcess, job: dict[str, Any], artifacts: Mapping[Any, Path]) -> None:
    child.send({**job, "artifacts": {name: str(path) for name, path in artifacts.items()}})


def _finished(child: ChildProcess, artifacts: Mapping[Any, Path]) -> Iterator[Any]:
    for name in artifacts:
        advice = "Leave the format out with --formats to export the others"
        done = child.receive(f"a network that converts to {name}", artifacts[name], advice)
        _log.info("converted to %s in %.1f s, peak memory %.1f GB", name, done["seconds"], child.peak_memory() / 1e9)
        yield name
