"""A moving average of a network's weights, the result of a run instead of its last weights (arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras.layers.traversal import flat_layers


class WeightAverage:
    """An exponential moving average of a network's weights and of the moving statistics of its batch normalization.

    The statistics are averaged like the weights, because statistics of the last few steps belong to the last weights
    and would be wrong for averaged ones. No other state of the network matters in evaluation. The average starts as
    the network. For the first 1 / (1 - decay) steps it is the plain mean of all steps, so that the random initial
    weights do not stay in it for long.

    Args:
        model: The network. Under a strategy, create the average in its scope.
        decay: Fraction of the average that a step keeps, in (0, 1).
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self.decay = decay
        self.weights = [weight for layer in flat_layers(model) for weight in layer.weights]
        # Each replica has its own copy, as it has of the moving statistics. The copies of weights are all equal.
        self.averages = [
            keras.Variable(
                keras.ops.convert_to_numpy(weight),
                dtype=weight.dtype,
                trainable=False,
                synchronization="on_read",
                aggregation="mean",
                name=f"average_{i}",
            )
            for i, weight in enumerate(self.weights)
        ]
        self.steps = keras.Variable(
            0, dtype="int64", trainable=False, synchronization="on_read", aggregation="only_first_replica", name="steps"
        )

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that a checkpoint must hold."""
        return [*self.averages, self.steps]

    def after(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Returns a training step that updates the average after `step`."""

        def stepped(data: Any) -> Any:
            logs = step(data)
            self.steps.assign_add(1)
            fraction = tf.maximum(1 - self.decay, 1 / tf.cast(self.steps.value, tf.float32))
            for average, weight in zip(self.averages, self.weights, strict=True):
                value = tf.convert_to_tensor(weight.value)
                average.assign(average + (value - average) * tf.cast(fraction, value.dtype))
            return logs

        return stepped

    def reset(self) -> None:
        """Starts again from the network as it is."""
        self.steps.assign(0)
        for weight, average in zip(self.weights, self.averages, strict=True):
            average.assign(keras.ops.convert_to_numpy(weight))

    def assign_to_model(self) -> None:
        """Assigns the averages to the network's weights. With several workers, all must call it."""
        for weight, average in zip(self.weights, self.averages, strict=True):
            weight.assign(keras.ops.convert_to_numpy(average))

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Assigns the averages to the network inside the context; weights that are set there keep what they are set to.

        With several workers, all must enter it.
        """
        before = [keras.ops.convert_to_numpy(weight) for weight in self.weights]
        self.assign_to_model()
        assigned = [keras.ops.convert_to_numpy(weight) for weight in self.weights]
        try:
            yield
        finally:
            for weight, value, average in zip(self.weights, before, assigned, strict=True):
                if np.array_equal(keras.ops.convert_to_numpy(weight), average, equal_nan=True):
                    weight.assign(value)


class ValidateAverage(keras.callbacks.Callback):
    """Assigns the averages to the network during each validation."""

    def __init__(self, average: WeightAverage) -> None:
        super().__init__()
        self.average = average
        self._weights: list[Any] = []

    def on_test_begin(self, logs: Any = None) -> None:
        """Replaces the weights by their averages."""
        self._weights = [keras.ops.convert_to_numpy(weight) for weight in self.average.weights]
        self.average.assign_to_model()

    def on_test_end(self, logs: Any = None) -> None:
        """Restores the weights."""
        for weight, value in zip(self.average.weights, self._weights, strict=True):
            weight.assign(value)
