"""Networks without batch normalization: the same function, to rounding, and nothing folded that must not be."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from helpers.small_networks import TWO_STAGES, randomized

from resnet_keras.applications import named_networks
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.surgery.folding import conv_norm_pairs, first_convolution, fold, scale_and_shift

BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 1), widths=(8, 16))


def images(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, *model.input_shape[1:])).astype("float32")


def nested() -> keras.Model:
    """Returns a network that holds its blocks in nested models, as very deep ones do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "SEGMENT_BLOCKS", 2)
        model = models.build(TWO_STAGES, input_shape=(8, 8, 3), classes=5)
    assert sum(isinstance(layer, keras.Model) for layer in model.layers) == 3
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: named_networks.ResNet20(classifier_activation=None),
        lambda: named_networks.ResNet20(shortcut="C", stochastic_depth=0.5),
        lambda: named_networks.PlainNet20(),
        lambda: models.build(BOTTLENECK, input_shape=(32, 32, 3), classes=5, classifier_activation=None),
        lambda: models.build(BOTTLENECK, input_shape=(64, 64, 3), classes=5, output_stride=4, bottleneck_stride="3x3"),
        nested,
    ],
    ids=["option A", "option C, stochastic depth", "plain", "bottleneck", "dilated", "nested"],
)
def test_a_folded_network_computes_the_same_without_batch_normalization(make: Callable[[], keras.Model]) -> None:
    model = randomized(make(), 0.3)
    copy = fold(model)
    expected, found = (np.asarray(network(images(model), training=False)) for network in (model, copy))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    kinds = [type(layer) for layer in flat_layers(copy)]
    assert keras.layers.Conv2D in kinds
    assert not any(issubclass(kind, keras.layers.BatchNormalization) for kind in kinds)
    # The original is as it was.
    np.testing.assert_array_equal(np.asarray(model(images(model), training=False)), expected)


def test_scale_and_shift_are_those_of_the_formula() -> None:
    layer = keras.layers.BatchNormalization(epsilon=0.5)
    layer.build((None, 4, 4, 2))
    layer.set_weights([np.array(v, np.float32) for v in ([2, 3], [1, -1], [4, 5], [3.5, 0.5])])
    scale, shift = scale_and_shift(layer)
    np.testing.assert_allclose(scale, [1.0, 3.0])
    np.testing.assert_allclose(shift, [1 - 4, -1 - 15])
    bare = keras.layers.BatchNormalization(center=False, scale=False, epsilon=0.0)
    bare.build((None, 4, 4, 1))
    bare.set_weights([np.array([3], np.float32), np.array([4], np.float32)])
    np.testing.assert_allclose(scale_and_shift(bare), [[0.5], [-1.5]])


def test_a_convolution_s_own_bias_is_folded_too() -> None:
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
    model = randomized(keras.Model(inputs, keras.layers.BatchNormalization(name="conv_bn")(x)), 0.3)
    copy = fold(model)
    assert [layer.name for layer in copy.layers][1:] == ["conv"]
    np.testing.assert_allclose(copy(images(model)), model(images(model)), atol=1e-5)


def test_what_feeds_more_than_its_normalization_stays() -> None:
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
    both = keras.layers.Add()([keras.layers.BatchNormalization(name="norm")(x), x])
    rectified = keras.layers.Conv2D(3, 1, activation="relu", name="rectifying")(both)
    first = keras.layers.BatchNormalization(name="before")(keras.layers.ReLU()(rectified))
    model = randomized(keras.Model(inputs, keras.layers.BatchNormalization(name="after")(first)), 0.3)
    assert conv_norm_pairs(model) == {}
    copy = fold(model)
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in copy.layers) == 3
    np.testing.assert_allclose(copy(images(model)), model(images(model)), atol=1e-6)


def test_in_bfloat16_the_weights_are_halved_and_the_head_is_float32() -> None:
    model = randomized(models.build(BOTTLENECK, input_shape=(32, 32, 3), classes=5, classifier_activation=None), 0.3)
    copy = fold(model, precision="bfloat16")
    about = {layer.name: (layer.compute_dtype, {v.dtype for v in layer.variables}) for layer in copy.layers}
    assert about["stem_conv"] == ("bfloat16", {"bfloat16"})
    assert about["stage2_block1_projection"] == ("bfloat16", {"bfloat16"})
    assert about["pool"][0] == "float32"
    assert about["logits"] == ("float32", {"float32"})
    expected, found = (np.asarray(network(images(model))) for network in (model, copy))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_a_network_of_half_precision_folds_into_float32() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = randomized(named_networks.ResNet20(classifier_activation=None), 0.3)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in fold(model).layers} == {"float32"}


def test_the_entrance_is_the_convolution_that_reads_the_input() -> None:
    for model in (named_networks.ResNet20(), models.build(BOTTLENECK, input_shape=(32, 32, 3), classes=5)):
        assert first_convolution(model) is model.get_layer("stem_conv")
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(2, 1)(keras.layers.ReLU()(inputs))
    assert first_convolution(keras.Model(inputs, x)) is None
    assert (
        first_convolution(keras.Model(inputs, keras.layers.Add()([keras.layers.Conv2D(2, 1)(inputs), inputs]))) is None
    )
