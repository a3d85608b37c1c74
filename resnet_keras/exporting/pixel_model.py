"""The network that LiteRT files are made of: raw pixels in, probabilities out, in float32."""

from __future__ import annotations

import keras

from resnet_keras.classifier import Classifier, gives_logits
from resnet_keras.folding import folded
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.quantization import FakeQuant, is_quantized


def pixel_model(classifier: Classifier) -> keras.Model:
    """Returns preprocessing, network and softmax as one model: float32 pixels 0–255 (N, H, W, C) -> (N, classes).

    Height and width are those of the classifier's preprocessing, and colours are RGB. Whatever precision the network
    was trained in, this one computes in float32, and its convolutions do what batch normalisation did. Where the
    network was trained for int8, what comes before it is quantised as well.
    """
    preprocessing = classifier.preprocessing
    scale, offset = _scale_and_offset(preprocessing)
    quantized = is_quantized(classifier.model)
    pixels = keras.Input((*preprocessing.image_size, preprocessing.channels), dtype="float32", name="images")
    x = FakeQuant((0.0, 255.0), name="pixels_range")(pixels) if quantized else pixels
    if preprocessing.channel_order == "bgr":
        x = keras.ops.take(x, [2, 1, 0], axis=-1)  # to LiteRT a GATHER, which has an int8 kernel
    if quantized:
        x = keras.layers.Rescaling(scale=scale, dtype="float32", name="scale")(x)
        x = FakeQuant((0.0, 255.0 * max(scale)), name="scale_range")(x)
        x = keras.layers.Rescaling(scale=1.0, offset=offset, dtype="float32", name="offset")(x)
    else:
        x = keras.layers.Rescaling(scale=scale, offset=offset, dtype="float32", name="normalize")(x)
    x = folded(classifier.model)(x)
    if gives_logits(classifier.model):
        x = keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(pixels, x, name=classifier.model.name)


def _scale_and_offset(preprocessing: Preprocessing) -> tuple[list[float], list[float]]:
    scale = [1 / std for std in preprocessing.std]
    return scale, [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
