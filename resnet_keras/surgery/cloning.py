"""Copies of a network with the same weights and another precision or input size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from resnet_keras.layers.batch_norm import fuse


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
