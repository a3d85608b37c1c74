"""Non-maximum suppression: of boxes that overlap, the best one stays."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from resnet_keras.detection.boxes import pairwise_iou

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def non_max_suppression(
    boxes: Any, scores: Any, groups: Any, count: int, iou: float, least_score: float
) -> tuple[Any, Any]:
    """Returns the indices of the boxes that stay in each image, the best first, and their number.

    Boxes of different groups do not suppress each other. Of equal scores, the first is the better one, as in
    torchvision's `batched_nms`. Under TensorFlow, it is the operation `NonMaxSuppressionV4`, which LiteRT has, too.

    Args:
        boxes: Boxes, float32 (N, B, 4).
        scores: Their scores, float32 (N, B).
        groups: Their classes or levels, integers (B,) or (N, B).
        count: Boxes that stay, at most.
        iou: Overlap above which a box is suppressed, 0 to 1.
        least_score: Boxes up to this score do not stay.

    Returns:
        Indices int32 (N, count), 0 behind the last, and numbers int32 (N,).
    """
    # Boxes of different groups are moved so far apart that none overlap.
    apart = ops.cast(groups, "float32") * (ops.max(boxes) + 1.0)
    boxes = boxes + ops.expand_dims(apart, -1)
    if keras.backend.backend() == "tensorflow":
        return _by_tensorflow(boxes, scores, count, iou, least_score)
    return _by_rounds(boxes, scores, count, iou, least_score)


def _by_tensorflow(boxes: Any, scores: Any, count: int, iou: float, least_score: float) -> tuple[Any, Any]:
    def of_image(image: tuple[Any, Any]) -> tuple[Any, Any]:
        # The operation's order is y, x, which makes no difference to overlap.
        kept, number = tf.raw_ops.NonMaxSuppressionV4(
            boxes=image[0],
            scores=image[1],
            max_output_size=count,
            iou_threshold=iou,
            score_threshold=least_score,
            pad_to_max_output_size=True,
        )
        return kept, number

    if boxes.shape[0] == 1:  # no loop, which LiteRT would need further operators for
        kept, number = of_image((boxes[0], scores[0]))
        return tf.ensure_shape(kept, (count,))[None], tf.reshape(number, (1,))
    kept, number = tf.map_fn(of_image, (boxes, scores), fn_output_signature=(tf.int32, tf.int32))
    return tf.ensure_shape(kept, (boxes.shape[0], count)), number


def _by_rounds(boxes: Any, scores: Any, count: int, iou: float, least_score: float) -> tuple[Any, Any]:
    """Picks the best box of each image in each round, and removes all that overlap it."""
    images = ops.shape(boxes)[0]
    lowest = float("-inf")

    def pick(index: Any, state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        left, kept, number = state
        best = ops.cast(ops.argmax(left, axis=-1), "int32")
        found = ops.max(left, axis=-1) > least_score
        chosen = ops.take_along_axis(boxes, best[:, None, None], axis=1)
        gone = pairwise_iou(chosen, boxes)[:, 0] > iou
        gone = ops.logical_or(gone, ops.arange(ops.shape(boxes)[1])[None] == best[:, None])
        here = ops.logical_and(ops.arange(count)[None] == index, found[:, None])
        return (
            ops.where(ops.logical_and(gone, found[:, None]), lowest, left),
            ops.where(here, best[:, None], kept),
            number + ops.cast(found, "int32"),
        )

    nothing = ops.zeros((images, count), "int32"), ops.zeros((images,), "int32")
    _, kept, number = ops.fori_loop(0, count, pick, (scores, *nothing))
    return kept, number
