"""`preprocess_input` and `decode_predictions`, which users of `keras.applications` know."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.class_names import imagenet_words, wordnet_ids
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.weights.published import imagenet_preprocessing

DataFormat = Literal["channels_last", "channels_first"]


def preprocess_input(
    x: Any,
    data_format: DataFormat | None = None,
    *,
    model: keras.Model | Classifier | Preprocessing | str | None = None,
) -> Any:
    """Returns RGB pixels 0–255, normalized as a network's weights expect them; `x` is not changed.

    `keras.applications` has such a function in each module. Here one function asks for the network: the "imagenet"
    weights of ResNet-50, -101 and -152 take BGR less the mean color (`keras.applications.resnet`), and those of their
    V2 take -1 to 1 (`keras.applications.resnet_v2`). The others are torchvision's, which take RGB less ImageNet's mean,
    divided by its standard deviation. Images need the network's size; `Classifier.preprocess` resizes and crops.

    Example:
        >>> model = resnet_keras.ResNet50(weights="imagenet")
        >>> outputs = model.predict(resnet_keras.preprocess_input(images, model=model))
        >>> resnet_keras.decode_predictions(outputs, top=3)

    Args:
        x: An array, or a tensor of the backend: (N, H, W, C) or (H, W, C), or with channels first by `data_format`.
        data_format: "channels_last" or "channels_first"; that of Keras's configuration if `None`.
        model: A model that a builder has made with `weights`, a classifier, a `Preprocessing`, or the name of a network
            with "imagenet" weights, such as "resnet50".

    Returns:
        An array for an array and a tensor for a tensor, in Keras's float type, of the same shape.

    Raises:
        ValueError: `model` is missing, or its preprocessing is not known; or `x` has another number of channels.
    """
    found = _preprocessing_of(model)
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"Expected `data_format` 'channels_last' or 'channels_first'. Received: {data_format!r}")
    is_tensor = keras.backend.is_keras_tensor(x) or keras.ops.is_tensor(x)
    x = keras.ops.cast(x if is_tensor else np.asarray(x), keras.config.floatx())
    axis = -1 if data_format == "channels_last" else -3
    if len(x.shape) not in (3, 4) or x.shape[axis] != found.channels:
        raise ValueError(f"Expected images with {found.channels} channels, {data_format}. Received: shape {x.shape}")
    if found.channel_order == "bgr":
        x = keras.ops.flip(x, axis)
    shape = (-1, *(1,) * (-axis - 1))
    mean, std = (np.reshape(value, shape).astype(keras.config.floatx()) for value in (found.mean, found.std))
    x = (x - mean) / std
    return x if is_tensor else keras.ops.convert_to_numpy(x)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Returns the `top` most probable classes of ImageNet for each image, as `keras.applications` does.

    Args:
        preds: Probabilities, or other scores, of ImageNet's 1000 classes in the order of their WordNet ids (N, 1000).
        top: Number of classes per image.

    Returns:
        For each image a list of (WordNet id, name, score), the highest score first. Words of a name are joined by "_".

    Raises:
        ValueError: There are no 1000 classes; `Classifier.predict` has the names of others.
    """
    scores = np.asarray(preds if isinstance(preds, np.ndarray) else keras.ops.convert_to_numpy(preds))
    if scores.ndim != 2 or scores.shape[1] != 1000:
        raise ValueError(
            "Expected scores of ImageNet's classes, of shape (N, 1000); `Classifier.predict` names other classes. "
            f"Received: shape {scores.shape}"
        )
    if top < 1:
        raise ValueError(f"Expected `top` of at least 1. Received: {top}")
    ids, names = wordnet_ids(), imagenet_words()
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(ids[i], names[i], float(row[i])) for i in best] for row, best in zip(scores, order, strict=True)]


def _preprocessing_of(model: Any) -> Preprocessing:
    if isinstance(model, Preprocessing):
        return model
    if isinstance(model, str):
        return imagenet_preprocessing(model)
    found = getattr(model, "preprocessing", None)
    if isinstance(found, Preprocessing):
        return found
    received = f"{model.name!r}, without" if isinstance(model, keras.Model) else repr(model)
    raise ValueError(
        "Expected `model`, because networks differ in what they take: a model that a builder of this package has made "
        "with `weights`, a classifier, a Preprocessing, or the name of a network with 'imagenet' weights. "
        f"Received: {received}"
    )
