"""A network without its classifier: its feature maps, by the paper's names, and new heads."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras

from resnet_keras.layers.keras_internals import outer_output
from resnet_keras.networks.blocks import HEAD, head


def features(model: keras.Model) -> keras.Model:
    """Returns the feature maps of a network, for a head of detection, segmentation or whatever.

    `C2` is what the paper's conv2_x (our stage 1) gives, `C3` conv3_x, and so on: `C2` to `C5` with ImageNet's stem,
    at strides 4, 8, 16 and 32; `C2` to `C4` with CIFAR's, at 1, 2 and 4. A network built with `output_stride` keeps
    the later maps larger; with activation before convolutions, maps are not activated. Layers and weights are those of
    `model`, whose classifier, if it has one, is left out.

    Example:
        >>> backbone = resnet_keras.features(resnet_keras.ResNet50(include_top=False, output_stride=16))
        >>> maps = backbone(images)  # {"C2": (N, H/4, W/4, 256), ..., "C5": (N, H/16, W/16, 2048)}

    Args:
        model: A network of this package.

    Returns:
        A model of normalized images (N, H, W, C) to a dictionary of feature maps.

    Raises:
        ValueError: The model has no stages by their names.
    """
    last: dict[int, Any] = {}
    for layer in model.layers:
        if match := re.match(r"stage(\d+)_", layer.name):
            # What the layer gives here: `output` of a nested model would be of its own inside.
            last[int(match[1])] = outer_output(layer)
    if not last:
        raise ValueError(f"Expected a network of this package, with layers stage1_... Received: {model.name!r}")
    return keras.Model(
        model.input, {f"C{stage + 1}": last[stage] for stage in sorted(last)}, name=f"{model.name}_features"
    )


def with_head(
    model: keras.Model, classes: int, *, classifier_activation: str | Callable | None = "softmax"
) -> keras.Model:
    """Returns `model` with a new classifier, freshly initialized, in place of its own; all other layers are shared.

    Args:
        model: A network of this package with a classifier.
        classes: Classes to tell apart.
        classifier_activation: What follows the logits; `None` returns the logits themselves.

    Raises:
        ValueError: The model has no classifier, or `classes` is below 1.
    """
    if HEAD not in {layer.name for layer in model.layers}:
        raise ValueError(f"Expected a network with a classifier, a layer {HEAD!r}. Received: {model.name!r}, without")
    if not isinstance(classes, int) or classes < 1:
        raise ValueError(f"Expected `classes` to be a positive integer. Received: {classes!r}")
    x = head(model.get_layer(HEAD).input, classes, classifier_activation)
    return keras.Model(model.input, x, name=model.name)
