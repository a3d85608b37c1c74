"""Networks as functions whose weights are constants, or constants and variables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

CONSTANT_BYTES = 2**18
"""Larger weights are variables of a SavedModel: of ResNet-50 39 of 53 kernels, which have 97 % of its bytes."""


def with_constant_weights(model: keras.Model) -> Callable[[tf.Tensor], Any]:
    """Returns a model's forward pass in inference mode, for use in a `tf.function`; converters need constants.

    The weights are copied now: later changes of the model have no effect.
    """
    return with_fixed_weights(model, math.inf)[0]


def with_fixed_weights(
    model: keras.Model, constant_bytes: float = CONSTANT_BYTES
) -> tuple[Callable[[tf.Tensor], Any], list[tf.Variable]]:
    """Returns the same, with variables for large weights, and these variables, which a SavedModel has to track.

    TensorFlow holds a constant a dozen times: in the graph as it is loaded, in that of each signature, in those that
    its optimizer makes of them, and in the kernels. Of a variable it has one copy.

    Args:
        model: The model.
        constant_bytes: Weights of up to so many bytes are constants, so that small networks read no variables.
    """
    # Read here, because variables have no values within a graph.
    weights = [
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    fixed: list[list[Any]] = [
        [tf.Variable(value, trainable=False) if value.nbytes > constant_bytes else value for value in values]
        for values in weights
    ]

    def call(inputs: tf.Tensor) -> Any:
        read = [[tf.convert_to_tensor(value) for value in values] for values in fixed]
        outputs, _ = model.stateless_call(*read, inputs, training=False)
        return outputs

    return call, [value for values in fixed for value in values if isinstance(value, tf.Variable)]
