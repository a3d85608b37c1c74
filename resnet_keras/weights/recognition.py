"""Which network weights are of, told by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace

from resnet_keras.networks.architecture import EXPANSION, Architecture, Block, Shortcut, Stem
from resnet_keras.networks.catalog import FAMILY
from resnet_keras.weights.conventions import Conventions
from resnet_keras.weights.imported import ImportedWeights


def recognize_architecture(found: ImportedWeights) -> Architecture:
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
    if not problem:
        widths = [shapes[f"{first}_conv1"][-1] for first in firsts]
        leaving = [shapes[f"{first}_{last}"][-1] for first in firsts]
        expansion = leaving[0] // widths[0]
        if any(out != expansion * width for out, width in zip(leaving, widths, strict=True)):
            problem = f"stages of {widths} channels that leave as {leaving}"
    if problem:
        raise ValueError(f"Expected the weights of a network of this package. Received: {found.source}, {problem}")
    projections = sum(name.endswith("_projection") for name in shapes)
    shortcut: Shortcut = "A" if not projections else "C" if projections == sum(map(len, blocks.values())) else "B"
    stem, stem_width = _stem(shapes)
    squeezed = shapes.get(f"{firsts[0]}_reduce")
    middle = shapes[f"{firsts[0]}_conv2"]
    traits = found.traits
    network = Architecture(
        stem=stem,
        block=kind,
        repeats=tuple(len(blocks[stage]) for stage in sorted(blocks)),
        widths=tuple(widths),
        shortcut=None if traits.plain else shortcut,
        bottleneck_stride=traits.bottleneck_stride or "1x1",
        zero_channels=traits.zero_channels or "behind",
        output_stride=traits.output_stride,
        stem_width=None if stem_width == widths[0] else stem_width,
        expansion=None if expansion == EXPANSION[kind] else expansion,
        groups=widths[0] // middle[2] if kind == "bottleneck" else 1,
        squeeze=squeezed[2] // squeezed[3] if squeezed else 0,
        activation="before" if "final_bn/gamma" in found.tensors else "after",
        first_activation=traits.first_activation or "stem",
        projection=traits.projection or "normalized",
        first_projection=bool(traits.first_projection),
        halving=traits.halving or "first",
        biases=bool(traits.biases),
        padding=traits.padding or "both",
        pool_border=traits.pool_border or "zeros",
    )
    return replace(network, label=_label(network))


def _label(network: Architecture) -> str | None:
    """Returns the name of the member of the family that has a network's weights, whatever else they do not show."""
    unseen = {field.name for field in fields(Conventions)} | {"label"}
    seen = [field.name for field in fields(network) if field.name not in unseen]
    same = (row for row in FAMILY.values() if all(getattr(row, name) == getattr(network, name) for name in seen))
    return next((row.label for row in same), None)


def _stem(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Stem, int]:
    """Returns the kind of the stem, and the channels that leave it."""
    if "stem_conv" in shapes:
        return ("imagenet" if shapes["stem_conv"][0] == 7 else "cifar"), shapes["stem_conv"][-1]
    return ("strided" if "stem_conv4" in shapes else "deep"), shapes["stem_conv3"][-1]


def _stages(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str | None, dict[int, set[int]]]:
    """Returns what is wrong with the layers' names, if anything is, and which blocks each stage has."""
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
