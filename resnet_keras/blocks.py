"""Stems, residual blocks and shortcuts, as the paper draws them (arXiv:1512.03385, Fig. 2, 3 and 5)."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from resnet_keras.architectures import EXPANSION, Architecture, PlannedBlock
from resnet_keras.normalization import BatchNormalization

MOMENTUM = 0.9
EPSILON = 1e-5


def he_normal() -> keras.initializers.Initializer:
    """Returns the initialiser of arXiv:1502.01852: a normal distribution, not truncated, of variance 2 / fan-in."""
    return keras.initializers.VarianceScaling(scale=2.0, mode="fan_in", distribution="untruncated_normal")


def conv_bn(
    x: Any,
    channels: int,
    kernel: int,
    stride: int,
    architecture: Architecture,
    *,
    name: str,
    dilation: int = 1,
    last: bool = False,
) -> Any:
    """Convolves without bias, then normalises (§3.4): (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, channels).

    Strided kernels are padded alike on both sides, as by the paper's framework; TensorFlow's "same" would put the
    larger half behind, and its windows one pixel off. The `last` of a residual function may begin with a scale of 0.
    """
    padding = "same" if stride == 1 else "valid"
    if kernel > 1 and stride > 1:
        x = layers.ZeroPadding2D(kernel // 2, data_format="channels_last", name=f"{name}_pad")(x)
    x = layers.Conv2D(
        channels,
        kernel,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer=he_normal(),
        data_format="channels_last",
        name=name,
    )(x)
    return BatchNormalization(
        momentum=MOMENTUM,
        epsilon=EPSILON,
        synchronized=architecture.batch_norm == "synchronized",
        gamma_initializer="zeros" if last and architecture.zero_init_residual else "ones",
        name=f"{name}_bn",
    )(x)


def relu(x: Any, *, name: str) -> Any:
    """Rectifies `x`."""
    return layers.ReLU(name=name)(x)


def imagenet_stem(x: Any, width: int, architecture: Architecture) -> Any:
    """7x7 convolution and 3x3 max-pool, both of stride 2 (Table 1): (N, H, W, C) -> (N, ⌈H/4⌉, ⌈W/4⌉, width)."""
    x = relu(conv_bn(x, width, 7, 2, architecture, name="stem_conv"), name="stem_relu")
    # After a ReLU, zeros are as good a border for a maximum as minus infinity.
    x = layers.ZeroPadding2D(1, data_format="channels_last", name="stem_pool_pad")(x)
    return layers.MaxPooling2D(3, strides=2, data_format="channels_last", name="stem_pool")(x)


def cifar_stem(x: Any, width: int, architecture: Architecture) -> Any:
    """One 3x3 convolution (§4.2): (N, H, W, C) -> (N, H, W, width)."""
    return relu(conv_bn(x, width, 3, 1, architecture, name="stem_conv"), name="stem_relu")


def shortcut(x: Any, channels: int, stride: int, architecture: Architecture, *, name: str) -> Any:
    """Carries `x` around the residual (§3.3): (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, channels)."""
    if architecture.shortcut != "C" and stride == 1 and x.shape[-1] == channels:
        return x  # the identity of Eqn. (1)
    if architecture.shortcut == "A":
        missing = channels - x.shape[-1]
        front = missing // 2 if architecture.zero_channels == "around" else 0
        x = x[:, ::stride, ::stride, :]
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), (front, missing - front)))
    return conv_bn(x, channels, 1, stride, architecture, name=f"{name}_projection")  # Eqn. (2)


def basic_residual(x: Any, plan: PlannedBlock, architecture: Architecture) -> Any:
    """Two 3x3 convolutions (Fig. 5, left): (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, width)."""
    name, width = plan.name, plan.width
    x = conv_bn(x, width, 3, plan.stride, architecture, name=f"{name}_conv1", dilation=plan.dilation)
    x = relu(x, name=f"{name}_conv1_relu")
    return conv_bn(x, width, 3, 1, architecture, name=f"{name}_conv2", dilation=plan.dilation_after, last=True)


def bottleneck_residual(x: Any, plan: PlannedBlock, architecture: Architecture) -> Any:
    """1x1 reduces, 3x3 works, 1x1 restores (Fig. 5, right): (N, H, W, C) -> (N, ⌈H/s⌉, ⌈W/s⌉, 4 width)."""
    name, width = plan.name, plan.width
    at_1x1 = architecture.bottleneck_stride == "1x1"
    stride1, stride2 = (plan.stride, 1) if at_1x1 else (1, plan.stride)
    x = relu(conv_bn(x, width, 1, stride1, architecture, name=f"{name}_conv1"), name=f"{name}_conv1_relu")
    dilation = plan.dilation_after if at_1x1 else plan.dilation
    x = conv_bn(x, width, 3, stride2, architecture, name=f"{name}_conv2", dilation=dilation)
    x = relu(x, name=f"{name}_conv2_relu")
    return conv_bn(x, EXPANSION["bottleneck"] * width, 1, 1, architecture, name=f"{name}_conv3", last=True)


STEMS = {"imagenet": imagenet_stem, "cifar": cifar_stem}
RESIDUALS = {"basic": basic_residual, "bottleneck": bottleneck_residual}


def block(x: Any, plan: PlannedBlock, architecture: Architecture) -> Any:
    """Returns relu(F(x) + shortcut(x)), or relu(F(x)) in a plain network (Fig. 2)."""
    residual = RESIDUALS[architecture.block](x, plan, architecture)
    if architecture.shortcut is not None:
        if plan.drop:
            # Whole residuals at a time, scaled by what is left of them on average: stochastic depth.
            residual = layers.Dropout(plan.drop, noise_shape=(None, 1, 1, 1), name=f"{plan.name}_drop")(residual)
        around = shortcut(x, residual.shape[-1], plan.stride, architecture, name=plan.name)
        # The shortcut first: Keras walks a graph back along first inputs, recursively, and this path is the shorter.
        residual = layers.Add(name=f"{plan.name}_add")([around, residual])
    return relu(residual, name=f"{plan.name}_relu")


def head(x: Any, classes: int, activation: Any) -> Any:
    """Returns the classes' logits, or what an activation makes of them: (N, channels) -> float32 (N, classes)."""
    # In float32: a logit of half precision would lose digits that the loss and top-1 need.
    x = layers.Dense(classes, kernel_initializer=he_normal(), dtype="float32", name="logits")(x)
    if activation is None or activation == "linear":
        return x
    return layers.Activation(activation, dtype="float32", name="predictions")(x)
