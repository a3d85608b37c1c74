"""Convolutions in groups: the same numbers as Keras's, in every setting, and Keras's own name in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small_networks import images

from resnet_keras.layers import fake_quant, grouped_conv
from resnet_keras.layers.batch_norm import BatchNormalization, fuse
from resnet_keras.layers.fake_quant import QuantizedConv2D

SETTINGS: list[dict[str, Any]] = [
    {"groups": 2},
    {"groups": 4, "strides": 2, "padding": "valid"},
    {"groups": 4, "dilation_rate": 2, "padding": "same", "use_bias": False},
    {"groups": 8, "padding": "same", "activation": "relu"},
    {"groups": 1},
]


@pytest.fixture(params=["native gradient", "own gradient"])
def _gradient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes TensorFlow's gradient where the machine has one, and ours."""
    native = request.param == "native gradient"
    if native and not grouped_conv._has_native_gradient():
        pytest.skip("TensorFlow has no gradient of grouped convolutions on this machine")
    monkeypatch.setattr(grouped_conv, "_has_native_gradient", lambda: native)


def outputs_and_gradients(layer: Any, x: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(tf.sin(y))
    return [y, *tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_weights)])]


@pytest.mark.usefixtures("_gradient")
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_outputs_and_gradients_are_those_of_keras(settings: dict[str, Any]) -> None:
    x = tf.constant(images(2, 9, 8, 8))
    ours, theirs = (kind(16, 3, **settings) for kind in (grouped_conv.Conv2D, keras.layers.Conv2D))
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    for one, other in zip(*(outputs_and_gradients(layer, x) for layer in (ours, theirs)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_gradient")
def test_a_traced_function_of_any_size_has_the_same_gradients() -> None:
    x = tf.constant(images(2, 9, 8, 8))
    layer = grouped_conv.Conv2D(16, 3, groups=4, strides=2, padding="same")
    layer.build(x.shape)
    traced = tf.function(
        lambda x: outputs_and_gradients(layer, x), input_signature=[tf.TensorSpec((None, None, None, 8))]
    )
    for one, other in zip(traced(x), outputs_and_gradients(layer, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_gradient")
def test_the_gradient_has_a_gradient() -> None:
    x = tf.constant(images(1, 5, 5, 4))
    layer = grouped_conv.Conv2D(4, 3, groups=2)
    layer.build(x.shape)
    kernel = layer.kernel.value
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
    # The loss is of second degree in the kernel, its gradient's square of fourth: k . d/dk = 4 (Euler).
    assert layer.use_bias
    assert not np.any(layer.bias)
    np.testing.assert_allclose(tf.reduce_sum(kernel * outer.gradient(penalty, kernel)), 4 * penalty, rtol=1e-4)


@pytest.mark.usefixtures("_gradient")
@pytest.mark.parametrize("settings", [{"dilation_rate": 2, "groups": 1}, *SETTINGS[:3]], ids=str)
def test_a_quantized_convolution_has_gradients_too(settings: dict[str, Any]) -> None:
    x = tf.constant(images(2, 9, 8, 8))
    ours, theirs = (kind(16, 3, **{**settings, "use_bias": True}) for kind in (QuantizedConv2D, keras.layers.Conv2D))
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.kernel.assign(fake_quant._int8_kernel(ours.kernel.value))
    for one, other in zip(*(outputs_and_gradients(layer, x) for layer in (ours, theirs)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


AFTER: dict[str, list[Any]] = {
    "bias, ReLU": [lambda: grouped_conv.Conv2D(8, 3, groups=2, activation="relu")],
    "bias, ReLU of another layer": [lambda: grouped_conv.Conv2D(8, 3, groups=2), keras.layers.ReLU],
    "batch normalization, ReLU": [
        lambda: grouped_conv.Conv2D(8, 3, groups=2, use_bias=False), BatchNormalization, keras.layers.ReLU,
    ],
    "quantized": [lambda: QuantizedConv2D(8, 3, groups=2), keras.layers.ReLU],
}  # fmt: skip


def readers(operation: tf.Operation) -> set[str]:
    """Returns the types of the operations that read an operation's outputs, or copies of them."""
    found = set()
    for reader in (reader for output in operation.outputs for reader in output.consumers()):
        found |= readers(reader) if reader.type in ("Identity", "IdentityN") else {reader.type}
    return found


@pytest.mark.parametrize("layers", AFTER.values(), ids=AFTER)
def test_no_graph_fuses_groups_into_a_kernel_that_refuses_them(tmp_path: Path, layers: list[Any]) -> None:
    # Without oneDNN, TensorFlow's graph optimizer does so with what follows, in each of these graphs.
    model = keras.Sequential([keras.Input((6, 6, 4)), *(layer() for layer in layers)])
    x = images(2, 6, 6, 4)
    expected = np.asarray(model(x))
    model.compile(loss="mse")
    np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)
    assert model.evaluate(x, expected, verbose=0) < 1e-6
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(saved.serve(x), expected, rtol=1e-4, atol=1e-5)
    # On every machine, as a graph may be moved to one without oneDNN.
    graph = tf.function(model).get_concrete_function(tf.TensorSpec((None, 6, 6, 4))).graph
    convolutions = [operation for operation in graph.get_operations() if operation.type == "Conv2D"]
    assert [readers(operation) for operation in convolutions] == [{"EnsureShape"}]


def test_a_constant_kernel_brings_no_gradient_of_ours_into_a_graph() -> None:
    kernel = np.ones((3, 3, 2, 8), "float32")
    function = tf.function(lambda x: grouped_conv.convolve(x, tf.constant(kernel), (1, 1), "same"))
    graph = function.get_concrete_function(tf.TensorSpec((None, 6, 6, 4))).graph
    assert {op.type for op in graph.get_operations()} <= {"Placeholder", "Const", "Conv2D", "EnsureShape", "Identity"}


def test_half_precision_is_convolved_in_half_precision() -> None:
    layer = grouped_conv.Conv2D(8, 3, groups=2, dtype="mixed_bfloat16")
    x = images(1, 6, 6, 4)
    reference = keras.layers.Conv2D(8, 3, groups=2)
    reference.build(x.shape)
    y = layer(x)
    reference.set_weights(layer.get_weights())
    assert y.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(y, tf.float32), reference(x), rtol=0.05, atol=0.05)


def test_no_function_of_xla_is_called() -> None:
    layer = grouped_conv.Conv2D(8, 3, groups=2)
    layer.build((None, 6, 6, 4))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((2, 6, 6, 4))).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "Conv2D" in kinds
    assert not any("Call" in kind for kind in kinds)


def test_a_file_holds_keras_own_layer_which_fuse_makes_fast_again(tmp_path: Path) -> None:
    inputs = keras.Input((6, 6, 4))
    model = keras.Model(inputs, grouped_conv.Conv2D(8, 3, groups=2, name="grouped")(inputs))
    model.save(tmp_path / "x.keras")
    read = keras.saving.load_model(tmp_path / "x.keras")
    assert type(read.get_layer("grouped")) is keras.layers.Conv2D
    fast = fuse(read)
    assert type(fast.get_layer("grouped")) is grouped_conv.Conv2D
    x = images(2, 6, 6, 4)
    np.testing.assert_allclose(fast.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-6, atol=1e-6)
