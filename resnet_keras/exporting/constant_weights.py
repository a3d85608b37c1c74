"""A network whose weights are constants of the graph, which TensorFlow's optimizer and converters make the most of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def with_constant_weights(model: keras.Model) -> Callable[[tf.Tensor], Any]:
    """Returns a function that computes what a model does in inference, for use in a `tf.function`.

    The weights are those of now: what becomes of the model later does not change it.
    """
    # Taken out here: within a graph, variables have no values yet.
    weights = [
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]

    def call(inputs: tf.Tensor) -> Any:
        constants = [[tf.constant(value) for value in values] for values in weights]
        outputs, _ = model.stateless_call(*constants, inputs, training=False)
        return outputs

    return call
