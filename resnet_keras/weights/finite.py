"""Weights that compute: finite in the network's precision, with variances of at least 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from resnet_keras.weights.keras_file import arrays_of_model

_SHOWN = 5


def not_finite(arrays: Mapping[str, np.ndarray], called: Callable[[str], str] = str) -> list[str]:
    """Returns a line for each array with NaN, infinity, or a negative moving variance.

    Args:
        arrays: Arrays under `layer/weight`, in the precision of the network.
        called: Returns the name of an array in a message.
    """
    found = []
    for name, array in arrays.items():
        if array.size and not np.isfinite(array).all():
            count = int(array.size - np.isfinite(array).sum())
            found.append(f"{called(name)}: {count:,} of {array.size:,} numbers are not finite")
        elif name.endswith("/moving_variance") and array.size and array.min() < 0:
            found.append(f"{called(name)}: {int((array < 0).sum()):,} of {array.size:,} variances are negative")
    return found


def check_finite(lines: list[str], source: str, advice: str = "") -> None:
    """Raises an error if there are lines of `not_finite`.

    Raises:
        ValueError: There are; the message has the first of them.
    """
    if lines:
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise ValueError(
            f"Expected finite weights in float32, and no negative variance{advice}. "
            f"Received: {source}, with {'; '.join(lines[:_SHOWN])}{more}"
        )


def check_finite_model(model: keras.Model | Any) -> None:
    """Checks the weights of a network before it is exported.

    Raises:
        ValueError: Some are not finite, or a variance is negative; the message names them.
    """
    check_finite(not_finite(arrays_of_model(model)), model.name)
