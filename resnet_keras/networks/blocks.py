"""Stems, residual blocks and shortcuts, as the paper draws them (arXiv:1512.03385, Fig. 2, 3 and 5), and later ones."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.layers.grouped_conv import Conv2D
from resnet_keras.networks.architecture import Architecture, PlannedBlock
from resnet_keras.networks.conventions import Padding

MOMENTUM = 0.9
EPSILON = 1e-5
HEAD = "logits"
"""Name of the layer that gives the logits."""


def he_normal() -> keras.initializers.Initializer:
    """Returns the initializer of arXiv:1502.01852: a normal distribution, not truncated, of variance 2 / fan-in."""
    return keras.initializers.VarianceScaling(scale=2.0, mode="fan_in", distribution="untruncated_normal")


def convolution(
    x: Any,
    channels: int,
    kernel: int,
    stride: int = 1,
    *,
    name: str,
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    padding: Padding | None = "symmetric",
) -> Any:
    """Convolves: (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, channels).

    A kernel with a stride has "symmetric" padding, as in the paper's framework, or TensorFlow's "same", which pads more
    at the bottom and right, so that its windows are one pixel off.
    """
    valid = padding == "symmetric" and stride > 1
    if kernel > 1 and valid:
        x = layers.ZeroPadding2D(kernel // 2, data_format="channels_last", name=f"{name}_pad")(x)
    kind = layers.Conv2D if groups == 1 else Conv2D
    return kind(
        channels,
        kernel,
        strides=stride,
        padding="valid" if valid else "same",
        dilation_rate=dilation,
        groups=groups,
        use_bias=use_bias,
        kernel_initializer=he_normal(),
        data_format="channels_last",
        name=name,
    )(x)


def batch_norm(x: Any, architecture: Architecture, *, name: str, last: bool = False) -> Any:
    """Applies batch normalization (§3.4); the `last` of a residual function may begin with a scale of 0."""
    epsilon = architecture.conventions.epsilon
    return BatchNormalization(
        momentum=MOMENTUM,
        epsilon=EPSILON if epsilon is None else epsilon,
        synchronized=architecture.batch_norm == "synchronized",
        gamma_initializer="zeros" if last and architecture.zero_init_residual else "ones",
        name=name,
    )(x)


def conv_bn(
    x: Any,
    channels: int,
    kernel: int,
    stride: int,
    architecture: Architecture,
    *,
    name: str,
    dilation: int = 1,
    groups: int = 1,
    last: bool = False,
) -> Any:
    """Convolves without bias, then normalizes (§3.4): (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, channels)."""
    padding = architecture.conventions.padding
    x = convolution(x, channels, kernel, stride, name=name, dilation=dilation, groups=groups, padding=padding)
    return batch_norm(x, architecture, name=f"{name}_bn", last=last)


def conv(
    x: Any, channels: int, kernel: int, stride: int, architecture: Architecture, *, name: str, dilation: int = 1
) -> Any:
    """Convolves without a normalization after it: (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, channels)."""
    bias, padding = bool(architecture.conventions.conv_bias), architecture.conventions.padding
    return convolution(x, channels, kernel, stride, name=name, dilation=dilation, use_bias=bias, padding=padding)


def relu(x: Any, *, name: str) -> Any:
    """Returns the rectified `x`, by a layer with a name."""
    return layers.ReLU(name=name)(x)


def imagenet_stem(x: Any, width: int, architecture: Architecture) -> Any:
    """7x7 convolution and 3x3 max-pool, both of stride 2 (Table 1): (N, H, W, C) -> (N, ⌈H/4⌉, ⌈W/4⌉, width)."""
    return max_pool(_stem_end(x, width, 7, 2, architecture, "stem_conv"), architecture)


def deep_stem(x: Any, width: int, architecture: Architecture) -> Any:
    """Three 3x3 convolutions, the first of stride 2, and the max-pool (arXiv:1812.01187, Fig. 2b): shapes as above."""
    return max_pool(_three_convolutions(x, width, architecture), architecture)


def strided_stem(x: Any, width: int, architecture: Architecture) -> Any:
    """Four 3x3 convolutions, the first and the last of stride 2 (arXiv:2103.07579, §4.2): shapes as above."""
    x = _three_convolutions(x, width, architecture)
    return relu(conv_bn(x, width, 3, 2, architecture, name="stem_conv4"), name="stem_conv4_relu")


def cifar_stem(x: Any, width: int, architecture: Architecture) -> Any:
    """One 3x3 convolution (§4.2): (N, H, W, C) -> (N, H, W, width)."""
    return _stem_end(x, width, 3, 1, architecture, "stem_conv")


def _three_convolutions(x: Any, width: int, architecture: Architecture) -> Any:
    for i, stride in ((1, 2), (2, 1)):
        x = conv_bn(x, width // 2, 3, stride, architecture, name=f"stem_conv{i}")
        x = relu(x, name=f"stem_conv{i}_relu")
    return _stem_end(x, width, 3, 1, architecture, "stem_conv3")


def _stem_end(x: Any, width: int, kernel: int, stride: int, architecture: Architecture, name: str) -> Any:
    """Convolves, then normalizes and rectifies unless the first block does."""
    if architecture.activation == "before" and architecture.conventions.first_activation == "block":
        return conv(x, width, kernel, stride, architecture, name=name)
    return relu(conv_bn(x, width, kernel, stride, architecture, name=name), name="stem_relu")


def max_pool(x: Any, architecture: Architecture) -> Any:
    """3x3 max-pool of stride 2 (Table 1): (N, H, W, C) -> (N, ⌈H/2⌉, ⌈W/2⌉, C)."""
    if architecture.conventions.padding == "same_tf":
        pool = layers.MaxPooling2D(3, strides=2, padding="same", data_format="channels_last", name="stem_pool")
        return pool(x)
    if architecture.conventions.pool_border != "zeros":
        # Without padding, whose border would need an operation that Keras does not read from HDF5.
        x = layers.MaxPooling2D(3, strides=1, padding="same", data_format="channels_last", name="stem_pool_edge")(x)
        return subsample(x, 2, name="stem_pool")
    # After a ReLU, zeros are as good a border for a maximum as minus infinity.
    x = layers.ZeroPadding2D(1, data_format="channels_last", name="stem_pool_pad")(x)
    return layers.MaxPooling2D(3, strides=2, data_format="channels_last", name="stem_pool")(x)


def subsample(x: Any, stride: int, *, name: str) -> Any:
    """Takes each `stride`-th row and column: (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, C).

    As a layer, because a slice is an operation, which Keras writes to HDF5 and does not read.
    """
    return layers.MaxPooling2D(1, strides=stride, data_format="channels_last", name=name)(x)


def shortcut(x: Any, activated: Any, channels: int, plan: PlannedBlock, architecture: Architecture) -> Any:
    """Carries `x` around the residual (§3.3): (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, channels).

    A projection sees `activated`, the input of the residual function (arXiv:1603.05027, §3.2); with activation after
    convolutions, that is `x`.
    """
    name, stride = plan.name, plan.stride
    option, same = architecture.shortcut, x.shape[-1] == channels
    if option != "C" and same and not (architecture.conventions.first_projection and name == "stage1_block1"):
        if stride == 1:
            return x  # the identity of Eqn. (1)
        if architecture.conventions.strided_block != "first":
            return subsample(x, stride, name=f"{name}_shortcut_stride")
    if option == "A":
        missing = channels - x.shape[-1]
        front = missing // 2 if architecture.conventions.zero_channels == "both_sides" else 0
        x = subsample(x, stride, name=f"{name}_shortcut_stride") if stride > 1 else x
        # A layer, as above: "channels_first" makes width and channels, the last two axes, those that it pads.
        zeros = ((0, 0), (front, missing - front))
        return layers.ZeroPadding2D(zeros, data_format="channels_first", name=f"{name}_shortcut_zeros")(x)
    name = f"{name}_projection"
    if architecture.conventions.projection == "bare":
        return conv(activated, channels, 1, stride, architecture, name=name)
    if architecture.conventions.projection == "pooled" and stride > 1:
        pool = layers.AveragePooling2D(
            stride, strides=stride, padding="same", data_format="channels_last", name=f"{name}_pool"
        )
        activated, stride = pool(activated), 1
    return conv_bn(activated, channels, 1, stride, architecture, name=name)  # Eqn. (2)


def basic_residual(x: Any, plan: PlannedBlock, architecture: Architecture) -> Any:
    """Two 3x3 convolutions (Fig. 5, left): (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, width)."""
    name, width = plan.name, plan.width
    at_conv1 = architecture.conventions.basic_stride == "conv1"
    stride1, stride2 = (plan.stride, 1) if at_conv1 else (1, plan.stride)
    x = conv_bn(x, width, 3, stride1, architecture, name=f"{name}_conv1", dilation=plan.dilation)
    x = relu(x, name=f"{name}_conv1_relu")
    dilation = plan.dilation_after if at_conv1 else plan.dilation
    return _last(x, 3, plan, architecture, name=f"{name}_conv2", stride=stride2, dilation=dilation)


def bottleneck_residual(x: Any, plan: PlannedBlock, architecture: Architecture) -> Any:
    """1x1 reduces, 3x3 works, 1x1 restores (Fig. 5, right): (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, 4 width)."""
    name, width = plan.name, plan.width
    at_1x1 = architecture.conventions.bottleneck_stride == "1x1"
    stride1, stride2 = (plan.stride, 1) if at_1x1 else (1, plan.stride)
    x = relu(conv_bn(x, width, 1, stride1, architecture, name=f"{name}_conv1"), name=f"{name}_conv1_relu")
    dilation = plan.dilation_after if at_1x1 else plan.dilation
    groups = architecture.groups
    x = conv_bn(x, width, 3, stride2, architecture, name=f"{name}_conv2", dilation=dilation, groups=groups)
    x = relu(x, name=f"{name}_conv2_relu")
    return _last(x, 1, plan, architecture, name=f"{name}_conv3")


def _last(
    x: Any,
    kernel: int,
    plan: PlannedBlock,
    architecture: Architecture,
    *,
    name: str,
    stride: int = 1,
    dilation: int = 1,
) -> Any:
    """Applies the last convolution of a residual function, whose channels are the block's output channels."""
    channels = plan.width * architecture.channels_per_width
    if architecture.activation == "before":
        return conv(x, channels, kernel, stride, architecture, name=name, dilation=dilation)
    return conv_bn(x, channels, kernel, stride, architecture, name=name, dilation=dilation, last=True)


def squeeze_and_excitation(x: Any, reduction: int, *, name: str) -> Any:
    """Scales each channel by a function of all channels' means (arXiv:1709.01507, Eqn. 2 to 4): shape unchanged."""
    channels = x.shape[-1]
    scale = layers.GlobalAveragePooling2D(keepdims=True, data_format="channels_last", name=f"{name}_squeeze")(x)
    scale = convolution(scale, channels // reduction, 1, use_bias=True, name=f"{name}_reduce")
    scale = relu(scale, name=f"{name}_reduce_relu")
    scale = convolution(scale, channels, 1, use_bias=True, name=f"{name}_expand")
    scale = layers.Activation("sigmoid", name=f"{name}_excitation")(scale)
    return layers.Multiply(name=f"{name}_scale")([x, scale])


STEMS = {"imagenet": imagenet_stem, "cifar": cifar_stem, "deep": deep_stem, "strided": strided_stem}
RESIDUALS = {"basic": basic_residual, "bottleneck": bottleneck_residual}


def block(x: Any, plan: PlannedBlock, architecture: Architecture) -> Any:
    """Returns relu(F(x) + shortcut(x)), or relu(F(x)) in a plain network (Fig. 2).

    With activation before convolutions it is F(relu(bn(x))) + shortcut(x) (arXiv:1603.05027, Fig. 1b).
    """
    activated = x
    if plan.preactivated:
        activated = relu(batch_norm(x, architecture, name=f"{plan.name}_preact_bn"), name=f"{plan.name}_preact_relu")
    residual = RESIDUALS[architecture.block](activated, plan, architecture)
    if architecture.se_reduction:
        residual = squeeze_and_excitation(residual, architecture.se_reduction, name=plan.name)
    if architecture.shortcut is not None:
        if plan.drop:
            # Stochastic depth: drops whole residual branches, and scales the others to keep the mean.
            residual = layers.Dropout(plan.drop, noise_shape=(None, 1, 1, 1), name=f"{plan.name}_drop")(residual)
        around = shortcut(x, activated, residual.shape[-1], plan, architecture)
        # The shortcut first: Keras traverses a graph back along first inputs by recursion, and this path is shorter.
        residual = layers.Add(name=f"{plan.name}_add")([around, residual])
    return residual if architecture.activation == "before" else relu(residual, name=f"{plan.name}_relu")


def head(x: Any, classes: int, activation: Any) -> Any:
    """Returns the logits, or their activation, from one layer: (N, channels) -> float32 (N, classes)."""
    # In float32: a logit in half precision would lose digits that the loss and top-1 need.
    dense = layers.Dense(classes, activation, kernel_initializer=he_normal(), dtype="float32", name=HEAD)
    return dense(x)
