"""Losses of Faster R-CNN, over samples of fixed size and all replicas (arXiv:1506.01497, equation 1).

Each of them is a sum over what was sampled, divided by the number of all sampled on all replicas. So several replicas
compute what one device computes for the whole batch, and images without objects count with their background.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from resnet_keras.detection.sampling import Sample

BETA = 1 / 9
"""Difference of box coordinates from which the smooth L1 loss is linear."""


def proposal_losses(logits: Any, deltas: Any, targets: Any, sample: Sample) -> tuple[Any, Any]:
    """Returns the losses of the region proposal network: of objectness, and of boxes.

    Args:
        logits: Objectness of each anchor, (N, anchors).
        deltas: Encoded box of each anchor, (N, anchors, 4).
        targets: Encoded objects of the sampled anchors, (N, sampled, 4).
        sample: Anchors that are trained on.

    Returns:
        Two scalars in float32: binary cross-entropy over the sampled anchors, and smooth L1 over those with an object;
        both over the number of all sampled.
    """
    chosen = ops.take_along_axis(ops.cast(logits, "float32"), sample.indices, axis=1)
    boxes = ops.take_along_axis(ops.cast(deltas, "float32"), sample.indices[..., None], axis=1)
    number = sampled_on_all_replicas(sample)
    objectness = ops.sum(_binary_cross_entropy(chosen, sample.positive) * sample.valid) / number
    return objectness, _box_loss(boxes - targets, sample.positive * sample.valid) / number


def region_losses(logits: Any, deltas: Any, labels: Any, targets: Any, sample: Sample) -> tuple[Any, Any]:
    """Returns the losses of the second stage: of the class, and of the box of the true class.

    Args:
        logits: Score of each class of each sampled proposal, background first, (N, sampled, 1 + classes).
        deltas: Encoded box of each class, (N, sampled, 1 + classes, 4).
        labels: True class, 0 for background, (N, sampled).
        targets: Encoded object, (N, sampled, 4).
        sample: Which of the proposals count.

    Returns:
        Two scalars in float32: cross-entropy over the sampled proposals, and smooth L1 over those with an object; both
        over the number of all sampled.
    """
    labels = ops.cast(labels, "int32")
    scores = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    number = sampled_on_all_replicas(sample)
    true = ops.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
    boxes = ops.take_along_axis(ops.cast(deltas, "float32"), labels[..., None, None], axis=2)[..., 0, :]
    with_object = ops.cast(labels > 0, "float32") * sample.valid
    return -ops.sum(true * sample.valid) / number, _box_loss(boxes - targets, with_object) / number


def smooth_l1(difference: Any, beta: float = BETA) -> Any:
    """Returns half the square of a difference over `beta`, and the absolute difference less `beta` / 2 from there."""
    size = ops.abs(difference)
    return ops.where(size < beta, 0.5 * ops.square(difference) / beta, size - 0.5 * beta)


def sampled_on_all_replicas(sample: Sample) -> Any:
    """Returns the number of all that is sampled, at least 1: a scalar."""
    number = ops.sum(sample.valid)
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        context = tf.distribute.get_replica_context()
        number = number if context is None else context.all_reduce("sum", number)
    return ops.maximum(number, 1.0)


def _binary_cross_entropy(logits: Any, truth: Any) -> Any:
    return ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))


def _box_loss(differences: Any, weights: Any) -> Any:
    # Where nothing counts, a difference may be infinite; its product with 0 would be no number.
    counted = ops.where(weights[..., None] > 0, differences, 0.0)
    return ops.sum(smooth_l1(counted))
