"""Losses of Faster R-CNN, over samples of fixed size and all replicas (arXiv:1506.01497, equation 1).

The layers of training return sums for each image, and `DetectorLoss` divides them by the numbers of all that is sampled
on all replicas. So several replicas compute what one device computes for the whole batch, and images without objects
count with their background.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from resnet_keras.detection.sampling import Sample

BETA = 1 / 9
"""Difference of box coordinates from which the smooth L1 loss is linear."""

LOSSES = {"objectness_loss": 4, "proposal_loss": 4, "class_loss": 5, "box_loss": 5}
"""Losses in the order of the columns that training returns; and the column of the number that each is divided by."""


def proposal_losses(logits: Any, deltas: Any, targets: Any, sample: Sample) -> tuple[Any, Any]:
    """Returns the sums of the losses of the region proposal network: of objectness, and of boxes.

    Args:
        logits: Objectness of each anchor, (N, anchors).
        deltas: Encoded box of each anchor, (N, anchors, 4).
        targets: Encoded objects of the sampled anchors, (N, sampled, 4).
        sample: Anchors that are trained on.

    Returns:
        Two sums of each image, float32 (N,): of binary cross-entropy over the sampled anchors, and of smooth L1 over
        those with an object.
    """
    chosen = ops.take_along_axis(ops.cast(logits, "float32"), sample.indices, axis=1)
    boxes = ops.take_along_axis(ops.cast(deltas, "float32"), sample.indices[..., None], axis=1)
    entropy = _counted(_binary_cross_entropy(chosen, sample.positive), sample.valid)
    return ops.sum(entropy, axis=1), _box_loss(boxes - targets, sample.positive * sample.valid)


def region_losses(logits: Any, deltas: Any, labels: Any, targets: Any, valid: Any) -> tuple[Any, Any]:
    """Returns the sums of the losses of the second stage: of the class, and of the box of the true class.

    Args:
        logits: Score of each class of each sampled proposal, background first, (N, sampled, 1 + classes).
        deltas: Encoded box of each class, (N, sampled, 1 + classes, 4).
        labels: True class, 0 for background, (N, sampled).
        targets: Encoded object, (N, sampled, 4).
        valid: 1 for the proposals that count, 0 for others, float32 (N, sampled).

    Returns:
        Two sums of each image, float32 (N,): of cross-entropy over the sampled proposals, and of smooth L1 over those
        with an object.
    """
    labels = ops.cast(labels, "int32")
    scores = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    true = ops.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
    boxes = ops.take_along_axis(ops.cast(deltas, "float32"), labels[..., None, None], axis=2)[..., 0, :]
    with_object = ops.cast(labels > 0, "float32") * valid
    return -ops.sum(_counted(true, valid), axis=1), _box_loss(boxes - targets, with_object)


def smooth_l1(difference: Any, beta: float = BETA) -> Any:
    """Returns half the square of a difference over `beta`, and the absolute difference less `beta` / 2 from there."""
    size = ops.abs(difference)
    return ops.where(size < beta, 0.5 * ops.square(difference) / beta, size - 0.5 * beta)


class DetectorLoss(keras.losses.Loss):
    """The four losses of Faster R-CNN, added: each a sum over all that is sampled, divided by its number.

    What a network of training returns for each image are the four sums, in the order of `LOSSES`, and the numbers of
    sampled anchors and regions.
    """

    def __init__(self) -> None:
        super().__init__(name="loss", reduction="sum", dtype="float32")  # a mean would be divided by the replicas

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of this replica, whose sum over the replicas is the loss: (N,); `y_true` is not used."""
        numbers = ops.maximum(_over_replicas(ops.sum(y_pred, axis=0)), 1.0)
        return sum(y_pred[:, column] / numbers[number] for column, number in enumerate(LOSSES.values()))


class PartOfLoss(keras.metrics.Metric):
    """One of the four losses of Faster R-CNN, over all batches of an epoch.

    Args:
        name: One of `LOSSES`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self._columns = list(LOSSES).index(name), LOSSES[name]
        self.total, self.number = (
            self.add_variable((), initializer="zeros", name=each, dtype="float32") for each in ("total", "number")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the sums of a batch."""
        for variable, column in zip((self.total, self.number), self._columns, strict=True):
            variable.assign_add(ops.sum(y_pred[:, column]))

    def result(self) -> Any:
        """Returns the sum of all over their number."""
        return self.total / ops.maximum(self.number, 1.0)


def _over_replicas(numbers: Any) -> Any:
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return numbers
    context = tf.distribute.get_replica_context()
    return numbers if context is None else context.all_reduce("sum", numbers)


def _binary_cross_entropy(logits: Any, truth: Any) -> Any:
    return ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))


def _counted(values: Any, weights: Any) -> Any:
    # Where nothing counts, a value may be infinite; its product with 0 would be no number.
    return ops.where(weights > 0, values, 0.0)


def _box_loss(differences: Any, weights: Any) -> Any:
    return ops.sum(smooth_l1(_counted(differences, weights[..., None])), axis=(1, 2))
