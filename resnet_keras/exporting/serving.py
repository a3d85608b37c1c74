"""The network that an export serves: raw pixels in, features and logits out."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import features_and_logits
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.fake_quant import FakeQuant
from resnet_keras.surgery.folding import first_convolution, fold
from resnet_keras.surgery.quantization import PIXELS_RANGE, PIXELS_SCALE, is_quantized

Precision = Literal["float32", "bfloat16"]


def serving_network(classifier: Classifier, precision: Precision = "float32") -> keras.Model:
    """Returns preprocessing and network as one model, from which SavedModel and LiteRT files are made.

    Batch normalization is folded into the convolutions. The first convolution divides by the standard deviation of
    the pixels and has its input channels in the order RGB; what remains of the preprocessing is to subtract the mean.
    So int8 rounds the pixels once.

    Args:
        classifier: Network in any precision, preprocessing and class names. It is not changed.
        precision: Precision of the convolutions and of everything between the first and the last. Pixels, pooling,
            head and outputs are float32.

    Returns:
        A model of float32 RGB pixels 0–255 (N, *image_size, C) to a dictionary: `features` (N, channels), the input of
        the last dense layer, and `logits` (N, classes).

    Raises:
        ValueError: The network ends neither in logits nor in their softmax.
    """
    preprocessing = classifier.preprocessing
    network = fold(features_and_logits(classifier.model))
    pixels = keras.Input((*preprocessing.image_size, preprocessing.channels), dtype="float32", name="images")
    network, normalized = absorb_normalization(network, preprocessing, pixels)
    if precision != "float32":
        network = fold(network, precision=precision)
    return keras.Model(pixels, network(normalized), name=classifier.model.name)


def probability_network(network: keras.Model) -> keras.Model:
    """Returns a model of pixels to probabilities, as LiteRT files compute them.

    Args:
        network: A network from `serving_network`.

    Returns:
        A model of float32 RGB pixels 0–255 (N, *image_size, C) to float32 (N, classes).
    """
    pixels = keras.Input(network.input_shape[1:], dtype="float32", name="images")
    # The range tells the converter the scale of the uint8 pixels.
    x = FakeQuant((0.0, 255.0), name="raw_range")(pixels) if is_quantized(network) else pixels
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(network(x)["logits"])
    return keras.Model(pixels, probabilities, name=network.name)


def absorb_normalization(network: keras.Model, preprocessing: Preprocessing, pixels: Any) -> tuple[keras.Model, Any]:
    """Lets the first convolution scale and order the channels; returns the network and its input, made of `pixels`."""
    mean, std = (np.asarray(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    bgr = preprocessing.channel_order == "bgr"
    if is_quantized(network):
        std = np.full_like(std, np.mean(std))
        network, first = _without_scale(network, float(std[0]))
    else:
        first = first_convolution(network)
    if first is None:
        x = keras.ops.take(pixels, [2, 1, 0], axis=-1) if bgr else pixels
        return network, keras.ops.divide(keras.ops.subtract(x, mean), std)
    kernel = keras.ops.convert_to_numpy(first.kernel.value) / std[:, None]
    first.kernel.assign(kernel[:, :, ::-1] if bgr else kernel)
    return network, keras.ops.subtract(pixels, mean[::-1] if bgr else mean)


def _without_scale(network: keras.Model, std: float) -> tuple[keras.Model, keras.layers.Conv2D]:
    """Returns a quantized network for pixels less their mean, not divided by `std`, and its first convolution.

    Its channels have one scale, which the range of the pixels takes over.
    """
    scale, bounds = network.get_layer(PIXELS_SCALE), network.get_layer(PIXELS_RANGE)
    for end in (bounds.low, bounds.high):
        end.assign(end.value * std)
    body = keras.Model(scale.output, network.output, name=network.name)
    return body, next(layer for layer in body.layers if isinstance(layer, keras.layers.Conv2D))
