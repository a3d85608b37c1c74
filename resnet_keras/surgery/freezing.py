"""Which layers of a network learn."""

from __future__ import annotations

import re
from dataclasses import dataclass

import keras

from resnet_keras.layers.keras_internals import parameters
from resnet_keras.layers.traversal import flat_layers, parameter_count
from resnet_keras.networks.architecture import Part


@dataclass(frozen=True)
class Freezing:
    """What is frozen and what learns: parameters of the stem, of each stage and of the head.

    Attributes:
        parts: For each part, its name, its parameters that learn, those that are frozen, and how many of its batch
            normalizations keep their moving statistics, of how many.
    """

    parts: tuple[tuple[str, int, int, int, int], ...]

    def __str__(self) -> str:
        """Returns a line for each part."""
        lines = [f"{'part':9}{'learning':>13}{'frozen':>13}   batch normalizations at rest"]
        for name, learning, frozen, resting, all_of_them in self.parts:
            lines.append(f"{name:9}{learning:>13,}{frozen:>13,}   {resting} of {all_of_them}")
        return "\n".join(lines)


def freeze(model: keras.Model, up_to: Part | None = None, *, batch_norms: bool = False) -> Freezing:
    """Freezes a part of a network, in place, and returns what learns now.

    A frozen batch normalization rests: it normalizes by its moving statistics and leaves them as they are, bit for
    bit. Layers that are not named learn; so `freeze(model)` frees all of them. Compile the model afterwards.

    Args:
        model: A network of this package.
        up_to: The last part that is frozen, with all before it: "stem", "stage1" ..., "final" (the last normalization
            of a network that activates before convolutions), or "backbone", all but the head. `None` freezes no part.
        batch_norms: Freeze every batch normalization, also in parts that learn. With small batches, and with weights
            whose statistics were folded away, learning is better so.

    Raises:
        ValueError: The network has no such part; the message lists those it has.
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
        resting = batch_norms and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not (_part(layer) in frozen or resting)
    return Freezing(tuple(_counts(part, layers) for part in parts))


def _part(layer: keras.layers.Layer) -> str:
    if match := re.match(r"stem|stage\d+|final", layer.name):
        return match[0]
    return "head"


def _counts(part: str, layers: list[keras.layers.Layer]) -> tuple[str, int, int, int, int]:
    inside = [layer for layer in layers if _part(layer) == part]
    norms = [layer for layer in inside if isinstance(layer, keras.layers.BatchNormalization)]
    learning = sum(parameter_count(layer.trainable_variables) for layer in inside)
    # Parameters, not moving statistics, which never learn by gradients.
    everything = sum(parameter_count(parameters(layer)) for layer in inside)
    return part, learning, everything - learning, sum(not norm.trainable for norm in norms), len(norms)
