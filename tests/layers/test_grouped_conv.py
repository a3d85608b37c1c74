"""Convolutions in groups: the same numbers as Keras's, in every setting, and Keras's own name in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small_networks import images

from resnet_keras.layers import grouped_conv as grouped_convolution
from resnet_keras.layers.batch_norm import fuse

SETTINGS: list[dict[str, Any]] = [
    {"groups": 2},
    {"groups": 4, "strides": 2, "padding": "valid"},
    {"groups": 4, "dilation_rate": 2, "padding": "same", "use_bias": False},
    {"groups": 8, "padding": "same", "activation": "relu"},
    {"groups": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_outputs_and_gradients_are_those_of_keras(settings: dict[str, Any]) -> None:
    x = tf.constant(images(2, 9, 8, 8))
    ours, theirs = (kind(16, 3, **settings) for kind in (grouped_convolution.Conv2D, keras.layers.Conv2D))
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    found = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(y))
        found.append([y, *tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_weights)])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_half_precision_is_convolved_in_half_precision() -> None:
    layer = grouped_convolution.Conv2D(8, 3, groups=2, dtype="mixed_bfloat16")
    x = images(1, 6, 6, 4)
    reference = keras.layers.Conv2D(8, 3, groups=2)
    reference.build(x.shape)
    y = layer(x)
    reference.set_weights(layer.get_weights())
    assert y.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(y, tf.float32), reference(x), rtol=0.05, atol=0.05)


def test_no_function_of_xla_is_called() -> None:
    layer = grouped_convolution.Conv2D(8, 3, groups=2)
    layer.build((None, 6, 6, 4))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((2, 6, 6, 4))).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "Conv2D" in kinds
    assert not any("Call" in kind for kind in kinds)


def test_a_file_holds_keras_own_layer_which_fuse_makes_fast_again(tmp_path: Path) -> None:
    inputs = keras.Input((6, 6, 4))
    model = keras.Model(inputs, grouped_convolution.Conv2D(8, 3, groups=2, name="grouped")(inputs))
    model.save(tmp_path / "x.keras")
    read = keras.saving.load_model(tmp_path / "x.keras")
    assert type(read.get_layer("grouped")) is keras.layers.Conv2D
    fast = fuse(read)
    assert type(fast.get_layer("grouped")) is grouped_convolution.Conv2D
    x = images(2, 6, 6, 4)
    np.testing.assert_allclose(fast.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-6)
