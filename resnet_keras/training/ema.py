"""A moving average of a network's weights, which is the result of a run in their place (arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from resnet_keras.layers.traversal import flat_layers


class WeightAverage:
    """An exponential moving average of what a network learns and of the statistics of its batch normalization.

    The statistics are averaged just like the weights: those of the last few steps belong to the last weights, and would
    be wrong for weights from further back. Nothing else of the network has a state that counts in evaluation. The
    average begins as the network; until it has seen 1 / (1 - decay) steps it is the plain mean of all of them, lest the
    random weights of the beginning stay in it for long.

    Args:
        model: The network. Under a strategy, make the average in its scope.
        decay: Part of the average that a step keeps, in (0, 1).
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self.decay = decay
        self.weights = [weight for layer in flat_layers(model) for weight in layer.weights]
        # Each replica has its own, as of batch normalization's statistics: of the weights they are all equal.
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
        """All that a checkpoint must hold."""
        return [*self.averages, self.steps]

    def after(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Returns a training step that is followed by one of the average."""

        def stepped(data: Any) -> Any:
            logs = step(data)
            self.steps.assign_add(1)
            part = tf.maximum(1 - self.decay, 1 / tf.cast(self.steps.value, tf.float32))
            for average, weight in zip(self.averages, self.weights, strict=True):
                value = tf.convert_to_tensor(weight.value)
                average.assign(average + (value - average) * tf.cast(part, value.dtype))
            return logs

        return stepped

    def begin(self) -> None:
        """Begins anew, as the network now is."""
        self.steps.assign(0)
        for weight, average in zip(self.weights, self.averages, strict=True):
            average.assign(keras.ops.convert_to_numpy(weight))

    def give(self) -> None:
        """Gives the network its averages. Under a strategy of several workers, all must call it."""
        for weight, average in zip(self.weights, self.averages, strict=True):
            weight.assign(keras.ops.convert_to_numpy(average))


class ValidateAverage(keras.callbacks.Callback):
    """Gives the network its averages for the length of each validation."""

    def __init__(self, average: WeightAverage) -> None:
        super().__init__()
        self.average = average
        self.before: list[Any] = []

    def on_test_begin(self, logs: Any = None) -> None:
        """Puts the averages in the place of the weights."""
        self.before = [keras.ops.convert_to_numpy(weight) for weight in self.average.weights]
        self.average.give()

    def on_test_end(self, logs: Any = None) -> None:
        """Puts the weights back."""
        for weight, value in zip(self.average.weights, self.before, strict=True):
            weight.assign(value)
