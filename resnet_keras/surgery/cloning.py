"""Copies of a network with another precision or input size, and its weights in another network of the same layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from resnet_keras.layers.batch_norm import fuse
from resnet_keras.layers.traversal import flat_layers


def clone(model: keras.Model) -> keras.Model:
    """Returns a copy of `model`, whose variables are on the current device."""
    return _copy(model, lambda key, value: value)


def clone_in_float32(model: keras.Model) -> keras.Model:
    """Returns a copy of `model` in which every layer computes in float32."""
    return _copy(model, lambda key, value: "float32" if key == "dtype" and _is_reduced(value) else value)


def clone_for_any_size(model: keras.Model) -> keras.Model:
    """Returns a copy of `model` for images of any height and width."""

    def freed(key: str, value: Any) -> Any:
        if key == "batch_shape" and len(value) == 4:
            return (value[0], None, None, value[3])
        return value

    return _copy(model, freed)


def transfer(source: keras.Model, target: keras.Model) -> tuple[str, ...]:
    """Assigns the weights of a network, and the epsilon of its batch normalizations, to layers of the same names.

    Epsilon is no weight, and weights of other libraries bring their own; see `load_weights`.

    Args:
        source: A network; models in it count as their layers.
        target: Another network, which has all its layers with weights.

    Returns:
        Names of the layers of `target` with weights that `source` does not have. They keep theirs.

    Raises:
        ValueError: `target` lacks a layer, or one has other shapes.
    """
    given, taking = ({layer.name: layer for layer in flat_layers(each) if layer.weights} for each in (source, target))
    if lacking := [name for name in given if name not in taking]:
        raise ValueError(f"Expected a network with a layer {lacking[0]!r}. Received: {target.name!r}, without")
    for name, layer in given.items():
        taking[name].set_weights(layer.get_weights())
        if isinstance(layer, keras.layers.BatchNormalization):
            taking[name].epsilon = layer.epsilon
    return tuple(name for name in taking if name not in given)


def _copy(model: keras.Model, change: Callable[[str, Any], Any]) -> keras.Model:
    copy = model.__class__.from_config(_changed(model.get_config(), change))
    copy.set_weights(model.get_weights())
    return fuse(copy)


def _changed(node: Any, change: Callable[[str, Any], Any]) -> Any:
    """Returns a model's configuration with each value replaced by `change(key, value)`."""
    if isinstance(node, dict):
        changed = {key: change(key, value) for key, value in node.items()}
        return {key: _changed(value, change) if value is node[key] else value for key, value in changed.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_changed(value, change) for value in node)
    return node


def _is_reduced(dtype: Any) -> bool:
    return isinstance(dtype, dict) or dtype in ("bfloat16", "float16", "mixed_bfloat16", "mixed_float16")
