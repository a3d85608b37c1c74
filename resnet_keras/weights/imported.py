"""What a source of weights holds, in our names: tensors, and what else it tells of its network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.blocks import HEAD
from resnet_keras.weights.conventions import Conventions
from resnet_keras.weights.layouts import Layout, recognize_layout


@dataclass(frozen=True, eq=False)
class ImportedWeights:
    """The weights of one network, whichever library they come from.

    Attributes:
        source: What messages call it.
        layout: Name of the layout that its names have.
        tensors: Arrays in Keras's order of axes, by `layer/weight` of our networks.
        names: What the source calls each of `tensors`; a bias that was folded stands beside what it was folded into.
        unexpected: Names in the source of which our networks have none.
        passed_over: Names of what is no weight, such as counters of batches.
        traits: What the weights do not show.
        preprocessing: What its network expects, if the source tells.
        class_names: If the source tells.
        notes: What was assumed, in sentences.
    """

    source: str
    layout: str
    tensors: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]
    unexpected: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    traits: Conventions = field(default_factory=Conventions)
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def classes(self) -> int | None:
        """Outputs of the classifier; `None` without one."""
        kernel = self.tensors.get(f"{HEAD}/kernel")
        return None if kernel is None else kernel.shape[-1]


def import_arrays(
    arrays: Mapping[str, np.ndarray], source: str, *, traits: Conventions | None = None, **about: Any
) -> ImportedWeights:
    """Returns what `arrays` are in our names.

    Args:
        arrays: As the source names and orders them.
        source: What messages call it.
        traits: What the source tells of itself; what is `None` in it, its layout tells.
        **about: Further fields of `Checkpoint`.

    Raises:
        ValueError: The names are of no layout that is known, or of several networks; or a bias has nothing to be
            folded into.
    """
    try:
        layout, prefix = recognize_layout(arrays)
    except ValueError as error:
        raise ValueError(f"{error} in {source}") from None
    tensors: dict[str, np.ndarray] = {}
    names: dict[str, tuple[str, ...]] = {}
    unexpected: list[str] = []
    for name, array in arrays.items():
        target = layout.ours(_without(name, prefix))
        if target is None or target in tensors:
            unexpected.append(name)
        elif target == f"{HEAD}/kernel" and array.ndim == 4 and array.shape[2:] == (1, 1):
            # A classifier written as a convolution of one pixel.
            tensors[target] = _keras_axes(array[:, :, 0, 0], layout)
            names[target] = (name,)
        elif target.endswith("/kernel") and array.ndim != (axes := 2 if target == f"{HEAD}/kernel" else 4):
            raise ValueError(f"Expected a kernel of {axes} axes. Received: {source}, with {name} of {array.shape}")
        else:
            tensors[target] = _keras_axes(array, layout)
            names[target] = (name,)
    passed_over = [name for name in unexpected if layout.passes_over(name)]
    _fold_biases(tensors, names, source)
    return ImportedWeights(
        source=source,
        layout=layout.name,
        tensors=tensors,
        names=names,
        unexpected=tuple(name for name in unexpected if name not in passed_over),
        passed_over=tuple(passed_over),
        traits=_traits(tensors, traits or Conventions(), layout),
        **about,
    )


def _traits(tensors: Mapping[str, np.ndarray], told: Conventions, layout: Layout) -> Conventions:
    """Returns what a network is like besides its shapes: as names show, as its source tells, or as in its layout."""
    foreign = layout.epsilon is not None
    before = "final_bn/gamma" in tensors
    bare_stem = before and not any(re.match(r"stem_conv\d?_bn/", name) for name in tensors)
    projecting = any(name.endswith("_projection/kernel") for name in tensors)
    bare = projecting and not any(name.endswith("_projection_bn/gamma") for name in tensors)
    return Conventions(
        # Everybody's bottlenecks with activation before convolutions have it in the 3x3.
        bottleneck_stride=told.bottleneck_stride or ("3x3" if before and foreign else layout.bottleneck_stride),
        # Codes in PyTorch's layout that pad channels pad them on both sides.
        zero_channels=told.zero_channels or ("around" if layout.axes == "torch" else None),
        epsilon=told.epsilon or layout.epsilon,
        plain=told.plain,
        output_stride=told.output_stride,
        projection=("bare" if bare else told.projection or layout.projection) if projecting else None,
        halving=told.halving or (layout.halving if foreign and before else None),
        padding=told.padding or (layout.padding if foreign else None),
        pool_border=told.pool_border or (layout.pool_border if foreign and bare_stem else None),
        first_activation=("block" if bare_stem else "stem") if before else None,
        first_projection=_first_projection(tensors),
        biases=any(re.fullmatch(r"(stem|stage).*_(conv\d?|projection)/bias", name) for name in tensors),
    )


def _first_projection(tensors: Mapping[str, np.ndarray]) -> bool:
    """Tells whether the first block projects though its shape stays, and not all do."""
    first = tensors.get("stage1_block1_projection/kernel")
    blocks = {name.split("_")[1] for name in tensors if name.startswith("stage1_")}
    all_do = all(f"stage1_{block}_projection/kernel" in tensors for block in blocks)
    return first is not None and first.ndim == 4 and first.shape[2] == first.shape[3] and not all_do


def _without(name: str, prefix: str) -> str:
    """Returns a name without the prefix; a head may lie beside the network that the prefix is of."""
    while prefix and not name.startswith(prefix):
        outer, separator, _ = prefix[:-1].rpartition(prefix[-1])
        prefix = outer + separator
    return name.removeprefix(prefix)


def _keras_axes(array: np.ndarray, layout: Layout) -> np.ndarray:
    if layout.axes == "torch" and array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if layout.axes == "torch" and array.ndim == 2:
        return array.transpose(1, 0)
    return array


def _fold_biases(tensors: dict[str, np.ndarray], names: dict[str, tuple[str, ...]], source: str) -> None:
    """Takes the bias of a convolution off the mean that the batch normalization after it subtracts.

    That is exact in training, too: what is added to all images, their own mean takes off again.
    """
    for name in [name for name in tensors if name.endswith("/bias") and name != f"{HEAD}/bias"]:
        mean = f"{name.removesuffix('/bias')}_bn/moving_mean"
        if mean not in tensors:
            continue  # a convolution that no normalization follows
        bias, (called,) = tensors.pop(name), names.pop(name)
        if tensors[mean].shape != bias.shape:
            raise ValueError(
                f"Expected a bias of the shape of what it is folded into, {tensors[mean].shape}. Received: {called} in "
                f"{source}, of {bias.shape}"
            )
        tensors[mean] = (tensors[mean].astype(np.float64) - bias.astype(np.float64)).astype(np.float32)
        names[mean] = (*names[mean], called)
