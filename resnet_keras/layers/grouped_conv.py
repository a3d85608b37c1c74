"""Grouped convolutions (arXiv:1611.05431, §3.3) by TensorFlow's native kernels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras

from resnet_keras.layers.keras_internals import saved_as_keras_layer

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


@saved_as_keras_layer
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with TensorFlow's native kernels for groups.

    On TensorFlow, Keras compiles every grouped convolution with XLA; on a CPU, a training step of ResNeXt-50 took 36
    times as long so. Convolutions without groups, channels first and other backends use Keras's own code.

    Keras saves the layer as `keras.layers.Conv2D`; see `saved_as_keras_layer`.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Returns the convolution of `inputs` (N, H, W, C) with `kernel` (h, w, C / groups, channels)."""
        if keras.backend.backend() != "tensorflow" or self.data_format != "channels_last" or self.groups == 1:
            return super().convolution_op(inputs, kernel)
        kernel = keras.ops.convert_to_tensor(kernel)
        return convolve(inputs, kernel, tuple(self.strides), self.padding, tuple(self.dilation_rate))


def convolve(
    inputs: Any, kernel: Any, strides: tuple[int, int], padding: str, dilations: tuple[int, int] = (1, 1)
) -> Any:
    """Returns the convolution, in groups or not, of `inputs` (N, H, W, C) with `kernel` (h, w, C / groups, channels).

    On TensorFlow, and on every device. By themselves its kernels fail with groups or dilation on CPUs where oneDNN is
    off, which is the default of many: they have no gradient, and a bias, a batch normalization and a ReLU that follow
    are fused into a kernel that refuses groups.
    """
    grouped = kernel.shape[2] != inputs.shape[-1]
    # A constant kernel is that of an exported network. A gradient of ours would be written into the SavedModel, too.
    constant = tf.is_symbolic_tensor(kernel) and kernel.op.type == "Const"
    if (grouped or max(dilations) > 1) and not constant and not _has_native_gradient():
        outputs = _with_own_gradient(inputs, tf.convert_to_tensor(kernel), strides, padding.upper(), dilations)
    else:
        outputs = tf.nn.conv2d(inputs, kernel, strides, padding.upper(), dilations=dilations)
    if not grouped or tf.executing_eagerly():
        return outputs
    # TensorFlow's graph optimizer neither removes this operation nor fuses across it. It copies nothing, and LiteRT's
    # converter drops it. A graph may run on another machine than this one, so it is always there.
    return tf.ensure_shape(outputs, [None] * 4)


def _with_own_gradient(
    inputs: Any, kernel: Any, strides: tuple[int, int], padding: str, dilations: tuple[int, int]
) -> Any:
    @tf.custom_gradient
    def convolved(inputs: Any, kernel: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            return (
                _input_gradient(inputs, kernel, upstream, strides, padding, dilations),
                _kernel_gradient(inputs, kernel, upstream, strides, padding, dilations),
            )

        return tf.nn.conv2d(inputs, kernel, strides, padding, dilations=dilations), gradients

    return convolved(inputs, kernel)


@functools.cache
def _has_native_gradient() -> bool:
    """Returns whether TensorFlow computes gradients of grouped and dilated convolutions on this machine.

    GPUs do, and CPUs by oneDNN, which TensorFlow turns on for some of them (`TF_ENABLE_ONEDNN_OPTS`). Nothing public
    says which, so this tries.
    """
    with tf.init_scope():
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=[1, 1, 1, 2], filter=tf.zeros([1, 1, 1, 2]), out_backprop=tf.zeros([1, 1, 1, 2]),
                strides=[1, 1, 1, 1], padding="VALID",
            )  # fmt: skip
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def _input_gradient(
    inputs: Any, kernel: Any, upstream: Any, strides: Sequence[int], padding: str, dilations: tuple[int, int]
) -> Any:
    """Returns the gradient by the inputs: a convolution of the upstream gradient, spread by the strides."""
    height, width, per_group, channels = kernel.shape
    groups = inputs.shape[-1] // per_group
    shape = tf.shape(upstream)
    spread = tf.reshape(upstream, [shape[0], shape[1], 1, shape[2], 1, channels])
    spread = tf.pad(spread, [[0, 0], [0, 0], [0, strides[0] - 1], [0, 0], [0, strides[1] - 1], [0, 0]])
    spread = tf.reshape(spread, [shape[0], shape[1] * strides[0], shape[2] * strides[1], channels])
    paddings, lengths = [], []
    for axis, size in enumerate((height, width)):
        before, extent = _padding(inputs, upstream, axis, size, strides[axis], padding, dilations[axis])
        length = tf.shape(inputs)[axis + 1] + extent
        left = extent - before
        paddings.append([left, tf.maximum(length - left - tf.shape(spread)[axis + 1], 0)])
        lengths.append(length)
    padded = tf.pad(spread, [[0, 0], *paddings, [0, 0]])[:, : lengths[0], : lengths[1]]
    flipped = tf.reshape(tf.reverse(kernel, [0, 1]), [height, width, per_group, groups, channels // groups])
    flipped = tf.reshape(tf.transpose(flipped, [0, 1, 4, 3, 2]), [height, width, channels // groups, inputs.shape[-1]])
    return convolve(padded, flipped, (1, 1), "VALID", dilations)


def _kernel_gradient(
    inputs: Any, kernel: Any, upstream: Any, strides: Sequence[int], padding: str, dilations: Sequence[int]
) -> Any:
    """Returns the gradient by the kernel: for each of its places one product of matrices for each group, in float32."""
    height, width, per_group, channels = kernel.shape
    groups = inputs.shape[-1] // per_group
    paddings, spans = [], []
    for axis, size in enumerate((height, width)):
        before, extent = _padding(inputs, upstream, axis, size, strides[axis], padding, dilations[axis])
        span = (tf.shape(upstream)[axis + 1] - 1) * strides[axis] + 1
        paddings.append([before, tf.maximum(span + extent - before - tf.shape(inputs)[axis + 1], 0)])
        spans.append(span)
    padded = tf.cast(tf.pad(inputs, [[0, 0], *paddings, [0, 0]]), tf.float32)
    upstream = tf.reshape(tf.cast(upstream, tf.float32), [-1, groups, channels // groups])
    products = []
    for row in range(height):
        for column in range(width):
            top, left = row * dilations[0], column * dilations[1]
            seen = padded[:, top : top + spans[0] : strides[0], left : left + spans[1] : strides[1]]
            seen = tf.reshape(seen, [-1, groups, per_group])
            products.append(tf.einsum("pgi,pgo->igo", seen, upstream))
    return tf.cast(tf.reshape(tf.stack(products), kernel.shape), kernel.dtype)


def _padding(
    inputs: Any, upstream: Any, axis: int, size: int, stride: int, padding: str, dilation: int
) -> tuple[Any, int]:
    """Returns along one axis the zeros before the inputs, and how far a dilated kernel reaches from its first place."""
    extent = (size - 1) * dilation
    if padding == "VALID":
        return 0, extent
    total = (tf.shape(upstream)[axis + 1] - 1) * stride + extent + 1 - tf.shape(inputs)[axis + 1]
    return tf.maximum(total, 0) // 2, extent
