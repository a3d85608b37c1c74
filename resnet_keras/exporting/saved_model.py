"""SavedModels with the signatures that TensorFlow Serving calls."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.exporting.constant_weights import CONSTANT_BYTES, with_fixed_weights
from resnet_keras.exporting.image_bytes import decode_images, fit_images
from resnet_keras.exporting.serving import Precision, serving_network
from resnet_keras.surgery.quantization import is_quantized

Pixels = Literal["uint8", "float32"]
Sizes = Literal["any", "fixed"]


def write_saved_model(
    classifier: Classifier,
    folder: Path,
    *,
    network: keras.Model | None = None,
    precision: Precision = "float32",
    pixels: Pixels = "uint8",
    sizes: Sizes = "any",
    top_k: int = 5,
    constant_bytes: float = CONSTANT_BYTES,
) -> None:
    """Writes a classifier as a SavedModel of four signatures, for any number N of images.

    - `serving_default` takes `images` (N, H, W, C), pixels 0–255, and returns `probabilities` float32 (N, classes).
    - `serve_bytes` takes `image_bytes` (N,), JPEG or PNG files, and returns the `top_k` most probable `classes` int32
      (N, k), and their `names`, `scores` (logits, float32) and `probabilities`, each (N, k).
    - `features` takes `images` and returns `features` float32 (N, channels), the input of the head, and `logits`
      float32 (N, classes).
    - `fixed_size` takes `images` of the network's size alone and returns `probabilities`, `features` and `logits`. It
      has no operation that resizes images, which ONNX and OpenVINO do not have either: converters read it.

    Batch normalization is folded into the convolutions. Small weights are constants of the graph, large ones variables
    that all signatures share. The class names are in `assets/class_names.txt`, one per line.

    Args:
        classifier: Network, preprocessing and class names.
        folder: Folder of the SavedModel.
        network: What `serving_network` returned for the classifier and the precision; made here if `None`.
        precision: Precision of the convolutions and of everything between the first and the last; pixels, pooling,
            head and all outputs are float32.
        pixels: Type of `images`.
        sizes: Whether `images` have the network's size, "fixed", or "any" size. Other sizes are resized and cropped as
            the classifier's preprocessing resizes and crops photographs.
        top_k: Number of classes that `serve_bytes` returns, or all if there are fewer.
        constant_bytes: Weights of up to so many bytes are constants. Those of quantization-aware training all are.

    Raises:
        ValueError: The network ends neither in logits nor in their softmax.
    """
    network = serving_network(classifier, precision) if network is None else network
    module = tf.Module()
    with files.scratch_folder() as scratch:
        asset = scratch / "class_names.txt"
        asset.write_text("".join(f"{name}\n" for name in classifier.class_names), encoding="utf-8")
        module.class_names = tf.saved_model.Asset(str(asset))
        compute, module.weights = _traced(network, constant_bytes)
        signatures = _signatures(classifier, compute, pixels, sizes, top_k)
        tf.saved_model.save(module, str(folder), signatures=signatures)


def _signatures(
    classifier: Classifier, compute: Any, pixels: Pixels, sizes: Sizes, top_k: int
) -> dict[str, tf.types.experimental.PolymorphicFunction]:
    preprocessing = classifier.preprocessing
    size = (None, None) if sizes == "any" else preprocessing.image_size
    images = tf.TensorSpec((None, *size, preprocessing.channels), tf.as_dtype(pixels), name="images")
    names = tf.constant(classifier.class_names)
    count = min(top_k, len(classifier.class_names))

    # AutoGraph has nothing to translate here, and would take most of the time.
    @tf.function(input_signature=[images], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(compute(fit_images(images, preprocessing))["logits"])}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")], autograph=False)
    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = compute(decode_images(image_bytes, preprocessing))["logits"]
        scores, classes = tf.math.top_k(logits, count)
        probabilities = tf.gather(tf.nn.softmax(logits), classes, batch_dims=1)
        return {
            "classes": classes,
            "names": tf.gather(names, classes),
            "scores": scores,
            "probabilities": probabilities,
        }

    @tf.function(input_signature=[images], autograph=False)
    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return compute(fit_images(images, preprocessing))

    whole = tf.TensorSpec((None, *preprocessing.image_size, preprocessing.channels), tf.as_dtype(pixels), name="images")

    @tf.function(input_signature=[whole], autograph=False)
    def fixed_size(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = compute(fit_images(images, preprocessing))
        return {"probabilities": tf.nn.softmax(outputs["logits"]), **outputs}

    return {"serving_default": serve, "serve_bytes": serve_bytes, "features": features, "fixed_size": fixed_size}


def _traced(
    network: keras.Model, constant_bytes: float
) -> tuple[tf.types.experimental.PolymorphicFunction, list[tf.Variable]]:
    """Returns a serving network as one function that all signatures call, traced and stored once; and its variables."""
    # TensorFlow rounds constants once when it loads the graph, and would round variables in each call.
    compute, variables = with_fixed_weights(network, math.inf if is_quantized(network) else constant_bytes)

    @tf.function(input_signature=[tf.TensorSpec(network.input_shape, tf.float32)], autograph=False)
    def call(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.cast(value, tf.float32) for name, value in compute(pixels).items()}

    return call, variables
