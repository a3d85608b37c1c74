"""A network with the weights of any source, its preprocessing and its class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.builder import build
from resnet_keras.networks.conventions import BottleneckStride, Conventions, ZeroChannels
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.loading import LoadReport, load_weights
from resnet_keras.weights.recognition import recognize_architecture
from resnet_keras.weights.sources import open_weights


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """The network that weights belong to, with them.

    Attributes:
        model: A network of normalized images to logits.
        preprocessing: From an image to the network's input.
        class_names: One name per output.
        report: Loaded, missing and unexpected weights.
    """

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    report: LoadReport


def load_network(
    source: str | Path | keras.Model | ImportedWeights,
    *,
    network: str | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    bottleneck_stride: BottleneckStride | None = None,
    zero_channels: ZeroChannels | None = None,
) -> LoadedNetwork:
    """Returns the network that weights belong to by their names and shapes; see `convert` for arguments and errors."""
    found = source if isinstance(source, ImportedWeights) else open_weights(source, network)
    if found.classes is None:
        raise ValueError(f"Expected weights with a classifier. Received: {found.source}, a backbone alone")
    chosen = preprocessing or found.preprocessing
    if chosen is None:
        raise ValueError(f"Expected `preprocessing`, which {found.source} does not say. Received: None")
    row = recognize_architecture(found)
    stated = Conventions(bottleneck_stride=bottleneck_stride, zero_channels=zero_channels)
    row = replace(row, conventions=row.conventions.merged(stated))
    model = build(
        row, input_shape=(*chosen.image_size, chosen.channels), classes=found.classes, classifier_activation=None
    )
    report = load_weights(model, found, bottleneck_stride=bottleneck_stride, zero_channels=zero_channels)
    return LoadedNetwork(model, chosen, tuple(class_names or found.class_names or ()), report)
