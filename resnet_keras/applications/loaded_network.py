"""A network with the weights of any source, its preprocessing and its class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from resnet_keras.data.class_names import assumed_class_names
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.builder import build
from resnet_keras.networks.conventions import BottleneckStride, Conventions, ZeroChannels
from resnet_keras.weights.imported import ImportedWeights, with_two_classes
from resnet_keras.weights.leftovers import modules_of
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
    prefix: str | None = None,
    averaged: bool = True,
    skip_unexpected: bool = False,
    allow_nonfinite: bool = False,
) -> LoadedNetwork:
    """Returns the network that weights belong to by their names and shapes; see `convert` for arguments and errors."""
    found = source
    if not isinstance(found, ImportedWeights):
        found = open_weights(found, network, prefix=prefix, averaged=averaged)
    if found.classes is None:
        others = f" with {modules_of(found.beside)}" if found.beside else ""
        raise ValueError(
            "Expected weights with a classifier, one linear layer; a backbone can be fine-tuned (`resnet train "
            "finetune --weights`), or loaded by `weights=` with `include_top=False`. "
            f"Received: {found.source}, a backbone{others or ' alone'}"
        )
    if found.classes == 1:
        found = with_two_classes(found)
    found = replace(found, notes=_still_assumed(found, preprocessing, class_names))
    chosen = preprocessing or found.preprocessing
    if chosen is None:
        raise ValueError(
            "Expected `preprocessing`, or a source that says it; `resnet convert --image-size --mean --std` writes "
            f"one. Received: {found.source}, without"
        )
    row = recognize_architecture(found)
    activation = "sigmoid" if found.several_labels else None
    stated = Conventions(bottleneck_stride=bottleneck_stride, zero_channels=zero_channels)
    row = replace(row, conventions=row.conventions.merged(stated))
    model = build(
        row, input_shape=(*chosen.image_size, chosen.channels), classes=found.classes, classifier_activation=activation
    )
    report = load_weights(
        model,
        found,
        skip_unexpected=skip_unexpected,
        allow_nonfinite=allow_nonfinite,
        bottleneck_stride=bottleneck_stride,
        zero_channels=zero_channels,
    )
    return LoadedNetwork(model, chosen, tuple(class_names or found.class_names or ()), report)


def _still_assumed(
    found: ImportedWeights, preprocessing: Preprocessing | None, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """Returns the notes of weights, without those about names and preprocessing that the caller gives."""
    given: set[str | None] = set()
    if class_names and found.classes is not None:
        given |= {assumed_class_names(found.classes, is_cifar=cifar)[1] for cifar in (False, True)}
    if preprocessing not in (None, found.preprocessing) and found.usual_preprocessing is not None:
        given.add(found.usual_preprocessing.note)
    return tuple(note for note in found.notes if note not in given)
