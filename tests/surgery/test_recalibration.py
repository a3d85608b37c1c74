"""Batch normalization's statistics, against a slow pass in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small_networks import TWO_STAGES, drawn, images

from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models
from resnet_keras.networks.builder import build
from resnet_keras.surgery.recalibration import recalibrate, restore_statistics
from resnet_keras.weights.sources import open_weights

STATISTICS = ("moving_mean", "moving_variance")


def network(norm: type[keras.layers.BatchNormalization] = BatchNormalization) -> keras.Model:
    """Returns convolution, normalization, ReLU, convolution and normalization, of drawn weights."""
    image = keras.Input((6, 5, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv1")(image)
    x = keras.layers.ReLU()(norm(epsilon=1e-3, momentum=0.97, name="bn1")(x))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv2")(x)
    return drawn(keras.Model(image, norm(epsilon=1e-3, momentum=0.9, name="bn2")(x)))


def batches(*sizes: int) -> list[np.ndarray]:
    """Returns batches of images, each batch brighter and of more contrast than the one before."""
    return [(1 + i) * images(n, 6, 5, 2, seed=i) + 2 * i for i, n in enumerate(sizes)]


def convolution(x: np.ndarray, kernel: np.ndarray, padding: int) -> np.ndarray:
    x = np.pad(x.astype("float64"), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,ijcd->nhwd", windows, kernel)


def slow_statistics(model: keras.Model, shown: list[np.ndarray], *, resting: bool = False) -> list[np.ndarray]:
    """Returns mean and variance of all that reaches each normalization, one pass after the other in double precision.

    Each batch is normalized by its own statistics on its way, or by the moving ones if they rest.
    """
    seen: list[list[np.ndarray]] = [[], []]
    for x in shown:
        for number, padding in ((1, 1), (2, 0)):
            x = convolution(x, model.get_layer(f"conv{number}").get_weights()[0], padding)
            seen[number - 1].append(x)
            norm = model.get_layer(f"bn{number}")
            gamma, beta, mean, variance = norm.get_weights()
            if not resting:
                mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            x = np.maximum((x - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta, 0)
    whole = [np.concatenate(each) for each in seen]
    return [statistic for each in whole for statistic in (each.mean((0, 1, 2)), each.var((0, 1, 2)))]


def statistics(model: keras.Model) -> list[np.ndarray]:
    return [weight.numpy() for weight in model.weights if weight.name in STATISTICS]


def others(model: keras.Model) -> list[bytes]:
    return [weight.numpy().tobytes() for weight in model.weights if weight.name not in STATISTICS]


@pytest.mark.parametrize("norm", [BatchNormalization, keras.layers.BatchNormalization])
@pytest.mark.parametrize("sizes", [(8,), (4, 4), (7, 1, 12, 3)])
def test_statistics_are_those_of_all_images_together(sizes: tuple[int, ...], norm: Any) -> None:
    model = network(norm)
    expected = slow_statistics(model, batches(*sizes))
    kept = others(model)
    assert recalibrate(model, batches(*sizes)) == sum(sizes)
    for found, wanted in zip(statistics(model), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert others(model) == kept


def test_variance_between_batches_counts() -> None:
    """Two batches of one brightness each: within each the first convolution's input does not vary, together it does."""
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, BatchNormalization()(image))
    dark, bright = np.full((1, 4, 4, 1), 1.0, "float32"), np.full((3, 4, 4, 1), 5.0, "float32")
    recalibrate(model, [dark, bright])
    mean, variance = statistics(model)
    assert mean == pytest.approx(4.0)
    assert variance == pytest.approx(3.0)


def test_batches_are_arrays_or_the_first_of_a_tuple_or_a_data_set() -> None:
    whole = np.concatenate(batches(5, 5, 2))
    labels = np.zeros(12, "int64")
    parts = [whole[:5], whole[5:10], whole[10:]]
    dataset = tf.data.Dataset.from_tensor_slices((whole, labels)).batch(5)
    results = []
    for shown in (parts, [(x, labels[: len(x)]) for x in parts], [[x] for x in parts], iter(parts), dataset):
        model = network()
        assert recalibrate(model, shown) == 12
        results.append([array.tobytes() for array in statistics(model)])
    assert all(result == results[0] for result in results)


def test_the_network_normalizes_by_its_new_statistics() -> None:
    model = network()
    x = np.concatenate(batches(6, 6))
    before = model.predict_on_batch(x)  # compiled by now
    recalibrate(model, [x])
    found = model.predict_on_batch(x)
    assert np.abs(found - before).max() > 0.1
    # Of one batch, the moving statistics are its own.
    np.testing.assert_allclose(found, model(x, training=True), rtol=1e-3, atol=1e-4)


def test_momentum_and_what_learns_stay_as_they_were() -> None:
    model = network()
    model.get_layer("bn1").trainable = False
    recalibrate(model, batches(4))
    assert [(model.get_layer(f"bn{i}").momentum, model.get_layer(f"bn{i}").trainable) for i in (1, 2)] == [
        (0.97, False),
        (0.9, True),
    ]


@pytest.mark.parametrize("whole", [False, True])
def test_frozen_normalizations_are_recalibrated_too(whole: bool) -> None:
    free, frozen = network(), network()
    if whole:
        frozen.trainable = False
    else:
        for number in (1, 2):
            frozen.get_layer(f"bn{number}").trainable = False
    for model in (free, frozen):
        recalibrate(model, batches(4, 9))
    for one, other in zip(statistics(free), statistics(frozen), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(frozen.get_layer(f"bn{number}").trainable for number in (1, 2))


def interrupted() -> Iterator[np.ndarray]:
    yield batches(4)[0]
    raise OSError("the disk is gone")


def of_wrong_shape() -> Iterator[np.ndarray]:
    yield batches(4)[0]
    yield images(4, 6, 5, 3)


@pytest.mark.parametrize(("source", "error"), [(interrupted, OSError), (of_wrong_shape, Exception)])
def test_an_error_in_the_middle_does_not_change_the_network(source: Any, error: type[Exception]) -> None:
    model = network()
    model.get_layer("bn1").trainable = False
    before = [weight.numpy().tobytes() for weight in model.weights]
    with pytest.raises(error):
        recalibrate(model, source())
    assert [weight.numpy().tobytes() for weight in model.weights] == before
    assert [(model.get_layer(f"bn{i}").momentum, model.get_layer(f"bn{i}").trainable) for i in (1, 2)] == [
        (0.97, False),
        (0.9, True),
    ]


def test_no_batches_raise_and_change_nothing() -> None:
    model = network()
    before = [weight.numpy().tobytes() for weight in model.weights]
    with pytest.raises(ValueError, match=r"at least one batch of images\. Received: none"):
        recalibrate(model, [])
    assert [weight.numpy().tobytes() for weight in model.weights] == before
    assert model.get_layer("bn1").momentum == 0.97


@pytest.mark.parametrize("function", [recalibrate, restore_statistics])
def test_a_network_without_batch_normalization_raises(function: Any) -> None:
    image = keras.Input((6, 5, 2))
    bare = keras.Model(image, keras.layers.Conv2D(3, 3)(image), name="bare")
    with pytest.raises(ValueError, match=r"network with batch normalization\. Received: 'bare', without"):
        function(bare, batches(4))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_statistics_that_are_no_numbers_are_forgotten(value: float) -> None:
    whole, spoilt = network(), network()
    for name in STATISTICS:
        weight = getattr(spoilt.get_layer("bn1"), name)
        weight.assign(np.full(weight.shape, value))
    for model in (whole, spoilt):
        recalibrate(model, batches(4, 9))
    for one, other in zip(statistics(whole), statistics(spoilt), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)


def test_a_network_in_segments_is_recalibrated_as_one_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = drawn(build(TWO_STAGES, input_shape=(16, 16, 3)))
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    segmented = build(TWO_STAGES, input_shape=(16, 16, 3))
    segmented.set_weights(flat.get_weights())
    shown = [images(4, 16, 16, 3), 3 * images(6, 16, 16, 3, seed=1)]
    before = statistics(flat)
    for model in (flat, segmented):
        recalibrate(model, shown)
    found = {weight.path: weight.numpy() for weight in segmented.weights}
    for weight in flat.weights:
        np.testing.assert_allclose(found[weight.path], weight.numpy(), rtol=1e-4, atol=1e-5)
    assert all(np.abs(new - old).max() > 1e-3 for new, old in zip(statistics(flat), before, strict=True))


def test_a_network_of_half_precision_keeps_statistics_of_single_precision() -> None:
    exact = drawn(build(TWO_STAGES, input_shape=(16, 16, 3)))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = build(TWO_STAGES, input_shape=(16, 16, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(exact.get_weights())
    for model in (exact, half):
        recalibrate(model, [images(16, 16, 16, 3)])
    for one, other in zip(statistics(exact), statistics(half), strict=True):
        assert other.dtype == np.float32
        assert np.abs(one - other).max() < 0.05


# Folded statistics -------------------------------------------------------------------------------------------------


def folded(model: keras.Model) -> keras.Model:
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
            layer.moving_variance.assign(np.ones(layer.moving_variance.shape))
    return model


def test_folded_statistics_are_means_of_zero_and_variances_of_one_throughout() -> None:
    model = folded(drawn(build(TWO_STAGES, input_shape=(16, 16, 3))))
    assert open_weights(model).has_folded_statistics
    for name in STATISTICS:
        weight = getattr(model.get_layer("stage2_block2_conv1_bn"), name)
        kept = weight.numpy()
        weight.assign(kept + np.eye(len(kept))[3] * 1e-3)
        assert not open_weights(model).has_folded_statistics
        weight.assign(kept)
    assert not open_weights(drawn(model)).has_folded_statistics


def test_new_weights_are_not_folded() -> None:
    model = build(TWO_STAGES, input_shape=(16, 16, 3), zero_init_residual=True)
    assert not open_weights(model).has_folded_statistics


def test_weights_without_statistics_are_not_folded() -> None:
    found = open_weights(folded(drawn(build(TWO_STAGES, input_shape=(16, 16, 3)))))
    bare = {name: array for name, array in found.tensors.items() if not name.endswith(STATISTICS)}
    assert not replace(found, tensors=bare).has_folded_statistics


@pytest.mark.parametrize("of", [folded, lambda model: model])
def test_unfolding_finds_the_statistics_and_changes_no_output(of: Any) -> None:
    model = of(network())
    shown = batches(7, 1, 12)
    expected = slow_statistics(model, shown, resting=True)
    before = [np.asarray(model(x)) for x in shown]
    kernels = [model.get_layer(f"conv{number}").get_weights()[0].tobytes() for number in (1, 2)]
    assert restore_statistics(model, [(x, None) for x in shown]) == 20
    for found, wanted in zip(statistics(model), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    for x, wanted in zip(shown, before, strict=True):
        np.testing.assert_allclose(model(x), wanted, rtol=1e-4, atol=1e-4)
    assert [model.get_layer(f"conv{number}").get_weights()[0].tobytes() for number in (1, 2)] == kernels


def test_unfolding_no_batches_raises() -> None:
    with pytest.raises(ValueError, match=r"at least one batch of images\. Received: none"):
        restore_statistics(folded(network()), [])
