"""Weights of an equal network with other conventions: the same function, where one exists."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.blocks import HEAD

Tensors = Mapping[str, np.ndarray]


def with_epsilon(tensors: Tensors, own: float, other: float) -> dict[str, np.ndarray]:
    """Returns the weights for batch normalizations with another epsilon.

    They divide by the root of the moving variance plus epsilon, so the difference goes into the variance.

    Args:
        tensors: Arrays by `layer/weight`.
        own: Epsilon of the network.
        other: Epsilon of the equal one.

    Raises:
        ValueError: A variance would be negative; the message says what is expected instead.
    """
    found = dict(tensors)
    for name in [name for name in found if name.endswith("/moving_variance")]:
        variance = (found[name].astype(np.float64) + (own - other)).astype(np.float32)
        if variance.min() < 0:
            raise ValueError(
                f"with moving variances of at least {other - own:.3g}, so that an epsilon of {own:g} can become "
                f"{other:g}, instead of {found[name].min():.3g} in {name}"
            )
        found[name] = variance
    return found


def with_reversed_input(tensors: Tensors) -> dict[str, np.ndarray]:
    """Returns the weights for images whose channels are in the reverse order: RGB instead of BGR."""
    found = dict(tensors)
    first = "stem_conv/kernel" if "stem_conv/kernel" in found else "stem_conv1/kernel"
    found[first] = found[first][:, :, ::-1, :]
    return found


def with_zero_channels_on_both_sides(tensors: Tensors, row: Architecture) -> dict[str, np.ndarray]:
    """Returns the weights of a network whose option A adds zero channels on both sides instead of at the end.

    The channels that blocks add up are in another order, and so are the weights that write and read them.

    Args:
        tensors: Arrays by `layer/weight`.
        row: The network, with option A, activation after convolutions, and without squeeze and excitation.
    """
    found = dict(tensors)
    last = "conv2" if row.block == "basic" else "conv3"
    order = np.arange(row.stem_width or row.widths[0])  # old channels, in their new order
    for plan in (plan for stage in row.blocks for plan in stage):
        found[f"{plan.name}_conv1/kernel"] = found[f"{plan.name}_conv1/kernel"][:, :, order, :]
        added = np.arange(len(order), plan.width * row.channels_per_width)
        front, end = np.split(added, [len(added) // 2])
        order = np.concatenate([front, order, end])
        for name in [name for name in found if name.startswith((f"{plan.name}_{last}/", f"{plan.name}_{last}_bn/"))]:
            found[name] = found[name][..., order]
    found[f"{HEAD}/kernel"] = found[f"{HEAD}/kernel"][order]
    return found
