"""A warning of the first `fit` on pixels 0-255 of a network whose weights expect normalized images."""

from __future__ import annotations

import functools
import itertools
import threading
import warnings
from typing import Any

import keras
import numpy as np

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.keras_internals import replace_method, running_fit
from resnet_keras.layers.traversal import flat_layers

_IMAGES = 8
_BRIGHT = 16.0  # no normalized image is as bright as that and has no negative value


def warn_of_pixels(model: keras.Model, preprocessing: Preprocessing | None) -> None:
    """Lets the first `fit` of a network, or of a model around it, warn if pixels 0-255 arrive at the network.

    The first layer looks at what arrives there for the first images of the data: an array or tensor, or the first batch
    of a `tf.data.Dataset`, a `keras.utils.PyDataset`, or a generator. Layers before the network count, such as a
    `Rescaling`. The class and the saved file stay as they are.

    Args:
        model: A network with loaded weights.
        preprocessing: What the weights expect; without it, or if that is pixels 0-255, there is no warning.
    """
    if preprocessing is None or _expects_pixels(preprocessing):
        return
    first = next((layer for layer in flat_layers(model) if not isinstance(layer, keras.layers.InputLayer)), None)
    if first is None:
        return
    call, name = first.call, model.name
    own: set[int] = set()  # threads whose images are looked at
    arrived: list[np.ndarray] = []

    @functools.wraps(call)
    def looked_at(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() in own:
            arrived.append(keras.ops.convert_to_numpy(inputs))
            raise _Arrived
        fit = running_fit()
        if fit is not None:
            _run_apart(fit.model, fit.data, own)
            vars(first).pop("call", None)  # only the first `fit` is looked at
            if arrived and arrived[0].min() >= 0 and arrived[0].max() > _BRIGHT:
                _warn(name, float(arrived[0].max()), preprocessing, fit.depth)
        return call(inputs, *args, **kwargs)

    replace_method(first, "call", looked_at)


class _Arrived(Exception):
    """Ends a call of a model whose images have arrived at the layer."""


def _run_apart(model: keras.Model, data: Any, own: set[int]) -> None:
    """Calls a model on the first images in a thread of its own, since that of `fit` may be tracing a graph."""

    def called() -> None:
        own.add(threading.get_ident())
        try:
            images = _first_images(data)
            if images is not None:
                model(images, training=False)
        except Exception:  # `_Arrived`, or a model that takes something else, of which nothing is known
            return

    thread = threading.Thread(target=called, daemon=True)
    thread.start()
    thread.join()


def _warn(name: str, brightest: float, preprocessing: Preprocessing, depth: int) -> None:
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    warnings.warn(
        f"{name!r} is trained on images of up to {brightest:.0f}, which look like pixels 0-255; its weights expect "
        f"{preprocessing.channel_order.upper()} less ({mean}), divided by ({std}): "
        "`resnet_keras.preprocess_input(images, model=model)`",
        stacklevel=depth + 2,
    )


def _expects_pixels(preprocessing: Preprocessing) -> bool:
    low = min(-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True))
    high = max((255 - mean) / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True))
    return low >= 0 and high > _BRIGHT


def _first_images(x: Any) -> np.ndarray | None:
    """Returns some images (N, H, W, C) of the data of a `fit`; `None` if there are none."""
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
