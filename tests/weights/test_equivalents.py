"""Weights of an equal network: the same outputs with another epsilon, order of channels, or place of zero channels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from helpers.small_networks import drawn, images

from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.weights.equivalents import with_epsilon, with_reversed_input, with_zero_channels_on_both_sides
from resnet_keras.weights.keras_file import arrays_of_model

CIFAR = Architecture(stem="cifar", block="basic", repeats=(2, 2, 1), widths=(4, 6, 10), shortcut="A")
BOTTLENECK = Architecture(stem="cifar", block="bottleneck", repeats=(1, 2), widths=(3, 4), shortcut="A")


def network(row: Architecture) -> keras.Model:
    return drawn(build(row, input_shape=(8, 8, 3), classes=5, classifier_activation=None))


def assign(model: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    for layer in flat_layers(model):
        for weight in layer.weights:
            weight.assign(tensors[f"{layer.name}/{weight.name}"])


def outputs(model: keras.Model, x: np.ndarray) -> Any:
    return np.asarray(model(x, training=False))


def test_the_difference_of_epsilons_is_in_the_variances() -> None:
    tensors = {"a_bn/moving_variance": np.array([0.0, 0.5, 2.0], np.float32), "a/kernel": np.ones(2, np.float32)}
    changed = with_epsilon(tensors, 1e-3, 1e-5)
    np.testing.assert_array_equal(changed["a_bn/moving_variance"], np.array([0.00099, 0.50099, 2.00099], np.float32))
    assert changed["a/kernel"] is tensors["a/kernel"]
    np.testing.assert_array_equal(tensors["a_bn/moving_variance"], np.array([0.0, 0.5, 2.0], np.float32))


def test_a_variance_below_the_difference_of_epsilons_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 9e-06, .* can become 1e-05, instead of 0 in a_bn/moving_variance"):
        with_epsilon({"a_bn/moving_variance": np.zeros(3, np.float32)}, 1e-6, 1e-5)


def test_a_network_with_another_epsilon_computes_the_same() -> None:
    model = network(CIFAR)
    x = images(2, 8, 8, 3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 0.3
    expected = outputs(model, x)
    other = network(CIFAR)
    assert np.abs(outputs(other, x) - expected).max() > 0.1
    assign(other, with_epsilon(arrays_of_model(model), 0.3, 1e-5))
    np.testing.assert_allclose(outputs(other, x), expected, atol=1e-5)


@pytest.mark.parametrize("stem", ["cifar", "deep"])
def test_reversed_channels_of_images_compute_the_same(stem: str) -> None:
    x = images(2, 16, 16, 3)
    model = drawn(build(CIFAR.replace(stem=stem, shortcut="B"), input_shape=(16, 16, 3), classes=5))
    expected = outputs(model, x)
    assign(model, with_reversed_input(arrays_of_model(model)))
    np.testing.assert_allclose(outputs(model, x[..., ::-1]), expected, atol=1e-6)


@pytest.mark.parametrize("row", [CIFAR, BOTTLENECK], ids=["basic", "bottleneck"])
def test_zero_channels_at_the_end_become_those_on_both_sides(row: Architecture) -> None:
    model, other = network(row), network(row.replace(zero_channels="both_sides"))
    x = images(2, 8, 8, 3)
    expected = outputs(model, x)
    assert np.abs(outputs(other, x) - expected).max() > 0.1
    assign(other, with_zero_channels_on_both_sides(arrays_of_model(model), row))
    np.testing.assert_allclose(outputs(other, x), expected, atol=1e-5)
