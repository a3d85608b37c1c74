"""Distillation: the step and the loss of a network that learns a teacher's probabilities (arXiv:1503.02531)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from resnet_keras.training.train_step import Step


def distill_from(teacher: keras.Model, step: Step) -> Step:
    """Returns a step that appends the logits of a frozen teacher to the labels: (N, classes) -> (N, 2 * classes).

    `DistillationLoss` and `label_accuracy` take them apart.
    """

    def stepped(data: Any) -> dict[str, Any]:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        logits = tf.cast(tf.stop_gradient(teacher(x, training=False)), tf.float32)
        # Batches of a generator may not tell the number of classes, by which the loss knows that logits follow.
        labels = tf.ensure_shape(tf.cast(y, tf.float32), logits.shape)
        return step((x, tf.concat([labels, logits], -1)))

    return stepped


class DistillationLoss(keras.losses.Loss):
    """Cross-entropy with the probabilities of a teacher, and with the labels (arXiv:1503.02531, section 2).

    The probabilities of both networks are softened by the temperature, and this part of the loss is multiplied by its
    square, so that the gradients keep their size. Labels alone, as in validation, have the plain cross-entropy.

    Args:
        temperature: Divisor of the logits, above 0.
        share: Weight of the teacher's part, in (0, 1]; the labels have the rest.
    """

    def __init__(self, temperature: float, share: float) -> None:
        super().__init__(name="distillation")
        self.temperature, self.share = temperature, share

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each image: labels with or without logits of the teacher, logits -> (N,)."""
        classes = y_pred.shape[-1]
        labels, logits = y_true[:, :classes], y_true[:, classes:]
        if y_true.shape[-1] != 2 * classes:
            return _cross_entropy(labels, y_pred)
        softened = keras.ops.softmax(logits / self.temperature)
        loss = self.share * self.temperature**2 * _cross_entropy(softened, y_pred / self.temperature)
        return loss if self.share == 1 else loss + (1 - self.share) * _cross_entropy(labels, y_pred)


def label_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Returns whether the most probable class is that of the label, which a teacher's logits may follow: (N,)."""
    return keras.metrics.categorical_accuracy(y_true[:, : y_pred.shape[-1]], y_pred)


def _cross_entropy(probabilities: Any, logits: Any) -> Any:
    return keras.losses.categorical_crossentropy(probabilities, logits, from_logits=True)
