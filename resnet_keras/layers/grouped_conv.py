"""Convolutions in groups (arXiv:1611.05431, §3.3) at the speed of the device."""

from __future__ import annotations

from typing import Any

import keras

from resnet_keras.layers.keras_internals import saved_as_keras_layer

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


@saved_as_keras_layer
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, of which TensorFlow's own kernels compute the groups.

    On TensorFlow, Keras hands every convolution in groups to XLA, with whose code for processors a training step of
    ResNeXt-50 took 36 times as long as with TensorFlow's kernels. Anything else, and every other backend, is Keras's
    own code.

    The class bears the name of the layer that it computes, in its `__module__` too: see `BatchNormalization`.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves `inputs` (N, H, W, C) with `kernel` (h, w, C / groups, channels)."""
        if keras.backend.backend() != "tensorflow" or self.data_format != "channels_last" or self.groups == 1:
            return super().convolution_op(inputs, kernel)
        return tf.nn.conv2d(
            inputs,
            keras.ops.convert_to_tensor(kernel),
            self.strides,
            self.padding.upper(),
            dilations=self.dilation_rate,
        )
