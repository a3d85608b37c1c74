"""Training steps beyond Keras's own: gradient accumulation, skipped steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from resnet_keras.layers.keras_internals import update_loss

Step = Callable[[Any], dict[str, Any]]


def accumulate_gradients(model: keras.Model, parts: int) -> Step:
    """Returns a step that accumulates gradients over `parts` equal parts of a batch and then updates the weights once.

    The gradient is that of the whole batch, except that batch normalization normalizes each part by its own statistics,
    as on that many devices. Only one part's activations are in memory at a time.
    """

    def step(data: Any) -> dict[str, Any]:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        divided = [tf.reshape(whole, tf.concat([[parts, -1], tf.shape(whole)[1:]], 0)) for whole in (x, y)]
        for part, whole in zip(divided, (x, y), strict=True):
            part.set_shape((parts, None, *whole.shape[1:]))
        weights = model.trainable_weights

        def one_more(i: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
            x, y = (part[i] for part in divided)
            with tf.GradientTape() as tape:
                outputs = model(x, training=True)
                loss = model.compute_loss(x=x, y=y, y_pred=outputs, training=True)
                scaled = model.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, weights)
            replicas = tf.distribute.get_strategy().num_replicas_in_sync  # Keras divides a replica's loss by them
            update_loss(model, loss * replicas, tf.shape(x)[0])
            model.compute_metrics(x, y, outputs)
            return i + 1, [total + gradient for total, gradient in zip(sums, gradients, strict=True)]

        zeros = [tf.zeros(weight.shape, weight.dtype) for weight in weights]
        _, sums = tf.while_loop(
            lambda i, _: i < parts, one_more, (tf.constant(0), zeros), parallel_iterations=1, maximum_iterations=parts
        )
        model.optimizer.apply([total / parts for total in sums], weights)
        return model.get_metrics_result()

    return step


class SkipNonFiniteSteps:
    """Skips and counts steps that would make a variable of the run infinite or not a number.

    Args:
        model: Compiled model with a built optimizer.
        others: Further variables that a step changes.

    Attributes:
        count: Steps that were skipped.
    """

    def __init__(self, model: keras.Model, others: Iterable[keras.Variable] = ()) -> None:
        self.model, self.others = model, list(others)
        self.count = keras.Variable(
            0, dtype="int64", trainable=False, synchronization="on_read", aggregation="only_first_replica", name="skips"
        )

    def guard(self, step: Step) -> Step:
        """Returns a step that undoes all its changes if any of them is not finite.

        The optimizer still counts the step, so the learning rate schedule continues: the images have been used.
        """

        def stepped(data: Any) -> dict[str, Any]:
            model = self.model
            kept = [
                variable
                for variable in (
                    *model.weights, *model.optimizer.variables, *model.metrics_variables, *self.others,
                )
                if "float" in variable.dtype
            ]  # fmt: skip
            before = [tf.identity(variable.value) for variable in kept]
            step(data)
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(variable.value)) for variable in kept])
            broken = 1.0 - tf.cast(finite, tf.float32)
            if tf.distribute.get_strategy().num_replicas_in_sync > 1:
                broken = tf.distribute.get_replica_context().all_reduce("sum", broken)
            fine = tf.equal(broken, 0.0)
            for variable, value in zip(kept, before, strict=True):
                variable.assign(tf.where(fine, tf.convert_to_tensor(variable.value), value))
            self.count.assign_add(tf.cast(tf.logical_not(fine), tf.int64))
            return model.get_metrics_result()

        return stepped
