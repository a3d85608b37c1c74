"""Parameters, multiply-adds and feature-map sizes of a network (arXiv:1512.03385, Table 1)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_keras import files
from resnet_keras.networks.catalog import ARCHITECTURES, architecture, network_name
from resnet_keras.networks.published_sizes import SIZES
from resnet_keras.tables import markdown_table

if TYPE_CHECKING:
    import keras

# The stored numbers are printed without Keras and TensorFlow, which take five seconds to import: functions that need a
# model import them.

STORED = Path(__file__).with_name("complexity.json")
"""The complexity of each network of the catalog."""


@dataclass(frozen=True)
class Complexity:
    """The size and cost of a network.

    Attributes:
        name: Its name in the catalog.
        layers: Layers with weights, as the paper counts them.
        parameters: Number of trainable parameters.
        multiply_adds: Multiply-adds of the convolutions and the classifier, for one image of the paper's size.
        stages: Height, width and channels after each stage.
    """

    name: str
    layers: int
    parameters: int
    multiply_adds: int
    stages: tuple[tuple[int, int, int], ...]


def parameters(model: keras.Model) -> int:
    """Returns the number of trainable parameters."""
    from resnet_keras.layers.traversal import parameter_count

    return parameter_count(model.trainable_weights)


def multiply_adds(model: keras.Model) -> int:
    """Returns the multiply-adds of a forward pass of one image: those of convolutions and dense layers.

    Raises:
        ValueError: The image's height or width is free.
    """
    import keras

    from resnet_keras.layers.traversal import flat_layers

    total = 0
    for layer in flat_layers(model):
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            positions = layer.output.shape[1:-1]
            if None in positions:
                raise ValueError(
                    f"Expected a model of images of one size. Received: {layer.name}, with {layer.output.shape}"
                )
            total += math.prod(positions) * math.prod(layer.kernel.shape)
    return total


def complexity(name: str) -> Complexity:
    """Returns the complexity of a network of the catalog, which is built for that."""
    from resnet_keras.layers.traversal import flat_layers
    from resnet_keras.networks.builder import build

    row = architecture(name)
    model = build(name)
    layers = {layer.name: layer for layer in flat_layers(model)}
    end = "add" if row.activation == "before" else "relu"
    last = (layers[f"stage{i}_block{repeats}_{end}"] for i, repeats in enumerate(row.repeats, start=1))
    return Complexity(
        name, row.depth, parameters(model), multiply_adds(model), tuple(tuple(layer.output.shape[1:]) for layer in last)
    )


def stored_complexity(name: str) -> Complexity:
    """Returns the complexity of a network of the catalog, from a file; `complexity` if the file does not have it.

    To build all networks takes minutes. `python docs/generate.py --tables` does so, and writes the file.
    """
    found = _stored().get(name)
    return Complexity(**{**found, "stages": tuple(map(tuple, found["stages"]))}) if found else complexity(name)


def complexity_table(names: Iterable[str] = tuple(ARCHITECTURES)) -> str:
    """Returns a Markdown table of networks, beside published counts; the numbers come with the package.

    Raises:
        ValueError: A network is unknown.
    """
    head = ("network", "layers", "parameters", "published", "multiply-adds", "feature maps by stage")
    rows = []
    for row in map(stored_complexity, [network_name(name) for name in names]):
        sizes = ", ".join(f"{height}x{width}x{channels}" for height, width, channels in row.stages)
        size = SIZES.get(row.name)
        published = f"{size} ({size.source})" if size else ""
        cost = f"{row.multiply_adds / 1e9:.3f} x 10^9"
        rows.append((row.name, row.layers, f"{row.parameters:,}", published, cost, sizes))
    return markdown_table(head, rows, text=("published", "feature maps by stage"))


@functools.cache
def _stored() -> dict[str, dict[str, Any]]:
    return files.read_json(STORED)
