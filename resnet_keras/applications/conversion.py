"""Converts weights of any library to a classifier: the network that they belong to, preprocessing and class names."""

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
    """Returns a classifier with the weights of `source`, and a report of loaded, missing and unexpected weights.

    The names and shapes of the weights determine the network.

    Args:
        source: See `resnet_keras.weights.open_weights`.
        network: Name of the network, which "imagenet" and "torchvision" need.
        preprocessing: The network's preprocessing; if `None`, the source's, or the usual one of its library.
        class_names: Names of the outputs, in their order; the source's if `None`.
        bottleneck_stride: Convolution of its bottlenecks that has the stride; its library's usual if `None`.
        zero_channels: Place of its zero channels under option A; its library's usual if `None`.

    Raises:
        FileNotFoundError: There is no such source.
        ValueError: The source is damaged, malicious, without a classifier or without a known layout; or preprocessing
            and class names do not fit the network.
    """
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
    return Classifier(model, chosen, tuple(class_names or found.class_names or ())), report


def largest_difference(first: Classifier, second: Classifier, *, images: int = 4) -> float:
    """Returns the largest difference between two classifiers' outputs for normalized images of noise."""
    shape = (*first.preprocessing.image_size, first.preprocessing.channels)
    noise = np.random.default_rng(0).normal(size=(images, *shape)).astype(np.float32)
    outputs = [np.asarray(each.model.predict_on_batch(noise)) for each in (first, second)]
    return float(np.abs(outputs[0] - outputs[1]).max())
