"""Batch normalization folded into convolutions for inference (arXiv:1712.05877, §3.2)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from resnet_keras.layers.keras_internals import call_count, consumers, producer
from resnet_keras.layers.traversal import flat_layers


def fold(model: keras.Model, *, precision: str = "float32") -> keras.Model:
    """Returns a copy of a network with each batch normalization folded into the convolution before it.

    With the scale s = γ / √(σ² + ε), the kernel of the convolution becomes s w and its bias s (b - μ) + β. A batch
    normalization without a convolution of its own, as in networks with pre-activation, stays as it is.

    Args:
        model: A functional network, with or without nested models.
        precision: "float32", "bfloat16" or "float16", the type of weights and computation; global pooling and later
            layers are always in float32.

    Returns:
        A functional network for inference only.
    """
    norms = conv_norm_pairs(model)
    dropped = {norm.name for norm in norms.values()}

    def copied(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):
            return layer.__class__.from_config(layer.get_config())  # an operation, such as a slice
        config = layer.get_config()
        config["dtype"] = precision if len(layer.output.shape) == 4 else "float32"
        if layer.name in norms:
            config["use_bias"] = True
        return layer.__class__.from_config(config)

    def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if getattr(layer, "name", None) in dropped else layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=copied, call_function=called, recursive=True)
    originals = {layer.name: layer for layer in flat_layers(model)}
    for layer in flat_layers(copy):
        if layer.weights:
            original, norm = originals[layer.name], norms.get(layer.name)
            layer.set_weights(original.get_weights() if norm is None else _kernel_and_bias(original, norm))
    return copy


def conv_norm_pairs(model: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """Returns the batch normalizations that can be folded, by the name of the convolution before them."""
    found = {}
    for layer in flat_layers(model):
        if not isinstance(layer, keras.layers.BatchNormalization) or call_count(layer) != 1:
            continue
        before = producer(layer.input)
        alone = len(consumers(before)) == 1 and call_count(before) == 1
        if isinstance(before, keras.layers.Conv2D) and alone and before.activation is keras.activations.linear:
            found[before.name] = layer
    return found


def first_convolution(model: keras.Model) -> keras.layers.Conv2D | None:
    """Returns the only consumer of a network's input, after zero padding at most; `None` if it is no convolution."""
    layer = model.get_layer(producer(model.input).name)
    while len(readers := consumers(layer)) == 1:
        (layer,) = readers
        if isinstance(layer, keras.layers.Conv2D):
            return layer
        if not isinstance(layer, keras.layers.ZeroPadding2D):
            return None
    return None


def scale_and_shift(norm: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scale and shift of a batch normalization in inference mode, float64 (C,) each."""
    mean, variance = (_values(value) for value in (norm.moving_mean, norm.moving_variance))
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * _values(norm.gamma)
    shift = -mean * scale
    return scale, shift if norm.beta is None else shift + _values(norm.beta)


def _kernel_and_bias(convolution: keras.layers.Conv2D, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    scale, shift = scale_and_shift(norm)
    bias = shift + scale * _values(convolution.bias) if convolution.use_bias else shift
    return [_values(convolution.kernel) * scale, bias]


def _values(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable.value), np.float64)
