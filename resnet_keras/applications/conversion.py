"""Converts weights of any library to a classifier (network, preprocessing, class names), and back to a library's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.loaded_network import load_network
from resnet_keras.applications.torch_files import save_for_torch, weights_path
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.conventions import BottleneckStride, ZeroChannels
from resnet_keras.weights.exported import TARGETS
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.loading import LoadReport


def convert(
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
    to: str | Path | None = None,
    layout: str | None = None,
) -> tuple[Classifier, LoadReport]:
    """Returns a classifier with the weights of `source`, and a report of loaded, missing and unexpected weights.

    The names and shapes of the weights determine the network. With `to`, the classifier is written, too.

    Example:
        >>> resnet_keras.convert("model.safetensors", to="resnet18.keras")
        >>> resnet_keras.convert("runs/photos_resnet50", to="resnet50", layout="timm")

    Args:
        source: See `resnet_keras.weights.open_weights`.
        network: Name of the network, which "imagenet" and "torchvision" need.
        preprocessing: The network's preprocessing; if `None`, the source's, or the usual one of its library.
        class_names: Names of the outputs, in their order; the source's if `None`.
        bottleneck_stride: Convolution of its bottlenecks that has the stride; its library's usual if `None`.
        zero_channels: Place of its zero channels under option A; its library's usual if `None`.
        prefix: What the names of the network begin with, where a file has several.
        averaged: Whether to take the moving average of the weights where a file has both.
        skip_unexpected: Whether to pass over tensors that have no place in the network; a note names them.
        allow_nonfinite: Whether weights may be NaN or infinite in float32, and variances negative.
        to: A `.keras` file to write; with `layout`, see `resnet_keras.applications.save_for_torch`.
        layout: The library for PyTorch whose names, shapes and settings are written.

    Raises:
        FileNotFoundError: There is no such source.
        ValueError: The source is damaged, malicious, without a classifier or without a known layout; its weights are
            not finite; preprocessing and class names do not fit the network; or `to` does not suit `layout`, which may
            not have such a network.
    """
    check_destination(to, layout)
    loaded = load_network(
        source,
        network=network,
        preprocessing=preprocessing,
        class_names=class_names,
        bottleneck_stride=bottleneck_stride,
        zero_channels=zero_channels,
        prefix=prefix,
        averaged=averaged,
        skip_unexpected=skip_unexpected,
        allow_nonfinite=allow_nonfinite,
    )
    classifier = Classifier(loaded.model, loaded.preprocessing, loaded.class_names)
    if to is not None and layout is not None:
        save_for_torch(classifier, to, layout)
    elif to is not None:
        classifier.save(to)
    return classifier, loaded.report


def check_destination(to: str | Path | None, layout: str | None) -> None:
    """Checks a file to write and the layout to write it in, before anything is read.

    Raises:
        ValueError: The file does not suit the layout.
    """
    if layout is not None:
        if to is None:
            raise ValueError(f"Expected `to`, the file to write, with `layout`. Received: layout={layout!r} alone")
        weights_path(Path(to), layout)
    elif to is not None and Path(to).suffix != ".keras":
        raise ValueError(
            f"Expected a file ending in .keras for `to`, or `layout`, one of {', '.join(TARGETS)}. Received: {to}"
        )


def largest_difference(first: Classifier, second: Classifier, *, images: int = 4) -> float:
    """Returns the largest difference between two classifiers' outputs for normalized images of noise."""
    shape = (*first.preprocessing.image_size, first.preprocessing.channels)
    noise = np.random.default_rng(0).normal(size=(images, *shape)).astype(np.float32)
    outputs = [np.asarray(each.model.predict_on_batch(noise)) for each in (first, second)]
    return float(np.abs(outputs[0] - outputs[1]).max())
