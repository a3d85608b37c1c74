"""Networks as functions with constant weights, which TensorFlow's optimizer and converters handle best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def with_constant_weights(model: keras.Model) -> Callable[[tf.Tensor], Any]:
    """Returns a model's forward pass in inference mode, for use in a `tf.function`.

    The weights are copied now: later changes of the model have no effect.
    """
    # Read here, because variables have no values within a graph.
    weights = [
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]

    def call(inputs: tf.Tensor) -> Any:
        constants = [[tf.constant(value) for value in values] for values in weights]
        outputs, _ = model.stateless_call(*constants, inputs, training=False)
        return outputs

    return call
