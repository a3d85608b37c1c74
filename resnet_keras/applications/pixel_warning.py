"""A warning of the first `fit` of a network on pixels 0-255, where its weights expect normalized images."""

from __future__ import annotations

import functools
import itertools
import warnings
from typing import Any

import keras
import numpy as np

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.keras_internals import replace_method_once

_IMAGES = 8
_BRIGHT = 16.0  # no normalized image is as bright as that and has no negative value


def warn_of_pixels(model: keras.Model, preprocessing: Preprocessing | None) -> None:
    """Lets the first call of `model.fit` warn if its images are pixels 0-255.

    It looks at the first images of an array or tensor, or at the first batch of a `tf.data.Dataset` or
    `keras.utils.PyDataset`. The model and its saved file stay as they are.

    Args:
        model: A network with loaded weights.
        preprocessing: What the weights expect; without it, or if that is pixels 0-255, there is no warning.
    """
    if preprocessing is None or _expects_pixels(preprocessing):
        return
    fit = model.fit

    @functools.wraps(fit)
    def checked(x: Any = None, *args: Any, **kwargs: Any) -> Any:
        images = _first_images(x)
        if images is not None and images.min() >= 0 and images.max() > _BRIGHT:
            mean, std = (
                ", ".join(f"{value:.4g}" for value in values) for values in (preprocessing.mean, preprocessing.std)
            )
            warnings.warn(
                f"{model.name!r} is trained on images of up to {images.max():.0f}, which look like pixels 0-255; its "
                f"weights expect {preprocessing.channel_order.upper()} less ({mean}), divided by ({std}): "
                "`resnet_keras.preprocess_input(images, model=model)`",
                stacklevel=2,
            )
        return fit(x, *args, **kwargs)

    replace_method_once(model, "fit", checked)


def _expects_pixels(preprocessing: Preprocessing) -> bool:
    low = min(-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True))
    high = max((255 - mean) / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True))
    return low >= 0 and high > _BRIGHT


def _first_images(x: Any) -> np.ndarray | None:
    """Returns some images (N, H, W, C) of the data of a `fit`; `None` if they can't be had without taking them away."""
    if isinstance(x, keras.utils.PyDataset):
        x = x[0]
    elif hasattr(x, "element_spec") and hasattr(x, "take"):  # a `tf.data.Dataset`; this module imports no TensorFlow
        x = next(itertools.islice(x.take(1), 1), None)
    if isinstance(x, (tuple, list)):
        x = x[0] if x else None
    if len(getattr(x, "shape", ())) != 4 or 0 in x.shape:
        return None
    images = x[:_IMAGES]
    return images if isinstance(images, np.ndarray) else keras.ops.convert_to_numpy(images)
