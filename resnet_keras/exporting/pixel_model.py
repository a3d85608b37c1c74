"""The network that is exported: raw pixels in, probabilities out, in float32."""

from __future__ import annotations

import keras

from resnet_keras.classifier import Classifier, gives_logits
from resnet_keras.copies import in_float32


def pixel_model(classifier: Classifier) -> keras.Model:
    """Returns preprocessing, network and softmax as one model: float32 pixels 0–255 (N, H, W, C) -> (N, classes).

    Height and width are those of the classifier's preprocessing, and colours are RGB. Whatever precision the network
    was trained in, this one computes in float32.
    """
    preprocessing = classifier.preprocessing
    pixels = keras.Input((*preprocessing.image_size, preprocessing.channels), dtype="float32", name="images")
    x = pixels
    if preprocessing.channel_order == "bgr":
        x = keras.ops.take(x, [2, 1, 0], axis=-1)  # to LiteRT a GATHER, which has an int8 kernel
    x = keras.layers.Rescaling(
        scale=[1 / std for std in preprocessing.std],
        offset=[-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)],
        dtype="float32",
        name="normalize",
    )(x)
    x = in_float32(classifier.model)(x)
    if gives_logits(classifier.model):
        x = keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(pixels, x, name=classifier.model.name)
