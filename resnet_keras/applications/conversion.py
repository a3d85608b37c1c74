"""Weights of any library made into a classifier of ours: the network that they belong to, preprocessing and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.builder import build
from resnet_keras.networks.conventions import BottleneckStride, Conventions, ZeroChannels
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.loading import LoadReport, load_weights
from resnet_keras.weights.recognition import recognize_architecture
from resnet_keras.weights.sources import open_weights


def convert(
    source: str | Path | keras.Model | ImportedWeights,
    *,
    network: str | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    bottleneck_stride: BottleneckStride | None = None,
    zero_channels: ZeroChannels | None = None,
) -> tuple[Classifier, LoadReport]:
    """Returns a classifier of the weights in `source`, and what became of every tensor.

    Which network it is, the names and shapes of the weights tell.

    Args:
        source: See `open_checkpoint`.
        network: Its name, which "imagenet" and "torchvision" need; any other source tells it.
        preprocessing: What the network expects; what the source tells or its library usually does if `None`.
        class_names: Of the outputs, in their order; what the source tells if `None`.
        bottleneck_stride: Where its bottlenecks have their stride, if not where its library has them.
        zero_channels: Where its option A puts its zeros, if not where others of its kind do.

    Raises:
        FileNotFoundError: There is no such source.
        ValueError: The source is damaged, malicious, of no known layout or without a classifier; or preprocessing and
            class names do not fit the network.
    """
    found = source if isinstance(source, ImportedWeights) else open_weights(source, network)
    if found.classes is None:
        raise ValueError(f"Expected weights with a classifier. Received: {found.source}, a backbone alone")
    chosen = preprocessing or found.preprocessing
    if chosen is None:
        raise ValueError(f"Expected `preprocessing`, which {found.source} does not tell. Received: None")
    row = recognize_architecture(found)
    stated = Conventions(bottleneck_stride=bottleneck_stride, zero_channels=zero_channels)
    row = replace(row, conventions=row.conventions.merged(stated))
    model = build(
        row, input_shape=(*chosen.image_size, chosen.channels), classes=found.classes, classifier_activation=None
    )
    report = load_weights(model, found, bottleneck_stride=bottleneck_stride, zero_channels=zero_channels)
    return Classifier(model, chosen, tuple(class_names or found.class_names or ())), report


def largest_difference(first: Classifier, second: Classifier, *, images: int = 4) -> float:
    """Returns the largest difference between two classifiers' outputs on images of noise, normalized."""
    shape = (*first.preprocessing.image_size, first.preprocessing.channels)
    noise = np.random.default_rng(0).normal(size=(images, *shape)).astype(np.float32)
    outputs = [np.asarray(each.model.predict_on_batch(noise)) for each in (first, second)]
    return float(np.abs(outputs[0] - outputs[1]).max())
