"""What a source of weights holds, in our names: tensors, and what else it tells of its network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnet_keras.architectures import (
    EXPANSION,
    Architecture,
    Block,
    Shortcut,
    Stem,
)
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.weights.layouts import Layout, recognise
from resnet_keras.weights.traits import Traits

HEAD = "logits"


@dataclass(frozen=True, eq=False)
class Checkpoint:
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
    traits: Traits = field(default_factory=Traits)
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def classes(self) -> int | None:
        """Outputs of the classifier; `None` without one."""
        kernel = self.tensors.get(f"{HEAD}/kernel")
        return None if kernel is None else kernel.shape[-1]


def checkpoint(
    arrays: Mapping[str, np.ndarray], source: str, *, traits: Traits | None = None, **about: Any
) -> Checkpoint:
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
        layout, prefix = recognise(arrays)
    except ValueError as error:
        raise ValueError(f"{error} in {source}") from None
    tensors: dict[str, np.ndarray] = {}
    names: dict[str, tuple[str, ...]] = {}
    unexpected: list[str] = []
    for name, array in arrays.items():
        target = layout.ours(_without(name, prefix))
        if target is None or target in tensors:
            unexpected.append(name)
        elif target.endswith("/kernel") and array.ndim != (axes := 2 if target == f"{HEAD}/kernel" else 4):
            raise ValueError(f"Expected a kernel of {axes} axes. Received: {source}, with {name} of {array.shape}")
        else:
            tensors[target] = _keras_axes(array, layout)
            names[target] = (name,)
    passed_over = [name for name in unexpected if layout.passes_over(name)]
    _fold_biases(tensors, names, source)
    told = traits or Traits()
    return Checkpoint(
        source=source,
        layout=layout.name,
        tensors=tensors,
        names=names,
        unexpected=tuple(name for name in unexpected if name not in passed_over),
        passed_over=tuple(passed_over),
        traits=Traits(
            bottleneck_stride=told.bottleneck_stride or layout.bottleneck_stride,
            # Codes in PyTorch's layout that pad channels pad them on both sides.
            zero_channels=told.zero_channels or ("around" if layout.axes == "torch" else None),
            epsilon=told.epsilon or layout.epsilon,
            plain=told.plain,
            output_stride=told.output_stride,
        ),
        **about,
    )


def architecture_of(found: Checkpoint) -> Architecture:
    """Returns the network that a checkpoint's weights belong to, from their names and shapes.

    A network without projections could be plain as well as of option A; unless its source tells, it is taken for the
    latter.

    Raises:
        ValueError: The weights are of no network like ours.
    """
    shapes = {name.removesuffix("/kernel"): a.shape for name, a in found.tensors.items() if name.endswith("/kernel")}
    problem, blocks = _stages(shapes)
    firsts = [f"stage{stage}_block1" for stage in sorted(blocks)]
    kind: Block = "basic"
    if not problem:
        kind = "bottleneck" if f"{firsts[0]}_conv3" in shapes else "basic"
        last = {"basic": "conv2", "bottleneck": "conv3"}[kind]
        if any(f"{first}_{conv}" not in shapes for first in firsts for conv in ("conv2", last)):
            problem = "blocks of different kinds"
        elif any(shapes[f"{f}_{last}"][-1] != EXPANSION[kind] * shapes[f"{f}_conv2"][-1] for f in firsts):
            problem = f"blocks whose last convolutions have not {EXPANSION[kind]} times the channels of the others"
    if problem:
        raise ValueError(f"Expected the weights of a network of arXiv:1512.03385. Received: {found.source}, {problem}")
    stem: Stem = "imagenet" if shapes["stem_conv"][0] == 7 else "cifar"
    projections = sum(name.endswith("_projection") for name in shapes)
    shortcut: Shortcut = "A" if not projections else "C" if projections == sum(map(len, blocks.values())) else "B"
    return Architecture(
        stem=stem,
        block=kind,
        repeats=tuple(len(blocks[stage]) for stage in sorted(blocks)),
        widths=tuple(shapes[f"{first}_conv2"][-1] for first in firsts),
        shortcut=None if found.traits.plain else shortcut,
        bottleneck_stride=found.traits.bottleneck_stride or "1x1",
        zero_channels=found.traits.zero_channels or "behind",
        output_stride=found.traits.output_stride,
    )


def _stages(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str | None, dict[int, set[int]]]:
    """Returns what is wrong with the layers' names, if anything is, and which blocks each stage has."""
    blocks: dict[int, set[int]] = {}
    for name in shapes:
        match = re.match(r"stage(\d+)_block(\d+)_(conv\d|projection)$", name)
        if name.startswith("stage") and not match:
            return f"a layer {name}", {}
        if match:
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    numbered = [*blocks.values(), set(blocks)]
    if "stem_conv" not in shapes or not blocks or any(there != set(range(1, len(there) + 1)) for there in numbered):
        return f"stages of blocks {blocks}", {}
    return None, blocks


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
    """Takes the bias of a convolution off the mean that the batch normalisation after it subtracts.

    That is exact in training, too: what is added to all images, their own mean takes off again.
    """
    for name in [name for name in tensors if name.endswith("/bias") and name != f"{HEAD}/bias"]:
        mean = f"{name.removesuffix('/bias')}_bn/moving_mean"
        bias, (called,) = tensors.pop(name), names.pop(name)
        if mean not in tensors or tensors[mean].shape != bias.shape:
            raise ValueError(
                f"Expected a batch normalisation after a convolution with a bias. Received: {called} in {source}, "
                f"which has none"
            )
        tensors[mean] = (tensors[mean].astype(np.float64) - bias.astype(np.float64)).astype(np.float32)
        names[mean] = (*names[mean], called)
