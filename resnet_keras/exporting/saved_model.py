"""SavedModel, as TensorFlow Serving wants it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from resnet_keras.applications.classifier import Classifier, outputs_logits
from resnet_keras.data.image_ops import normalize
from resnet_keras.exporting.constant_weights import with_constant_weights
from resnet_keras.exporting.image_bytes import decode_images, fit_images
from resnet_keras.layers.keras_internals import producer
from resnet_keras.surgery.folding import fold

Precision = Literal["float32", "bfloat16"]
Pixels = Literal["uint8", "float32"]
Sizes = Literal["any", "fixed"]


def write_saved_model(
    classifier: Classifier,
    folder: Path,
    *,
    precision: Precision = "float32",
    pixels: Pixels = "uint8",
    sizes: Sizes = "any",
    top_k: int = 5,
) -> None:
    """Writes a classifier as a SavedModel of three signatures, N being free in each.

    - `serving_default` takes `images` (N, H, W, C), pixels 0–255, and returns `probabilities` float32 (N, classes).
    - `serve_bytes` takes `image_bytes` (N,), files, and returns the `top_k` most probable `classes` int32 (N, k), their
      `names`, `scores` (logits, float32) and `probabilities` likewise.
    - `features` takes `images` and returns `features` float32 (N, channels), which the head sees, and `logits` float32
      (N, classes).

    Batch normalization is folded into the convolutions and the weights are constants of the graph, which is what
    TensorFlow's optimizer and kernels make the most of. The class names lie in `assets/class_names.txt`, one a line.

    Args:
        classifier: Network, preprocessing and class names.
        folder: Where to; it must not exist.
        precision: Of the convolutions and what is between; pixels, pooling, head and all outputs are float32.
        pixels: Type of `images`.
        sizes: Whether `images` are of the network's size alone, or of any size. Of other sizes they are resized and
            cropped as the classifier expects of whole photographs.
        top_k: Classes that `serve_bytes` returns, or all if there are fewer.
    """
    preprocessing = classifier.preprocessing
    network = _network(classifier, precision)
    size = (None, None) if sizes == "any" else preprocessing.image_size
    images = tf.TensorSpec((None, *size, preprocessing.channels), tf.as_dtype(pixels), name="images")
    names = tf.constant(classifier.class_names)
    count = min(top_k, len(classifier.class_names))

    @tf.function(input_signature=[images])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(network(fit_images(images, preprocessing))["logits"])}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = network(decode_images(image_bytes, preprocessing))["logits"]
        scores, classes = tf.math.top_k(logits, count)
        probabilities = tf.gather(tf.nn.softmax(logits), classes, batch_dims=1)
        return {
            "classes": classes,
            "names": tf.gather(names, classes),
            "scores": scores,
            "probabilities": probabilities,
        }

    @tf.function(input_signature=[images])
    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return network(fit_images(images, preprocessing))

    module = tf.Module()
    with tempfile.TemporaryDirectory() as scratch:
        asset = Path(scratch) / "class_names.txt"
        asset.write_text("".join(f"{name}\n" for name in classifier.class_names), encoding="utf-8")
        module.class_names = tf.saved_model.Asset(str(asset))
        signatures = {"serving_default": serve, "serve_bytes": serve_bytes, "features": features}
        tf.saved_model.save(module, str(folder), signatures=signatures)


def _network(classifier: Classifier, precision: Precision) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a function of pixels in float32 (N, H, W, C), whose weights are constants: features and logits."""
    preprocessing = classifier.preprocessing
    model = fold(_with_features(classifier.model), precision=precision)
    compute = with_constant_weights(model)

    @tf.function(input_signature=[tf.TensorSpec((None, *preprocessing.image_size, preprocessing.channels), tf.float32)])
    def network(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.cast(value, tf.float32) for name, value in compute(normalize(pixels, preprocessing)).items()}

    return network


def _with_features(model: keras.Model) -> keras.Model:
    """Returns a classifier's network with two outputs: what its last dense layer sees, and the logits."""
    logits = model.output
    if not outputs_logits(model):
        last = model.layers[-1]
        if not isinstance(last, (keras.layers.Activation, keras.layers.Softmax)):
            raise ValueError(
                "Expected a network whose softmax is a layer of its own, after the logits. "
                f"Received: {model.name}, which ends in {last.name}, a {type(last).__name__}"
            )
        logits = last.input
    dense = producer(logits)
    features = dense.input if isinstance(dense, keras.layers.Dense) else logits
    return keras.Model(model.input, {"features": features, "logits": logits}, name=model.name)
