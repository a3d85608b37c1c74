"""ONNX files, for ONNX Runtime and what else reads them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.checks import extras
from resnet_keras.exporting.child_process import ChildProcess
from resnet_keras.exporting.constant_weights import with_fixed_weights

OPSET = 17
"""Of the standard operators, which ONNX Runtime has run since version 1.12."""

PACKAGES = ("onnx", "onnxruntime", "tf2onnx")

_log = logging.getLogger(__name__)


def require_onnx() -> None:
    """Checks that the packages of ONNX are installed; imports none of them.

    Raises:
        MissingExtra: One is not installed.
    """
    extras.expect_installed("onnx", "ONNX", *PACKAGES)


def write_onnx(
    network: keras.Model,
    path: Path,
    *,
    pixels: Literal["uint8", "float32"] = "uint8",
    batch: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a network as an ONNX file, converted by tf2onnx.

    The input is `images`, pixels 0–255 (N, H, W, C) as for LiteRT. The outputs are float32: `probabilities` and
    `logits` (N, classes), and `features` (N, channels), the input of the last dense layer.

    Args:
        network: A network from `serving_network`, without quantization-aware training.
        path: The file.
        pixels: Type of the pixels.
        batch: Images per call; any number if `None`.
        metadata: Texts by their names, which the file contains.

    Raises:
        MissingExtra: The packages of ONNX are not installed.
        ArtifactError: The converter failed; the message has its reason.
    """
    with onnx_conversion(network, path, pixels=pixels, batch=batch, metadata=metadata) as finish:
        finish()


@contextmanager
def onnx_conversion(
    network: keras.Model,
    path: Path,
    *,
    pixels: Literal["uint8", "float32"] = "uint8",
    batch: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Iterator[Callable[[], None]]:
    """Converts in the background; yields a function that waits until the file is written.

    The arguments and errors are those of `write_onnx`.
    """
    require_onnx()
    with files.scratch_folder() as scratch, ChildProcess("onnx_converter.py") as child:
        saved_model = scratch / "saved_model"
        _write_graph(network, saved_model, pixels, batch)
        job = {"saved_model": str(saved_model), "path": str(path), "opset": OPSET, "name": network.name}
        child.send({**job, "metadata": dict(metadata or {})})

        def finish() -> None:
            done = child.receive("a network that converts to ONNX", path, "Leave the format out with --formats")
            _log.info("converted to onnx in %.1f s, peak memory %.1f GB", done["seconds"], child.peak_memory() / 1e9)

        yield finish


def onnx_metadata(classifier: Classifier) -> dict[str, str]:
    """Returns the metadata of a classifier's file: `class_names` and `preprocessing` in JSON, and a sentence.

    The graph normalizes the pixels itself; `preprocessing` says how photographs become them.
    """
    return {
        "class_names": json.dumps(list(classifier.class_names)),
        "preprocessing": json.dumps(classifier.preprocessing.to_json()),
        "description": "Pixels 0-255, RGB or gray, (N, height, width, channels); the graph normalizes them.",
        "producer": f"resnet_keras, tf2onnx {metadata.version('tf2onnx')}",
    }


def onnx_operators(path: Path) -> dict[str, int]:
    """Returns the number of each operator in an ONNX file; those of other domains are named `custom:NAME`."""
    with extras.required("onnx", "ONNX"):
        import onnx
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    names = (node.op_type if node.domain in ("", "ai.onnx") else f"custom:{node.op_type}" for node in nodes)
    return dict(sorted(Counter(names).items()))


def _write_graph(network: keras.Model, folder: Path, pixels: str, batch: int | None) -> None:
    """Writes a network as a SavedModel with one signature."""
    module = tf.Module()
    compute, module.weights = with_fixed_weights(network)
    images = tf.TensorSpec((batch, *network.input_shape[1:]), tf.as_dtype(pixels), name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = compute(tf.cast(images, tf.float32))
        return {"probabilities": tf.nn.softmax(outputs["logits"]), **outputs}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
