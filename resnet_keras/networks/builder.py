"""Residual and plain networks as functional Keras models (arXiv:1512.03385), all built from one table."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal

import keras
from keras import layers

from resnet_keras.checks.fields import suggest_arguments
from resnet_keras.networks.architecture import (
    Architecture,
    BatchNorm,
    PlannedBlock,
    Shortcut,
)
from resnet_keras.networks.blocks import STEMS, batch_norm, block, head, relu
from resnet_keras.networks.catalog import architecture
from resnet_keras.networks.conventions import BottleneckStride, ZeroChannels

SEGMENT_BLOCKS = 100
"""A network of more blocks holds them in nested models of at most this many, each within a stage.

Keras builds and reads a graph by recursion, which Python stops at a depth of 1000: ResNet-1202 as one flat graph would
not open again in a program that has not raised that limit.
"""


@suggest_arguments
def build(
    network: Architecture | str,
    include_top: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    shortcut: Shortcut | None = None,
    zero_channels: ZeroChannels | None = None,
    bottleneck_stride: BottleneckStride | None = None,
    batch_norm: BatchNorm | None = None,
    output_stride: int | None = None,
    stochastic_depth: float | None = None,
    zero_init_residual: bool | None = None,
) -> keras.Model:
    """Returns a network with random initial weights (arXiv:1502.01852).

    The positional arguments are those of `keras.applications.ResNet50` except `weights`, for which there is
    `resnet_keras.build_with_weights`. The keyword arguments replace fields of the network's `Architecture`. The
    network follows Keras's precision policy; its head computes in float32 under every policy.

    Example:
        >>> model = resnet_keras.build("resnet50vd", input_shape=(None, None, 3), classes=10)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        network: A name in `ARCHITECTURES` or `FAMILY`, or an `Architecture`.
        include_top: Whether the network ends in its classifier: average pooling, "logits", `classifier_activation`.
        input_tensor: A Keras tensor (N, H, W, C) to build the network on, instead of a new input.
        input_shape: Height and width in pixels, and channels. `None` leaves a height or width free. Without
            `input_shape`, both are the paper's with the classifier, and free without it.
        pooling: Without the classifier, how to pool the last feature map to (N, C): "avg", "max" or not at all.
        classes: Number of classes; the paper's if `None`.
        classifier_activation: Activation after the logits; `None` returns the logits themselves.
        name: The model's name; the architecture's if `None`.
        shortcut: "A", "B" or "C" (§3.3, §4.1).
        zero_channels: Option A adds its zero channels at the "end", or half of them on "both_sides".
        bottleneck_stride: A bottleneck's stride is in its first "1x1" (the paper) or its "3x3" (torchvision).
        batch_norm: Under a distribution strategy, statistics "per_replica" (the paper) or "synchronized".
        output_stride: Pixels of the image per pixel of the last feature map, e.g. 16 or 8 instead of ResNet-50's 32.
            Later stages keep their input's height and width and dilate their 3x3 convolutions: every weight sees the
            same pixels as before, at more positions (arXiv:1606.00915, §3.1).
        stochastic_depth: Probability of dropping the last residual branch in training (arXiv:1603.09382).
        zero_init_residual: Whether each block begins as its shortcut (arXiv:1706.02677, §5.1).

    Returns:
        A functional model of normalized images (N, H, W, C): to float32 (N, classes) with the classifier; to
        (N, channels) with `pooling`; else to (N, ⌈H/s⌉, ⌈W/s⌉, channels), where s is the output stride.

    Raises:
        ValueError: An unknown name or option, an input of the wrong rank, an image smaller than the total stride, or
            a number of classes below 1.
    """
    chosen = architecture(network) if isinstance(network, str) else network
    varied = {
        "shortcut": shortcut,
        "zero_channels": zero_channels,
        "bottleneck_stride": bottleneck_stride,
        "batch_norm": batch_norm,
        "output_stride": output_stride,
        "stochastic_depth": stochastic_depth,
        "zero_init_residual": zero_init_residual,
    }
    if chosen.shortcut is None and (shortcut or zero_channels):
        raise ValueError(f"Expected no option of shortcuts: {chosen.name} has none. Received: {varied}")
    chosen = chosen.replace(**{field: value for field, value in varied.items() if value is not None})
    _check_options(include_top, pooling, classes)

    inputs = _input(chosen, input_tensor, input_shape, include_top)
    x = _body(inputs, chosen)
    if include_top:
        x = layers.GlobalAveragePooling2D(data_format="channels_last", dtype="float32", name="pool")(x)
        x = head(x, chosen.classes if classes is None else int(classes), classifier_activation)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(data_format="channels_last", dtype="float32", name="pool")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(data_format="channels_last", dtype="float32", name="pool")(x)
    sources = inputs if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    return keras.Model(sources, x, name=name or chosen.name)


def _check_options(include_top: bool, pooling: str | None, classes: int | None) -> None:
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"Expected `pooling` to be None, 'avg' or 'max'. Received: {pooling!r}")
    if include_top and classes is not None and (not isinstance(classes, Integral) or classes < 1):
        raise ValueError(f"Expected `classes` to be a positive integer. Received: {classes!r}")


def _input(
    chosen: Architecture, input_tensor: Any, input_shape: tuple[int | None, ...] | None, include_top: bool
) -> Any:
    """Returns the Keras tensor (N, H, W, C) that the network begins with."""
    if input_tensor is not None and not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(f"Expected `input_tensor` to be a Keras tensor, from `keras.Input`. Received: {input_tensor}")
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(
                f"Expected `input_shape` to be that of `input_tensor`, {shape}, or None. Received: {input_shape}"
            )
    elif input_shape is not None:
        shape = tuple(input_shape)
    else:
        side = chosen.image_size if include_top else None
        shape = (side, side, 3)
    if len(shape) != 3 or shape[2] is None:
        raise ValueError(
            "Expected images of height, width and a known number of channels, (H, W, C) without the batch. "
            f"Received: a shape of {shape}"
        )
    smallest = chosen.total_stride
    if any(side is not None and side < smallest for side in shape[:2]) or shape[2] < 1:
        raise ValueError(
            f"Expected images of at least {smallest}x{smallest} pixels, the total stride of {chosen.name}, with at "
            f"least one channel, (H, W, C). Received: a shape of {shape}"
        )
    return keras.Input(shape, name="image") if input_tensor is None else input_tensor


def _body(x: Any, chosen: Architecture) -> Any:
    """Applies the stem and all blocks: (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, channels)."""
    x = STEMS[chosen.stem](x, chosen.stem_width or chosen.widths[0], chosen)
    deep = sum(chosen.repeats) > SEGMENT_BLOCKS
    for stage in chosen.blocks:
        for start in range(0, len(stage), SEGMENT_BLOCKS):
            part = stage[start : start + SEGMENT_BLOCKS]
            if not deep:
                x = _blocks(x, part, chosen)
                continue
            inner = keras.Input(x.shape[1:], dtype=x.dtype)
            x = keras.Model(inner, _blocks(inner, part, chosen), name=f"{part[0].name}_to_{part[-1].name}")(x)
    if chosen.activation == "before":
        x = relu(batch_norm(x, chosen, name="final_bn"), name="final_relu")
    return x


def _blocks(x: Any, part: tuple[PlannedBlock, ...], chosen: Architecture) -> Any:
    for plan in part:
        x = block(x, plan, chosen)
    return x
