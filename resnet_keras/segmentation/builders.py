"""FCN, DeepLabV3, and U-Net as functional Keras models over any network of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import keras
from keras import layers

from resnet_keras.applications.named_networks import build_with_weights, check_one_source, network_and_weights
from resnet_keras.networks.architecture import Architecture
from resnet_keras.segmentation.heads import deeplab_head, fcn_head, unet_decoder
from resnet_keras.surgery.feature_maps import features
from resnet_keras.weights.dense_heads import AUXILIARY_HEAD
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.loading import load_weights

Weights: TypeAlias = "str | Path | keras.Model | ImportedWeights | None"

_UNET_STRIDE = 32


def FCN(
    backbone: str | Architecture = "resnet50",
    classes: int = 21,
    *,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    output_stride: int = 8,
    auxiliary: bool = False,
    weights: Weights = None,
    backbone_weights: Weights = None,
    classifier_activation: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """Returns a fully convolutional network (arXiv:1411.4038) as torchvision has it, without skips.

    Example:
        >>> model = resnet_keras.segmentation.FCN("resnet50", classes=12, backbone_weights="imagenet")
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255))

    Args:
        backbone: Name of a network of this package with four stages, or its `Architecture`.
        classes: Number of classes, the background included; VOC has 21.
        input_shape: Height and width in pixels, and channels. A height or width of `None` is free, but has to be a
            multiple of `output_stride`; a fixed one may be any.
        output_stride: Pixels of the image per pixel of the last feature map: 8, 16, or 32.
        auxiliary: Whether there is a second head on C4, for a second loss (arXiv:1612.01105, section 3.3).
        weights: Weights of the whole network: a file of this package or of torchvision, or a model; see
            `resnet_keras.weights.open_weights`. With another number of classes, both classifiers are new.
        backbone_weights: Weights of the backbone alone, such as "imagenet"; not with `weights`.
        classifier_activation: Activation after the logits, such as "softmax"; `None` returns the logits.
        name: Name of the model.

    Returns:
        A functional model from normalized images (N, H, W, C) to float32 (N, H, W, classes); with `auxiliary`, to the
        dictionary {"logits": ..., "auxiliary_logits": ...} of two such tensors.

    Raises:
        ValueError: An argument is out of its range, the backbone has no map that is needed, or weights do not fit.
        FileNotFoundError: A file of weights does not exist.
    """

    def head(maps: dict[str, Any], row: Architecture) -> Any:
        return fcn_head(_map(maps, "C5", row), classes, row)

    return _with_backbone(
        "fcn",
        head,
        backbone,
        classes,
        input_shape,
        output_stride,
        auxiliary,
        weights,
        backbone_weights,
        classifier_activation,
        name,
    )


def DeepLabV3(
    backbone: str | Architecture = "resnet50",
    classes: int = 21,
    *,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    output_stride: int = 8,
    auxiliary: bool = False,
    weights: Weights = None,
    backbone_weights: Weights = None,
    classifier_activation: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """Returns DeepLabV3 (arXiv:1706.05587): atrous spatial pyramid pooling on C5.

    Example:
        >>> model = resnet_keras.segmentation.DeepLabV3("resnet101", weights="deeplabv3_resnet101_coco.pth")

    Args:
        backbone: Name of a network of this package with four stages, or its `Architecture`.
        classes: Number of classes, the background included; VOC has 21.
        input_shape: Height and width in pixels, and channels. A height or width of `None` is free, but has to be a
            multiple of `output_stride`; a fixed one may be any.
        output_stride: Pixels of the image per pixel of the last feature map: 8, 16, or 32. The rates of the pyramid
            are 12, 24, and 36 at 8, half of them at 16 (section 4.1).
        auxiliary: Whether there is a second head on C4, for a second loss, as in torchvision.
        weights: Weights of the whole network: a file of this package or of torchvision, or a model; see
            `resnet_keras.weights.open_weights`. With another number of classes, both classifiers are new.
        backbone_weights: Weights of the backbone alone, such as "imagenet"; not with `weights`.
        classifier_activation: Activation after the logits, such as "softmax"; `None` returns the logits.
        name: Name of the model.

    Returns:
        A functional model from normalized images (N, H, W, C) to float32 (N, H, W, classes); with `auxiliary`, to the
        dictionary {"logits": ..., "auxiliary_logits": ...} of two such tensors.

    Raises:
        ValueError: An argument is out of its range, the backbone has no map that is needed, or weights do not fit.
        FileNotFoundError: A file of weights does not exist.
    """

    def head(maps: dict[str, Any], row: Architecture) -> Any:
        return deeplab_head(_map(maps, "C5", row), classes, row, output_stride)

    return _with_backbone(
        "deeplabv3",
        head,
        backbone,
        classes,
        input_shape,
        output_stride,
        auxiliary,
        weights,
        backbone_weights,
        classifier_activation,
        name,
    )


def UNet(
    backbone: str | Architecture = "resnet18",
    classes: int = 21,
    *,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    weights: Weights = None,
    backbone_weights: Weights = None,
    classifier_activation: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """Returns a U-Net (arXiv:1505.04597) whose encoder is a residual network, as in segmentation_models_pytorch.

    Example:
        >>> model = resnet_keras.segmentation.UNet("resnet18", classes=12, backbone_weights="imagenet")

    Args:
        backbone: Name of a network of this package with ImageNet's stem, or its `Architecture`.
        classes: Number of classes, the background included.
        input_shape: Height and width in pixels, and channels. Height and width have to be multiples of 32; `None`
            leaves them free.
        weights: Weights of the whole network: a file of this package or of segmentation_models_pytorch, or a model;
            see `resnet_keras.weights.open_weights`. With another number of classes, the classifier is new.
        backbone_weights: Weights of the encoder alone, such as "imagenet"; not with `weights`.
        classifier_activation: Activation after the logits, such as "softmax"; `None` returns the logits.
        name: Name of the model.

    Returns:
        A functional model from normalized images (N, H, W, C) to float32 (N, H, W, classes).

    Raises:
        ValueError: An argument is out of its range, the backbone has no map that is needed, or weights do not fit.
        FileNotFoundError: A file of weights does not exist.
    """
    for side in input_shape[:2]:
        if side is not None and (side < 1 or side % _UNET_STRIDE):
            raise ValueError(
                f"Expected a height and width of `input_shape` that are multiples of {_UNET_STRIDE}, or the maps of a "
                f"U-Net do not fit each other; pad or resize to {max(round(side / _UNET_STRIDE), 1) * _UNET_STRIDE}. "
                f"Received: {input_shape}"
            )

    def head(maps: dict[str, Any], row: Architecture) -> Any:
        return unet_decoder([_map(maps, f"C{number}", row) for number in (5, 4, 3, 2, 1)], classes, row)

    return _with_backbone(
        "unet",
        head,
        backbone,
        classes,
        input_shape,
        None,
        False,
        weights,
        backbone_weights,
        classifier_activation,
        name,
    )


def _with_backbone(
    kind: str,
    head: Callable[[dict[str, Any], Architecture], Any],
    backbone: str | Architecture,
    classes: int,
    input_shape: tuple[int | None, int | None, int],
    output_stride: int | None,
    auxiliary: bool,
    weights: Weights,
    backbone_weights: Weights,
    activation: str | None,
    name: str | None,
) -> keras.Model:
    if isinstance(classes, bool) or classes < 1:
        raise ValueError(f"Expected `classes` to be at least 1. Received: {classes!r}")
    check_one_source(weights, backbone_weights)
    row, found = network_and_weights(backbone, weights)
    network: str | Architecture = row if found is not None else backbone
    body = build_with_weights(
        network, include_top=False, weights=backbone_weights, input_shape=input_shape, output_stride=output_stride
    )
    maps = features(body).output
    outputs = _full_size(head(maps, row), input_shape, output_stride, activation, "predictions")
    if auxiliary:
        second = fcn_head(_map(maps, "C4", row), classes, row, auxiliary=True)
        outputs = {
            "logits": outputs,
            AUXILIARY_HEAD: _full_size(second, input_shape, output_stride, activation, "auxiliary_predictions"),
        }
    model = keras.Model(body.input, outputs, name=name or f"{kind}_{row.name}")
    if found is not None:
        load_weights(model, found)
        model.preprocessing = found.preprocessing
    else:
        model.preprocessing = getattr(body, "preprocessing", None)
    return model


def _map(maps: dict[str, Any], name: str, row: Architecture) -> Any:
    if name not in maps:
        raise ValueError(
            f"Expected a backbone with a map {name}: ImageNet's stem and four stages, such as resnet18. "
            f"Received: {row.name}, with {', '.join(maps)}"
        )
    return maps[name]


def _full_size(
    logits: Any,
    input_shape: tuple[int | None, int | None, int],
    output_stride: int | None,
    activation: str | None,
    name: str,
) -> Any:
    """Returns logits at the image's size, by bilinear interpolation of half-pixel centers, and their activation."""
    height, width = input_shape[:2]
    prefix = "auxiliary_" if name.startswith("auxiliary") else ""
    if output_stride is not None and height and width:
        resize = layers.Resizing(height, width, interpolation="bilinear", dtype="float32", name=f"{prefix}resize")
        logits = resize(logits)
    elif output_stride is not None:
        logits = layers.UpSampling2D(
            output_stride,
            interpolation="bilinear",
            data_format="channels_last",
            dtype="float32",
            name=f"{prefix}resize",
        )(logits)
    if activation in (None, "linear"):
        return logits
    return layers.Activation(activation, dtype="float32", name=name)(logits)
