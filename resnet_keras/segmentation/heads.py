"""Heads of segmentation networks: from feature maps to logits for each pixel."""

from __future__ import annotations

from typing import Any

from keras import layers

from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.blocks import HEAD, batch_norm, convolution, relu
from resnet_keras.weights.dense_heads import AUXILIARY_HEAD

ASPP_CHANNELS = 256
DECODER_WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the five steps of U-Net's decoder, as in segmentation_models_pytorch."""

_ASPP_RATES = (12, 24, 36)  # arXiv:1706.05587, section 3.3: those of output stride 8
_ASPP_STRIDE = 8
_ASPP_DROPOUT, _FCN_DROPOUT = 0.5, 0.1


def fcn_head(x: Any, classes: int, architecture: Architecture, *, auxiliary: bool = False) -> Any:
    """3x3 convolution to a quarter of the channels, and a classifier of 1x1: (N, h, w, C) -> (N, h, w, classes).

    Source: torchvision's `FCNHead`, after arXiv:1411.4038, section 4, without its skips.
    """
    prefix, name = ("auxiliary", AUXILIARY_HEAD) if auxiliary else ("head", HEAD)
    x = _conv_bn_relu(x, x.shape[-1] // 4, 3, architecture, name=f"{prefix}_conv")
    x = layers.Dropout(_FCN_DROPOUT, name=f"{prefix}_dropout")(x)
    return pixel_classifier(x, classes, name=name)


def deeplab_head(x: Any, classes: int, architecture: Architecture, output_stride: int) -> Any:
    """Atrous spatial pyramid pooling, a 3x3 convolution, and a classifier: (N, h, w, C) -> (N, h, w, classes).

    Source: arXiv:1706.05587, section 3.3: one convolution of 1x1, three of 3x3 with rates of 12, 24, and 36 at output
    stride 8 (half of them at 16), and the mean of the whole map.
    """
    branches = [_conv_bn_relu(x, ASPP_CHANNELS, 1, architecture, name="aspp_conv1")]
    for number, rate in enumerate(_ASPP_RATES, 2):
        dilation = max(rate * _ASPP_STRIDE // output_stride, 1)
        branches.append(_conv_bn_relu(x, ASPP_CHANNELS, 3, architecture, name=f"aspp_conv{number}", dilation=dilation))
    pooled = layers.GlobalAveragePooling2D(keepdims=True, data_format="channels_last", name="aspp_pool")(x)
    pooled = _conv_bn_relu(pooled, ASPP_CHANNELS, 1, architecture, name="aspp_pooled_conv")
    branches.append(_spread(pooled, branches[0]))
    x = layers.Concatenate(name="aspp_concatenate")(branches)
    x = _conv_bn_relu(x, ASPP_CHANNELS, 1, architecture, name="aspp_projection")
    x = layers.Dropout(_ASPP_DROPOUT, name="aspp_dropout")(x)
    x = _conv_bn_relu(x, ASPP_CHANNELS, 3, architecture, name="head_conv")
    return pixel_classifier(x, classes, name=HEAD)


def unet_decoder(maps: list[Any], classes: int, architecture: Architecture) -> Any:
    """Five steps up to the size of the image: maps C5, C4, C3, C2, C1 -> (N, H, W, classes).

    Each step doubles height and width, adds the channels of the next map, and convolves twice (arXiv:1505.04597, Fig.
    1, with the padding, the normalization, and the nearest neighbors of segmentation_models_pytorch).
    """
    x, *skips = maps
    for number, width in enumerate(DECODER_WIDTHS, 1):
        name = f"decoder{number}"
        up = layers.UpSampling2D(2, interpolation="nearest", data_format="channels_last", name=f"{name}_up")
        x = up(x)
        if skips:
            x = layers.Concatenate(name=f"{name}_concatenate")([x, skips.pop(0)])
        for k in (1, 2):
            x = _conv_bn_relu(x, width, 3, architecture, name=f"{name}_conv{k}")
    return pixel_classifier(x, classes, 3, name=HEAD)


def pixel_classifier(x: Any, classes: int, kernel: int = 1, *, name: str) -> Any:
    """Returns the logits of each pixel: (N, h, w, C) -> float32 (N, h, w, classes)."""
    return layers.Conv2D(classes, kernel, padding="same", data_format="channels_last", dtype="float32", name=name)(x)


def _conv_bn_relu(
    x: Any, channels: int, kernel: int, architecture: Architecture, *, name: str, dilation: int = 1
) -> Any:
    x = convolution(x, channels, kernel, name=name, dilation=dilation)
    return relu(batch_norm(x, architecture, name=f"{name}_bn"), name=f"{name}_relu")


def _spread(pooled: Any, like: Any) -> Any:
    """Returns one pixel (N, 1, 1, C) at all places of a map (N, h, w, C)."""
    nothing = layers.Subtract(name="aspp_zeros")([like, like])  # of the map's size, whatever it is
    return layers.Add(name="aspp_spread")([nothing, pooled])
