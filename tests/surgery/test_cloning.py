"""Copies of a network in float32, and for images of any size, against networks built so; weights by layers' names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from helpers.small_networks import FOUR_STAGES, TWO_STAGES, drawn, images

from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.surgery.cloning import clone_for_any_size, clone_in_float32, transfer
from resnet_keras.training.inputs import precision

CASES = {
    "option A": TWO_STAGES,
    "option A, zeros around": TWO_STAGES.replace(zero_channels="both_sides"),
    "option C, bottleneck": replace(FOUR_STAGES, shortcut="C"),
    "plain": replace(TWO_STAGES, shortcut=None),
    "dilated": FOUR_STAGES.replace(output_stride=8),
}


def network(own: Architecture = TWO_STAGES, policy: str = "float32", **options: Any) -> keras.Model:
    with precision(policy):
        return drawn(build(own, **{"input_shape": (32, 32, 3), "classes": 5, **options}))


def outputs(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(model(x, training=False), np.float32)


def assert_same_weights(one: keras.Model, other: keras.Model) -> None:
    assert [weight.path for weight in one.weights] == [weight.path for weight in other.weights]
    for mine, yours in zip(one.weights, other.weights, strict=True):
        assert mine is not yours
        np.testing.assert_array_equal(mine.numpy(), yours.numpy())


# Float32 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "activation", "segments"),
    [("mixed_bfloat16", None, False), ("mixed_float16", "softmax", False), ("mixed_bfloat16", "softmax", True)],
)
def test_a_float32_copy_computes_in_float32_throughout(
    policy: str, activation: str | None, segments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if segments:
        monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    half = network(policy=policy, classifier_activation=activation)
    assert any(isinstance(layer, keras.Model) for layer in half.layers) == segments
    copy = clone_in_float32(half)
    assert {layer.compute_dtype for layer in flat_layers(copy)} == {"float32"}
    assert {tensor.dtype for layer in flat_layers(copy) for tensor in keras.tree.flatten(layer.output)} == {"float32"}
    assert_same_weights(copy, half)
    x = images(3, 32, 32, 3)
    exact = network(classifier_activation=activation)
    np.testing.assert_allclose(outputs(copy, x), outputs(exact, x), rtol=1e-5, atol=1e-6)
    assert np.abs(outputs(half, x) - outputs(exact, x)).max() > 1e-5
    assert {la.compute_dtype for la in flat_layers(half) if isinstance(la, keras.layers.Conv2D)} == {policy[6:]}


@pytest.mark.parametrize("case", ["option A", "option C, bottleneck"])
def test_a_float32_copy_of_a_network_computes_what_one_of_float32_does(case: str) -> None:
    own = CASES[case]
    x = images(2, 32, 32, 3)
    expected = outputs(network(own), x)
    np.testing.assert_allclose(
        outputs(clone_in_float32(network(own, "mixed_bfloat16")), x), expected, rtol=1e-5, atol=1e-6
    )


def test_a_float32_copy_of_a_network_of_float32_computes_the_same() -> None:
    model = network()
    copy = clone_in_float32(model)
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(outputs(copy, x), outputs(model, x))
    assert_same_weights(copy, model)
    assert (copy.name, copy.input_shape) == (model.name, model.input_shape)


def test_a_float32_copy_of_a_network_of_half_precision_weights_has_float32_weights() -> None:
    half = network(policy="bfloat16")
    assert half.get_layer("stem_conv").kernel.dtype == "bfloat16"
    copy = clone_in_float32(half)
    assert {weight.dtype for weight in copy.weights} == {"float32"}
    x = images(2, 32, 32, 3)
    reference = network()
    reference.set_weights([np.asarray(array, np.float32) for array in half.get_weights()])
    np.testing.assert_allclose(outputs(copy, x), outputs(reference, x), rtol=1e-5, atol=1e-6)


def test_a_float32_copy_of_a_network_of_one_layer_in_half_precision_is_complete() -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16", name="half")(image)
    x = keras.layers.GlobalAveragePooling2D(dtype=keras.DTypePolicy("mixed_float16"))(x)
    model = drawn(keras.Model(image, keras.layers.Dense(2, dtype="float32")(x)))
    copy = clone_in_float32(model)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    shown = images(2, 8, 8, 3)
    kernel, bias, head, offset = model.get_weights()
    windows = np.lib.stride_tricks.sliding_window_view(shown, (3, 3), axis=(1, 2))
    expected = (np.einsum("nhwcij,ijcd->nhwd", windows, kernel) + bias).mean((1, 2)) @ head + offset
    np.testing.assert_allclose(outputs(copy, shown), expected, rtol=1e-4, atol=1e-5)


# Any size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", CASES.values(), ids=CASES)
def test_a_copy_of_any_size_computes_at_each_size_what_a_network_of_that_size_does(own: Architecture) -> None:
    model = network(own)
    copy = clone_for_any_size(model)
    assert (model.input_shape, copy.input_shape) == ((None, 32, 32, 3), (None, None, None, 3))
    assert_same_weights(copy, model)
    for height, width in ((32, 32), (47, 33)):
        fixed = model if height == 32 else build(own, input_shape=(height, width, 3), classes=5)
        fixed.set_weights(model.get_weights())
        x = images(2, height, width, 3)
        np.testing.assert_allclose(outputs(copy, x), outputs(fixed, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_copy_of_any_size_of_a_network_in_segments_is_free_in_each(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    model = network(policy=policy)
    copy = clone_for_any_size(model)
    inner = [layer for layer in copy.layers if isinstance(layer, keras.Model)]
    assert [layer.inputs[0].shape[1:3] for layer in inner] == [(None, None)] * 3
    with precision(policy):
        larger = build(TWO_STAGES, input_shape=(20, 45, 3), classes=5)
    larger.set_weights(model.get_weights())
    for fixed, size in ((model, (32, 32)), (larger, (20, 45))):
        x = images(2, *size, 3)
        np.testing.assert_allclose(outputs(copy, x), outputs(fixed, x), rtol=1e-5, atol=1e-6)


def test_a_copy_of_any_size_keeps_the_precision_of_every_layer() -> None:
    model = network(policy="mixed_bfloat16", classifier_activation=None)
    copy = clone_for_any_size(model)
    assert [la.dtype_policy for la in copy.layers[1:]] == [la.dtype_policy for la in model.layers[1:]]
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(outputs(copy, x), outputs(model, x))


@pytest.mark.parametrize("channels", [1, 4])
def test_a_copy_of_any_size_keeps_the_channels(channels: int) -> None:
    copy = clone_for_any_size(network(input_shape=(32, 32, channels)))
    assert copy.input_shape == (None, None, None, channels)
    assert outputs(copy, images(1, 40, 33, channels)).shape == (1, 5)


def test_a_copy_of_a_network_of_any_size_is_the_same() -> None:
    model = network(input_shape=(None, None, 3))
    copy = clone_for_any_size(model)
    assert copy.input_shape == model.input_shape
    x = images(2, 33, 21, 3)
    np.testing.assert_array_equal(outputs(copy, x), outputs(model, x))


@pytest.mark.parametrize("copied", [clone_in_float32, clone_for_any_size])
def test_a_copy_normalizes_fast_and_shares_nothing_with_its_original(copied: Any) -> None:
    model = network()
    copy = copied(model)
    norms = [layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 11
    assert all(isinstance(layer, BatchNormalization) for layer in norms)
    before = [array.copy() for array in model.get_weights()]
    copy.set_weights([array + 1 for array in before])
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.input_shape == (None, 32, 32, 3)


@pytest.mark.parametrize("copied", [clone_in_float32, clone_for_any_size])
def test_a_copy_of_a_frozen_network_has_the_right_weights(copied: Any) -> None:
    model = network()
    for layer in model.layers[: len(model.layers) // 2]:
        layer.trainable = False
    assert_same_weights(copied(model), model)


# Another network of the same layers ----------------------------------------------------------------------------------


def test_weights_and_epsilon_go_to_the_layers_of_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    source = network()
    for layer in flat_layers(source):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 0.1
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    target = network(input_shape=(None, None, 3))
    x = target.layers[-1].output
    larger = keras.Model(target.input, keras.layers.Dense(2, name="added")(x))
    assert transfer(source, larger) == ("added",)
    shown = images(2, 32, 32, 3)
    np.testing.assert_allclose(outputs(target, shown), outputs(source, shown), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Expected a network with a layer 'added'. Received: 'resnet12', without"):
        transfer(larger, source)
