"""Networks whose weights are constants: the same function, of the weights as they were."""

import keras
import numpy as np
import tensorflow as tf
from helpers.small_networks import TWO_STAGES, drawn, images

from resnet_keras.exporting.constant_weights import with_constant_weights, with_fixed_weights
from resnet_keras.networks.builder import build


def test_the_function_holds_no_variables_and_stays_as_it_was() -> None:
    model = drawn(build(TWO_STAGES, input_shape=(8, 8, 3), classes=4))
    expected = model.predict_on_batch(images(2, 8, 8, 3))
    compute = tf.function(with_constant_weights(model), input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])
    for weight in model.weights:
        weight.assign(keras.ops.zeros_like(weight))
    np.testing.assert_allclose(compute(images(2, 8, 8, 3)), expected, rtol=1e-5, atol=1e-6)
    assert not compute.get_concrete_function().captured_inputs


def test_a_network_of_several_outputs_gives_them_by_name() -> None:
    model = drawn(build(TWO_STAGES, input_shape=(8, 8, 3), classes=4, classifier_activation=None))
    both = keras.Model(model.input, {"logits": model.output, "features": model.get_layer("logits").input})
    found = with_constant_weights(both)(images(2, 8, 8, 3))
    assert found["logits"].shape == (2, 4)
    np.testing.assert_allclose(found["features"], both(images(2, 8, 8, 3))["features"], rtol=1e-5, atol=1e-6)


def test_large_weights_are_variables_with_the_values_of_constants() -> None:
    model = drawn(build(TWO_STAGES, input_shape=(8, 8, 3), classes=4))
    sizes = [keras.ops.convert_to_numpy(weight).nbytes for weight in model.weights]
    limit = sorted(sizes)[len(sizes) // 2]
    compute, variables = with_fixed_weights(model, limit)
    assert len(variables) == sum(size > limit for size in sizes) > 0
    given = images(2, 8, 8, 3)
    expected = tf.function(with_constant_weights(model))(given)
    for weight in model.weights:
        weight.assign(keras.ops.zeros_like(weight))
    np.testing.assert_allclose(tf.function(compute)(given), expected, rtol=1e-6, atol=1e-6)
