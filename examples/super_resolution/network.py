"""EDSR: a deep residual network that enlarges images (arXiv:1707.02921)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from resnet_keras.networks import convolution, relu

FACTORS = {2: (2,), 3: (3,), 4: (2, 2)}
"""Factors of the sub-pixel upsamplings of each scale (Fig. 3; x4 is x2 twice)."""

MEAN = (114.444, 111.4605, 103.02)
"""Mean of DIV2K's photographs in RGB, 0–255, which the authors subtract."""

SPREAD = 127.5
"""Divisor of the pixels less their mean."""


def edsr(scale: int, *, blocks: int = 16, channels: int = 64) -> keras.Model:
    """Returns EDSR, freshly initialized: pixels 0–255 float32 (N, H, W, 3) -> (N, scale H, scale W, 3).

    All blocks work at the size of the small image; the last convolutions enlarge it (Fig. 3). Sixteen blocks of 64
    channels are EDSR-baseline (§4.2): 1,369,859 parameters for x2 and 1,517,571 for x4.

    Args:
        scale: Factor of the enlargement: 2, 3 or 4.
        blocks: Number of residual blocks.
        channels: Channels of every convolution, except those that enlarge and the last.

    Raises:
        ValueError: `scale` is another number, or `blocks` or `channels` is below 1.
        ImportError: Keras is older than 3.14 and has no `depth_to_space`.
    """
    if scale not in FACTORS:
        raise ValueError(f"Expected `scale` to be one of {tuple(FACTORS)}. Received: {scale}")
    for name, value in (("blocks", blocks), ("channels", channels)):
        if value < 1:
            raise ValueError(f"Expected `{name}` of at least 1. Received: {value}")
    if not hasattr(ops, "depth_to_space"):
        raise ImportError(f"Expected Keras 3.14 or later, for `depth_to_space`. Received: {keras.__version__}")
    pixels = keras.Input((None, None, 3), name="pixels")
    offset = (-np.array(MEAN) / SPREAD).tolist()
    x = layers.Rescaling(1 / SPREAD, offset, dtype="float32", name="normalized")(pixels)
    x = features = convolution(x, channels, 3, use_bias=True, name="stem")
    for number in range(1, blocks + 1):
        x = block(x, channels, name=f"block{number}")
    x = convolution(x, channels, 3, use_bias=True, name="body")
    x = layers.Add(name="body_add")([features, x])
    for number, factor in enumerate(FACTORS[scale], start=1):
        x = convolution(x, factor**2 * channels, 3, use_bias=True, name=f"upsample{number}")
        x = ops.depth_to_space(x, factor)  # (N, h, w, f² channels) -> (N, f h, f w, channels), arXiv:1609.05158
    x = convolution(x, 3, 3, use_bias=True, name="head")
    x = layers.Rescaling(SPREAD, list(MEAN), dtype="float32", name="enlarged")(x)
    model = keras.Model(pixels, x, name=f"edsr_x{scale}")
    _scale_kernels(model)
    return model


def block(x: Any, channels: int, *, name: str) -> Any:
    """Returns x + F(x), without normalization and without a ReLU after the sum (Fig. 2, right)."""
    residual = convolution(x, channels, 3, use_bias=True, name=f"{name}_conv1")
    residual = relu(residual, name=f"{name}_relu")
    residual = convolution(residual, channels, 3, use_bias=True, name=f"{name}_conv2")
    return layers.Add(name=f"{name}_add")([x, residual])


def transfer_weights(model: keras.Model, trained: keras.Model) -> list[str]:
    """Copies the weights of `trained`, a network of another scale, as the authors initialize x4 with x2 (§3.2).

    Returns:
        The names of the layers that `trained` lacks; they keep their weights.

    Raises:
        ValueError: A layer of the same name has weights of another shape, or the networks share no names.
    """
    there = {layer.name: layer for layer in trained.layers if layer.weights}
    wanted = [layer for layer in model.layers if layer.weights]
    shared = [layer for layer in wanted if layer.name in there]
    for layer in shared:
        shapes = [[tuple(weight.shape) for weight in each.weights] for each in (layer, there[layer.name])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Expected {layer.name} with weights of shapes {shapes[0]}. Received: {shapes[1]}")
    if not shared:
        raise ValueError(f"Expected a network with layers as of {model.name}. Received: {trained.name}")
    for layer in shared:
        layer.set_weights(there[layer.name].get_weights())
    return [layer.name for layer in wanted if layer.name not in there]


def _scale_kernels(model: keras.Model) -> None:
    """Gives kernels a variance of 1 / (3 fan-in), the default of PyTorch, which the authors use.

    He's 2 / fan-in assumes a ReLU or a normalization after each convolution. Here it would triple the variance in each
    block, and no normalization reduces it again.
    """
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            layer.kernel.assign(layer.kernel.value / np.sqrt(6).astype(np.float32))
