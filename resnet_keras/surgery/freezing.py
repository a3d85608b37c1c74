"""Trainable and frozen layers of a network."""

from __future__ import annotations

import re
from dataclasses import dataclass

import keras

from resnet_keras.layers.keras_internals import parameters
from resnet_keras.layers.traversal import flat_layers, parameter_count
from resnet_keras.networks.architecture import Part


@dataclass(frozen=True)
class Freezing:
    """Numbers of trainable and frozen parameters of the stem, each stage and the head.

    Attributes:
        parts: For each part: name, trainable parameters, frozen parameters, frozen batch normalizations, and all batch
            normalizations.
    """

    parts: tuple[tuple[str, int, int, int, int], ...]

    def __str__(self) -> str:
        """Returns a table with a line for each part."""
        lines = [f"{'part':9}{'trainable':>13}{'frozen':>13}   frozen batch normalizations"]
        for name, trainable, frozen, frozen_norms, norms in self.parts:
            lines.append(f"{name:9}{trainable:>13,}{frozen:>13,}   {frozen_norms} of {norms}")
        return "\n".join(lines)


def freeze(model: keras.Model, up_to: Part | None = None, *, batch_norms: bool = False) -> Freezing:
    """Freezes a part of a network in place; returns the trainable and frozen parameters.

    A frozen batch normalization runs in inference mode: it normalizes by its moving statistics and does not change
    them. All other layers become trainable, so `freeze(model)` unfreezes all. Compile the model afterwards.

    Args:
        model: A network of this package.
        up_to: Last frozen part; all parts before it are frozen, too: "stem", "stage1" ..., "final" (the last
            normalization of a network with pre-activation), or "backbone", all but the head. `None` freezes no part.
        batch_norms: Whether to freeze every batch normalization, also in trainable parts. Better with small batches,
            and with weights whose statistics are folded into scale and offset.

    Raises:
        ValueError: The network has no such part; the message lists its parts.
    """
    layers = flat_layers(model)
    parts = list(dict.fromkeys(_part(layer) for layer in layers if layer.weights))
    known = [*(part for part in parts if part != "head"), "backbone"]
    if up_to is not None and up_to not in known:
        raise ValueError(f"Expected `up_to` to be one of {', '.join(known)}, or None. Received: {up_to!r}")
    last = -1 if up_to is None else len(known) - 2 if up_to == "backbone" else known.index(up_to)
    frozen = set(known[: last + 1])
    model.trainable = True  # or the layers' own would not count
    for layer in layers:
        frozen_norm = batch_norms and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not (_part(layer) in frozen or frozen_norm)
    return Freezing(tuple(_counts(part, layers) for part in parts))


def _part(layer: keras.layers.Layer) -> str:
    if match := re.match(r"stem|stage\d+|final", layer.name):
        return match[0]
    return "head"


def _counts(part: str, layers: list[keras.layers.Layer]) -> tuple[str, int, int, int, int]:
    inside = [layer for layer in layers if _part(layer) == part]
    norms = [layer for layer in inside if isinstance(layer, keras.layers.BatchNormalization)]
    trainable = sum(parameter_count(layer.trainable_variables) for layer in inside)
    # Without moving statistics, which have no gradients.
    everything = sum(parameter_count(parameters(layer)) for layer in inside)
    return part, trainable, everything - trainable, sum(not norm.trainable for norm in norms), len(norms)
