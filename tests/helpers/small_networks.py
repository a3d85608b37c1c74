"""Small networks whose every weight is drawn, and images to show them."""

from __future__ import annotations

import keras
import numpy as np

from resnet_keras.networks.architecture import Architecture

TWO_STAGES = Architecture(stem="cifar", block="basic", repeats=(3, 2), widths=(4, 8), shortcut="A")
"""With `models.SEGMENT_BLOCKS` at 2, it is three nested models."""

FOUR_STAGES = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 1, 1, 2), widths=(3, 4, 5, 6))


def images(*shape: int, seed: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def drawn(model: keras.Model, seed: int = 8) -> keras.Model:
    """Draws every weight, the moving statistics too, so that activations stay near 1 to the last layer."""
    rng = np.random.default_rng(seed)
    values = []
    for weight in model.weights:
        if weight.name == "kernel":
            values.append(rng.normal(scale=np.prod(weight.shape[:-1]) ** -0.5, size=weight.shape))
        elif weight.name in ("gamma", "moving_variance"):
            values.append(rng.uniform(0.5, 1.5, weight.shape))
        else:
            values.append(rng.normal(scale=0.2, size=weight.shape))
    model.set_weights(values)
    return model


def randomized(model: keras.Model, least: float) -> keras.Model:
    """Draws what batch normalizations hold, and biases; scales and variances are from `least` to 0.9.

    Kernels stay as they were initialized.
    """
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
        if variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(rng.uniform(least, 0.9, variable.shape))
    return model
