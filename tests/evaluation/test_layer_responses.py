"""Standard deviations of layers' responses, against a formula, against a second model, in nested models."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers.small_networks import FOUR_STAGES, TWO_STAGES, drawn, images

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.evaluation.layer_responses import response_deviations
from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.networks import builder as models
from resnet_keras.networks.builder import build


def test_a_layer_that_passes_its_input_on_responds_as_batch_normalization_scales_it() -> None:
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(1, 3, padding="same", use_bias=False, name="pass")(inputs)
    x = BatchNormalization(epsilon=0.0, name="pass_bn")(x)
    model = keras.Model(inputs, keras.layers.ReLU()(x))
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1
    gamma, beta, mean, variance = 3.0, 10.0, 5.0, 4.0
    model.set_weights([kernel, np.array([gamma]), np.array([beta]), np.array([mean]), np.array([variance])])
    shown = images(20, 6, 6, 1)
    # Offsets do not count, and the ReLU that follows does not either.
    assert response_deviations(model, [shown]) == {"pass": pytest.approx(shown.std() * gamma / 2, rel=1e-5)}


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_deviations_are_those_of_the_outputs_over_all_batches(precision: str) -> None:
    keras.config.set_dtype_policy(precision)
    try:
        model = drawn(build(TWO_STAGES, classes=4, input_shape=(8, 8, 3)))
    finally:
        keras.config.set_dtype_policy("float32")
    exact = drawn(build(TWO_STAGES, classes=4, input_shape=(8, 8, 3)))
    shown = images(30, 8, 8, 3)
    found = response_deviations(model, [(shown[:16], None), (shown[16:], None)])
    names = ["stem_conv", *(f"{block.name}_conv{i}" for stage in TWO_STAGES.blocks for block in stage for i in (1, 2))]
    assert list(found) == names
    outputs = keras.Model(exact.input, [exact.get_layer(f"{name}_bn").output for name in names])(shown)
    np.testing.assert_allclose(list(found.values()), [np.std(each) for each in outputs], rtol=1e-4)


def test_layers_of_nested_models_respond_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = drawn(build(TWO_STAGES, classes=4, input_shape=(8, 8, 3)))
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    nested = drawn(build(TWO_STAGES, classes=4, input_shape=(8, 8, 3)))
    assert any(isinstance(layer, keras.Model) for layer in nested.layers)
    shown = images(10, 8, 8, 3)
    found, expected = (response_deviations(model, [shown]) for model in (nested, flat))
    assert list(found) == list(expected)
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-5)


def test_bottlenecks_respond_in_their_3x3_alone_and_a_classifier_is_its_network() -> None:
    model = drawn(build(FOUR_STAGES, classes=2, input_shape=(32, 32, 3)))
    about = Preprocessing(image_size=(32, 32), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    found = response_deviations(Classifier(model, about, ("a", "b")), [images(4, 32, 32, 3)])
    assert list(found) == [f"{block.name}_conv2" for stage in FOUR_STAGES.blocks for block in stage]


def test_the_network_stays_as_it_was() -> None:
    model = build(TWO_STAGES, classes=4, input_shape=(8, 8, 3))
    before = model.get_weights()
    response_deviations(model, [images(4, 8, 8, 3)])
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_fit_is_an_error() -> None:
    inputs = keras.Input((4, 4, 3))
    bare = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs), name="bare")
    with pytest.raises(ValueError, match=r"Expected a network of 3x3 .* Received: 'bare', without"):
        response_deviations(bare, [images(1, 4, 4, 3)])
    with pytest.raises(ValueError, match=r"Expected at least one image\. Received: none"):
        response_deviations(build(TWO_STAGES, classes=4, input_shape=(8, 8, 3)), [])
