"""Layers for quantization-aware training: fake quantization to int8 (arXiv:1712.05877, §3)."""

from __future__ import annotations

from typing import Any

import keras

from resnet_keras.layers.grouped_conv import convolve

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_RANGE_MOMENTUM = 0.99


@keras.saving.register_keras_serializable("resnet_keras")
class FakeQuant(keras.layers.Layer):
    """Fake quantization: rounds its input to the 256 values of int8 in a range.

    Zero is one of the values, so padding is exact. The gradient is 1 inside the range and 0 outside (straight-through
    estimator). Unless the range is `fixed`, it follows the smallest and largest value of the training batches by a
    moving average.

    Args:
        range: Initial smallest and largest value.
        fixed: Whether training leaves the range as it is.
    """

    def __init__(self, range: tuple[float, float] = (0.0, 0.0), fixed: bool = True, **kwargs: Any) -> None:
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"Expected KERAS_BACKEND=tensorflow for a quantized network. Received: {keras.backend.backend()}"
            )
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.range, self.fixed = tuple(map(float, range)), fixed
        self.seen: list[tuple[float, float]] | None = None  # a list during `calibrate`

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the variables of the range."""
        self.low, self.high = (
            self.add_weight(name=name, shape=(), initializer=keras.initializers.Constant(value), trainable=False)
            for name, value in zip(("low", "high"), self.range, strict=True)
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns `inputs`, fake-quantized."""
        if self.seen is not None:
            self.seen.append((float(tf.reduce_min(inputs)), float(tf.reduce_max(inputs))))
            return inputs
        if training and self.trainable and not self.fixed:
            for end, value in ((self.low, tf.reduce_min(inputs)), (self.high, tf.reduce_max(inputs))):
                end.assign(end * _RANGE_MOMENTUM + tf.stop_gradient(value) * (1 - _RANGE_MOMENTUM))
        low, high = tf.minimum(self.low.value, 0.0), tf.maximum(self.high.value, 1e-8)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "range": self.range, "fixed": self.fixed}


@keras.saving.register_keras_serializable("resnet_keras")
class QuantizedConv2D(keras.layers.Conv2D):
    """A convolution with an int8 kernel, and with the frozen batch normalization after it as scale and bias.

    The trainable kernel is that of the convolution; the kernel times the scale is fake-quantized to 255 values for each
    output channel. So the learning rate of the network before quantization still fits.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the kernel, the bias and the scale."""
        super().build(input_shape)
        self.scale = self.add_weight(name="scale", shape=(self.filters,), initializer="ones", trainable=False)

    def call(self, inputs: Any) -> Any:
        """Returns the convolution of `inputs` (N, H, W, C)."""
        kernel = _int8_kernel(self.kernel.value * self.scale.value)
        outputs = convolve(inputs, kernel, tuple(self.strides), self.padding, tuple(self.dilation_rate))
        return tf.nn.bias_add(outputs, self.bias.value)

    def save_own_variables(self, store: Any) -> None:
        """Saves the scale beside the variables of a convolution."""
        super().save_own_variables(store)
        store["scale"] = keras.ops.convert_to_numpy(self.scale)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` has saved."""
        for name, variable in (("0", self.kernel), ("1", self.bias), ("scale", self.scale)):
            variable.assign(store[name])


@keras.saving.register_keras_serializable("resnet_keras")
class QuantizedDense(keras.layers.Dense):
    """A dense layer whose kernel is fake-quantized to 255 values, with one scale for all outputs."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the logits of `inputs` (N, C)."""
        largest = tf.maximum(tf.reduce_max(tf.abs(self.kernel.value)), 1e-8)
        kernel = tf.quantization.fake_quant_with_min_max_vars(
            self.kernel.value, -largest, largest, num_bits=8, narrow_range=True
        )
        return tf.nn.bias_add(tf.matmul(inputs, kernel), self.bias.value)


LAYERS = {layer.__name__: layer for layer in (FakeQuant, QuantizedConv2D, QuantizedDense)}
"""The `custom_objects` that Keras needs to open a file of a quantized network."""


def _int8_kernel(kernel: Any) -> Any:
    """Returns a kernel (h, w, C, channels) fake-quantized to 255 values symmetric about 0 for each output channel."""
    # A channel of zeros has no range, but TensorFlow needs one.
    largest = tf.maximum(tf.reduce_max(tf.abs(kernel), axis=(0, 1, 2)), 1e-8)
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        kernel, -largest, largest, num_bits=8, narrow_range=True
    )
