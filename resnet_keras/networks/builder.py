"""Residual and plain networks as functional Keras models (arXiv:1512.03385), all from one table."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec

import keras
from keras import layers

from resnet_keras.networks.architecture import (
    Architecture,
    BatchNorm,
    BottleneckStride,
    PlannedBlock,
    Shortcut,
    ZeroChannels,
)
from resnet_keras.networks.blocks import STEMS, batch_norm, block, head, relu
from resnet_keras.networks.catalog import ARCHITECTURES, architecture
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.sources import open_weights

SEGMENT_BLOCKS = 100
"""A network of more blocks holds them in nested models of at most this many, each within a stage.

Keras builds and reads a graph by recursion, which Python stops at a depth of 1000: ResNet-1202 as one flat graph would
not open again in a program that has not raised that limit.
"""

P = ParamSpec("P")


def build(
    network: Architecture | str,
    include_top: bool = True,
    weights: str | Path | keras.Model | ImportedWeights | None = None,
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
    """Returns {what}, freshly initialized (arXiv:1502.01852) unless `weights` are given.

    The arguments up to `name` are those of `keras.applications.ResNet50`, in their order; what follows replaces a
    field of the network's `Architecture`. Any precision policy is heeded, and the head computes in float32 under all.

    Example:
        >>> model = resnet_keras.ResNet50(input_shape=(None, None, 3), classes=10)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        network: A name in `ARCHITECTURES` or `FAMILY`, or an `Architecture` of your own.
        include_top: Whether the network ends in its classifier: average pooling, "logits", `classifier_activation`.
        weights: Whence to take them, see `resnet_keras.open_checkpoint`: our own or another library's file, folder or
            model, or the name of published ones, such as "imagenet". Where `bottleneck_stride` and `zero_channels` are
            not given, the network has them as the weights want it. A classifier of another number of classes than the
            weights' stays new, and a warning says so.
        input_tensor: A Keras tensor (N, H, W, C) to build the network on, in place of a new input.
        input_shape: Height and width in pixels, and channels. `None` leaves a height or width free. Without
            `input_shape`, both are the paper's with the classifier, and free without it.
        pooling: Without the classifier, how to pool the last feature map to (N, C): "avg", "max" or not at all.
        classes: Classes to tell apart; the paper's number if `None`.
        classifier_activation: What follows the logits; `None` returns the logits themselves.
        name: The model's name; the architecture's if `None`.
        shortcut: "A", "B" or "C" (§3.3, §4.1).
        zero_channels: Option A's zero channels "behind" the others, or half in front ("around").
        bottleneck_stride: A bottleneck's stride in its first "1x1" (the paper) or its "3x3" (torchvision).
        batch_norm: Under a distribution strategy, statistics "per_replica" (the paper) or "synchronized".
        output_stride: Pixels of the image per pixel of the last feature map, e.g. 16 or 8 in place of ResNet-50's 32.
            Stages that would go beyond it keep their input's height and width and dilate their 3x3 convolutions
            instead: every weight sees what it saw before, at more places (arXiv:1606.00915, §3.1).
        stochastic_depth: Probability that training leaves the last block's residual function out (arXiv:1603.09382).
        zero_init_residual: Whether each block begins as its shortcut (arXiv:1706.02677, §5.1).

    Returns:
        A functional model of normalized images (N, H, W, C): to float32 (N, classes) with the classifier; to
        (N, channels) with `pooling`; else to (N, ⌈H/s⌉, ⌈W/s⌉, channels), s being the output stride.

    Raises:
        ValueError: An unknown name or option, an input of another rank, an image smaller than the total stride,
            a number of classes below 1, or weights that do not fit (the message says which layers).
        FileNotFoundError: `weights` names a file that does not exist.
    """
    chosen = architecture(network) if isinstance(network, str) else network
    found = weights
    if weights is not None and not isinstance(weights, ImportedWeights):
        found = open_weights(weights, chosen.name)
    if isinstance(found, ImportedWeights) and isinstance(network, str):
        chosen = found.traits.of(chosen)
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
    chosen = replace(chosen, **{field: value for field, value in varied.items() if value is not None})  # type: ignore[arg-type]
    _check_options(include_top, pooling, classes)

    inputs = _input(chosen, input_tensor, input_shape, include_top)
    x = _body(inputs, chosen)
    if include_top:
        x = layers.GlobalAveragePooling2D(data_format="channels_last", dtype="float32", name="pool")(x)
        x = head(x, chosen.classes if classes is None else classes, classifier_activation)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(data_format="channels_last", dtype="float32", name="pool")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(data_format="channels_last", dtype="float32", name="pool")(x)
    sources = inputs if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    model = keras.Model(sources, x, name=name or chosen.name)
    if found is not None:
        load_weights(model, found, bottleneck_stride=bottleneck_stride, zero_channels=zero_channels)
    return model


def _check_options(include_top: bool, pooling: str | None, classes: int | None) -> None:
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"Expected `pooling` to be None, 'avg' or 'max'. Received: {pooling!r}")
    if include_top and classes is not None and (not isinstance(classes, int) or classes < 1):
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


def _named(
    builder: Callable[Concatenate[Architecture | str, P], keras.Model], network: str
) -> Callable[P, keras.Model]:
    """Returns `builder` for one network, with a name, a signature and a docstring of its own."""
    row = ARCHITECTURES[network]
    what = network.replace("resnet", "ResNet-").replace("plainnet", "the plain network of depth ")

    @functools.wraps(builder)
    def named(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
        return builder(network, *args, **kwargs)

    signature = inspect.signature(builder)
    parameters = [
        parameter.replace(default=row.classes if parameter.name == "classes" else parameter.default)
        for parameter in list(signature.parameters.values())[1:]
    ]
    named.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    named.__name__ = named.__qualname__ = network.replace("resnet", "ResNet").replace("plainnet", "PlainNet")
    lines = (inspect.getdoc(builder) or "").replace("{what}", what).splitlines(keepends=True)
    named.__doc__ = "".join(line for line in lines if not line.startswith("    network:"))
    return named


ResNet18 = _named(build, "resnet18")
ResNet34 = _named(build, "resnet34")
ResNet50 = _named(build, "resnet50")
ResNet101 = _named(build, "resnet101")
ResNet152 = _named(build, "resnet152")
PlainNet18 = _named(build, "plainnet18")
PlainNet34 = _named(build, "plainnet34")
ResNet20 = _named(build, "resnet20")
ResNet32 = _named(build, "resnet32")
ResNet44 = _named(build, "resnet44")
ResNet56 = _named(build, "resnet56")
ResNet110 = _named(build, "resnet110")
ResNet1202 = _named(build, "resnet1202")
PlainNet20 = _named(build, "plainnet20")
PlainNet32 = _named(build, "plainnet32")
PlainNet44 = _named(build, "plainnet44")
PlainNet56 = _named(build, "plainnet56")
PlainNet110 = _named(build, "plainnet110")

build.__doc__ = (build.__doc__ or "").replace("{what}", "the network called `network`, or the one that it describes")
