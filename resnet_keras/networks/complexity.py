"""Parameters, multiply-adds and feature-map sizes of a network (arXiv:1512.03385, Table 1)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import keras

from resnet_keras.layers.traversal import flat_layers, parameter_count
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES, architecture, network_name
from resnet_keras.networks.published_sizes import SIZES
from resnet_keras.tables import markdown_table

_log = logging.getLogger(__name__)
_MESSAGE_SECONDS = 2.0


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
    return parameter_count(model.trainable_weights)


def multiply_adds(model: keras.Model) -> int:
    """Returns the multiply-adds of a forward pass of one image: those of convolutions and dense layers.

    Raises:
        ValueError: The image's height or width is free.
    """
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
    row = architecture(name)
    model = build(name)
    layers = {layer.name: layer for layer in flat_layers(model)}
    end = "add" if row.activation == "before" else "relu"
    last = (layers[f"stage{i}_block{repeats}_{end}"] for i, repeats in enumerate(row.repeats, start=1))
    return Complexity(
        name, row.depth, parameters(model), multiply_adds(model), tuple(tuple(layer.output.shape[1:]) for layer in last)
    )


def complexity_table(names: Iterable[str] = tuple(ARCHITECTURES)) -> str:
    """Returns a Markdown table of networks, computed from the networks themselves, beside published counts.

    The largest networks take seconds each; progress is logged every two seconds.

    Raises:
        ValueError: A network is unknown.
    """
    known = [network_name(name) for name in names]
    logged = time.monotonic()
    head = ("network", "layers", "parameters", "published", "multiply-adds", "feature maps by stage")
    rows = []
    for done, name in enumerate(known):
        if time.monotonic() - logged > _MESSAGE_SECONDS:
            logged = time.monotonic()
            _log.info("%d of %d networks, now %s", done, len(known), name)
        row = complexity(name)
        sizes = ", ".join(f"{height}x{width}x{channels}" for height, width, channels in row.stages)
        size = SIZES.get(name)
        published = f"{size} ({size.source})" if size else ""
        cost = f"{row.multiply_adds / 1e9:.3f} x 10^9"
        rows.append((name, row.layers, f"{row.parameters:,}", published, cost, sizes))
    return markdown_table(head, rows, text=("published", "feature maps by stage"))
