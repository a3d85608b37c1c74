"""A network that localizes: for each class a logit and one box, on the maps of any network of this package."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeAlias

import keras
from keras import layers

from resnet_keras.applications.named_networks import build_with_weights, check_one_source, network_and_weights
from resnet_keras.checks.fields import check_counts, suggest_arguments
from resnet_keras.detection.boxes import Weights as BoxWeights
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.blocks import HEAD
from resnet_keras.weights.dense_heads import BOX_OFFSETS
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.loading import load_weights

Weights: TypeAlias = "str | Path | keras.Model | ImportedWeights | None"

CANVAS_WEIGHTS: BoxWeights = (10.0, 10.0, 5.0, 5.0)
"""Weights of the offsets of x, y, width, and height from the whole canvas to a box, as Fast R-CNN's."""

_BOX_STD = 0.001  # arXiv:1504.08083, section 3.1


@suggest_arguments
def LocalizationNetwork(
    backbone: str | Architecture = "resnet50",
    classes: int = 1000,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    box_channels: int = 128,
    weights: Weights = None,
    backbone_weights: Weights = None,
    name: str | None = None,
) -> keras.Model:
    """Returns a network of the logit and the box of each class (arXiv:1512.03385, appendix C, for one box).

    Classes are judged by the mean of the last maps, as by a classifier. Boxes are regressed for each class, from all
    places of the maps, which a 1x1 convolution makes narrower. The paper regresses from anchors at each place instead.

    Args:
        backbone: Name of a network of this package, or its `Architecture`.
        classes: Number of classes.
        input_shape: Height and width in pixels, and channels.
        box_channels: Channels of the maps that boxes are regressed from.
        weights: Weights of the whole network: a file or a model; not with `backbone_weights`.
        backbone_weights: Weights of the backbone alone, such as "imagenet".
        name: Name of the model.

    Returns:
        A functional model of normalized images (N, H, W, C), to float32 (N, classes, 5): the logit of each class, and
        the offsets from the whole canvas to its box; see `encode`, with `CANVAS_WEIGHTS`.

    Raises:
        ValueError: An argument is out of its range, or weights do not fit.
        FileNotFoundError: A file of weights does not exist.
    """
    check_counts(classes=classes, box_channels=box_channels)
    check_one_source(weights, backbone_weights)
    network, found = network_and_weights(backbone, weights)
    images = keras.Input(input_shape, name="images")
    body = build_with_weights(
        network if found is not None else backbone,
        include_top=False,
        weights=backbone_weights,
        input_tensor=images,
    )
    maps = body.output
    pooled = layers.GlobalAveragePooling2D(data_format="channels_last", name="class_pool")(maps)
    logits = layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name=HEAD)(pooled)
    narrow = layers.Conv2D(box_channels, 1, activation="relu", data_format="channels_last", name="box_conv1")(maps)
    start = keras.initializers.RandomNormal(stddev=_BOX_STD)
    flat = layers.Reshape((math.prod(narrow.shape[1:]),), name="box_flatten")(narrow)
    offsets = layers.Dense(4 * classes, kernel_initializer=start, dtype="float32", name=BOX_OFFSETS)(flat)
    parts = [
        layers.Reshape((classes, 1), name="class_rows")(logits),
        layers.Reshape((classes, 4), name="box_rows")(offsets),
    ]
    outputs = layers.Concatenate(dtype="float32", name="class_and_box")(parts)
    model = keras.Model(images, outputs, name=name or f"localization_{network.name}")
    if found is not None:
        load_weights(model, found)
    model.preprocessing = getattr(body if found is None else found, "preprocessing", None)
    return model
