"""The network that is exported: raw pixels in, probabilities out, in float32."""

from __future__ import annotations

from typing import Any

import keras

from resnet_keras.classifier import Classifier, gives_logits
from resnet_keras.normalization import fuse


def pixel_model(classifier: Classifier) -> keras.Model:
    """Returns preprocessing, network and softmax as one model: float32 pixels 0–255 (N, H, W, C) -> (N, classes).

    Height and width are those of the classifier's preprocessing. Whatever precision the network was trained in, this
    one computes in float32.
    """
    preprocessing = classifier.preprocessing
    pixels = keras.Input((*preprocessing.image_size, preprocessing.channels), dtype="float32", name="images")
    x = keras.layers.Rescaling(
        scale=[1 / std for std in preprocessing.std],
        offset=[-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)],
        dtype="float32",
        name="normalize",
    )(pixels)
    x = in_float32(classifier.model)(x)
    if gives_logits(classifier.model):
        x = keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(pixels, x, name=classifier.model.name)


def in_float32(model: keras.Model) -> keras.Model:
    """Returns a copy of `model` with the same weights, every layer of which computes in float32."""
    copy = model.__class__.from_config(_float32_config(model.get_config()))
    copy.set_weights(model.get_weights())
    return fuse(copy)


def _float32_config(node: Any) -> Any:
    """Returns a model's configuration with float32 for each half-precision type and each precision policy."""
    if isinstance(node, dict):
        return {
            key: "float32" if key == "dtype" and _is_reduced(value) else _float32_config(value)
            for key, value in node.items()
        }
    if isinstance(node, (list, tuple)):
        return type(node)(_float32_config(value) for value in node)
    return node


def _is_reduced(dtype: Any) -> bool:
    return isinstance(dtype, dict) or dtype in ("bfloat16", "float16", "mixed_bfloat16", "mixed_float16")
