"""Feature maps of a network by the paper's names, and new classifier heads."""

from __future__ import annotations

import re
from collections.abc import Callable
from numbers import Integral
from typing import Any

import keras

from resnet_keras.layers.keras_internals import outer_output
from resnet_keras.networks.blocks import HEAD, head


def features(model: keras.Model) -> keras.Model:
    """Returns a model of the feature maps of a network, e.g. for detection or segmentation.

    `C1` is the output of ImageNet's stems before their pooling, at stride 2. `C2` is the output of the paper's conv2_x
    (stage 1), `C3` that of conv3_x, and so on: `C2` to `C5` with the ImageNet stem, at strides 4, 8, 16 and 32; `C2` to
    `C4` with the CIFAR stem, at strides 1, 2 and 4. `output_stride` keeps the later maps larger. In networks with
    pre-activation, maps are not activated. The model shares layers and weights with `model`, without its classifier.

    Example:
        >>> backbone = resnet_keras.features(resnet_keras.ResNet50(include_top=False, output_stride=16))
        >>> maps = backbone(images)  # {"C1": (N, H/2, W/2, 64), ..., "C5": (N, H/16, W/16, 2048)}

    Args:
        model: A network of this package.

    Returns:
        A model from normalized images (N, H, W, C) to a dictionary of feature maps (N, h, w, channels).

    Raises:
        ValueError: The model has no layers with the names of stages.
    """
    last: dict[int, Any] = {}
    for layer in model.layers:
        if match := re.match(r"stage(\d+)_", layer.name):
            last[int(match[1])] = outer_output(layer)
    if not last:
        raise ValueError(f"Expected a network of this package, with layers stage1_... Received: {model.name!r}")
    maps = {f"C{stage + 1}": last[stage] for stage in sorted(last)}
    return keras.Model(model.input, _before_pooling(model) | maps, name=f"{model.name}_features")


def split(model: keras.Model, name: str) -> tuple[keras.Model, keras.Model]:
    """Returns the two parts of a network that end and begin at a feature map; they share its layers and weights.

    Example:
        >>> shared, conv5 = resnet_keras.surgery.split(resnet_keras.ResNet50(include_top=False), "C4")
        >>> regions = conv5(shared(images)[:, 3:17, 5:19])

    Args:
        model: A network of this package.
        name: The map, such as "C4"; see `features`.

    Returns:
        A model of images to the map, and one of the map, of any size if images may have any, to the network's output.

    Raises:
        ValueError: The network has no such map, or it is its last.
    """
    maps = features(model).output
    if name not in list(maps)[:-1]:
        raise ValueError(
            f"Expected a map within {model.name!r}, one of {', '.join(list(maps)[:-1])}. Received: {name!r}"
        )
    shared = keras.Model(model.input, maps[name], name=f"{model.name}_to_{name.lower()}")
    return shared, keras.Model(maps[name], model.output, name=f"{model.name}_after_{name.lower()}")


def _before_pooling(model: keras.Model) -> dict[str, Any]:
    """Returns C1, if the stem has a stride behind it."""
    names = {layer.name for layer in model.layers}
    if names.isdisjoint(("stem_pool", "stem_conv4")):
        return {}
    # Networks whose first block activates have no ReLU there.
    last = next(name for name in ("stem_relu", "stem_conv3", "stem_conv") if name in names)
    return {"C1": outer_output(model.get_layer(last))}


def with_head(
    model: keras.Model, classes: int, *, classifier_activation: str | Callable | None = "softmax"
) -> keras.Model:
    """Returns `model` with a new, freshly initialized classifier instead of its own; all other layers are shared.

    Args:
        model: A network of this package with a classifier.
        classes: Number of classes.
        classifier_activation: Activation after the logits; `None` returns the logits.

    Raises:
        ValueError: The model has no classifier, or `classes` is below 1.
    """
    if HEAD not in {layer.name for layer in model.layers}:
        raise ValueError(f"Expected a network with a classifier, a layer {HEAD!r}. Received: {model.name!r}, without")
    if not isinstance(classes, Integral) or classes < 1:
        raise ValueError(f"Expected `classes` to be a positive integer. Received: {classes!r}")
    x = head(model.get_layer(HEAD).input, int(classes), classifier_activation)
    changed = keras.Model(model.input, x, name=model.name)
    if (preprocessing := getattr(model, "preprocessing", None)) is not None:
        changed.preprocessing = preprocessing  # for `preprocess_input`
    return changed
