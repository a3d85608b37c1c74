"""Recognizes the network that weights belong to by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from resnet_keras.networks.architecture import EXPANSION, Architecture, Block, Shortcut, Stem
from resnet_keras.networks.catalog import FAMILY
from resnet_keras.networks.conventions import PAPER
from resnet_keras.weights.imported import ImportedWeights


def recognize_architecture(found: ImportedWeights) -> Architecture:
    """Returns the network that a checkpoint's weights belong to, from their names and shapes.

    A network without projections could be plain or have option A; unless its source says, option A is assumed.

    Raises:
        ValueError: The weights do not belong to a network of this package.
    """
    shapes = {name.removesuffix("/kernel"): a.shape for name, a in found.tensors.items() if name.endswith("/kernel")}
    problem, blocks = _stages(shapes)
    firsts = [f"stage{stage}_block1" for stage in sorted(blocks)]
    kind: Block = "basic"
    if not problem:
        kind = "bottleneck" if f"{firsts[0]}_conv3" in shapes else "basic"
        last = {"basic": "conv2", "bottleneck": "conv3"}[kind]
        if any(f"{first}_{conv}" not in shapes for first in firsts for conv in ("conv2", last)):
            problem = "both basic and bottleneck blocks"
    if not problem:
        widths = [shapes[f"{first}_conv1"][-1] for first in firsts]
        leaving = [shapes[f"{first}_{last}"][-1] for first in firsts]
        expansion = leaving[0] // widths[0]
        if any(out != expansion * width for out, width in zip(leaving, widths, strict=True)):
            problem = f"stages of widths {widths} with {leaving} output channels"
    if problem:
        raise ValueError(f"Expected the weights of a network of this package. Received: {found.source}, {problem}")
    projections = sum(name.endswith("_projection") for name in shapes)
    shortcut: Shortcut = "A" if not projections else "C" if projections == sum(map(len, blocks.values())) else "B"
    stem, stem_width = _stem(shapes)
    squeezed = shapes.get(f"{firsts[0]}_reduce")
    middle = shapes[f"{firsts[0]}_conv2"]
    conventions = found.conventions
    network = Architecture(
        stem=stem,
        block=kind,
        repeats=tuple(len(blocks[stage]) for stage in sorted(blocks)),
        widths=tuple(widths),
        shortcut=None if conventions.plain else shortcut,
        stem_width=None if stem_width == widths[0] else stem_width,
        expansion=None if expansion == EXPANSION[kind] else expansion,
        groups=widths[0] // middle[2] if kind == "bottleneck" else 1,
        se_reduction=squeezed[2] // squeezed[3] if squeezed else 0,
        activation="before" if "final_bn/gamma" in found.tensors else "after",
        conventions=replace(conventions, epsilon=None),  # which loading sets
    )
    return replace(network, label=_label(network))


def _label(network: Architecture) -> str | None:
    """Returns the name of the member of the family that has a network's weights, whatever its conventions."""
    same = (row for row in FAMILY.values() if replace(row, conventions=PAPER) == replace(network, conventions=PAPER))
    return next((row.label for row in same), None)


def _stem(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Stem, int]:
    """Returns the kind of the stem and its output channels."""
    if "stem_conv" in shapes:
        return ("imagenet" if shapes["stem_conv"][0] == 7 else "cifar"), shapes["stem_conv"][-1]
    return ("strided" if "stem_conv4" in shapes else "deep"), shapes["stem_conv3"][-1]


def _stages(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str | None, dict[int, set[int]]]:
    """Returns what is wrong with the layers' names, if anything, and the blocks of each stage."""
    blocks: dict[int, set[int]] = {}
    for name in shapes:
        match = re.match(r"stage(\d+)_block(\d+)_(conv\d|projection|reduce|expand)$", name)
        if name.startswith("stage") and not match:
            return f"a layer {name}", {}
        if match:
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    numbered = [*blocks.values(), set(blocks)]
    if (
        not {"stem_conv", "stem_conv3"} & set(shapes)
        or not blocks
        or any(there != set(range(1, len(there) + 1)) for there in numbered)
    ):
        return f"stages of blocks {blocks}", {}
    return None, blocks
