"""Iteration over the layers of a model, and the count of their parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras


def flat_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of `model` in order; a nested model is replaced by its own layers."""
    layers: list[keras.layers.Layer] = []
    for layer in model.layers:
        layers.extend(flat_layers(layer) if isinstance(layer, keras.Model) else (layer,))
    return layers


def parameter_count(variables: Iterable[keras.Variable]) -> int:
    """Returns the number of scalars in variables."""
    return sum(math.prod(variable.shape) for variable in variables)
