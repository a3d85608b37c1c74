"""The network that LiteRT files are made of: raw pixels in, probabilities out, in float32."""

from __future__ import annotations

import keras
import numpy as np

from resnet_keras.applications.classifier import Classifier, outputs_logits
from resnet_keras.layers.fake_quant import FakeQuant
from resnet_keras.surgery.folding import first_convolution, fold
from resnet_keras.surgery.quantization import PIXELS_RANGE, PIXELS_SCALE, is_quantized


def pixel_model(classifier: Classifier) -> keras.Model:
    """Returns preprocessing, network and softmax as one model: float32 pixels 0–255 (N, H, W, C) -> (N, classes).

    Height and width are those of the classifier's preprocessing, and colors are RGB. Whatever precision the network
    was trained in, this one computes in float32, and its convolutions do what batch normalization did. The first of
    them divides by the pixels' deviation, too, so that pixels are rounded to int8 once, less their mean.
    """
    preprocessing = classifier.preprocessing
    network = fold(classifier.model)
    pixels = keras.Input((*preprocessing.image_size, preprocessing.channels), dtype="float32", name="images")
    x = pixels
    if is_quantized(network):
        x = FakeQuant((0.0, 255.0), name="raw_range")(x)
    if preprocessing.channel_order == "bgr":
        x = keras.ops.take(x, [2, 1, 0], axis=-1)  # to LiteRT a GATHER, which has an int8 kernel
    mean, std = (np.asarray(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    x = keras.ops.subtract(x, mean)
    if is_quantized(network):
        x = _without_scale(network, std)(x)
    elif (first := first_convolution(network)) is not None:
        first.kernel.assign(keras.ops.convert_to_numpy(first.kernel.value) / std[:, None])
        x = network(x)
    else:
        x = network(keras.ops.divide(x, std))
    if outputs_logits(classifier.model):
        x = keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(pixels, x, name=classifier.model.name)


def _without_scale(network: keras.Model, std: np.ndarray) -> keras.Model:
    """Returns a quantized network of pixels less their mean, in place of those divided by the deviation as well.

    Its channels have one scale; with the range, it goes over from the pixels to the first kernel.
    """
    scale, bounds = network.get_layer(PIXELS_SCALE), network.get_layer(PIXELS_RANGE)
    one = float(np.mean(std))
    body = keras.Model(scale.output, network.output, name=network.name)
    for end in (bounds.low, bounds.high):
        end.assign(end.value * one)
    first = next(layer for layer in body.layers if isinstance(layer, keras.layers.Conv2D))
    first.kernel.assign(first.kernel.value / one)
    return body
