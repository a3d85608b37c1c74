"""What a localization network learns by: the loss of classes and boxes, and metrics."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from resnet_keras.detection.boxes import decode, pairwise_iou
from resnet_keras.detection.localization_network import CANVAS_WEIGHTS

_UNIT = (0.0, 0.0, 1.0, 1.0)


class LocalizationLoss(keras.losses.Loss):
    """Cross-entropy of the class, plus smooth L1 of the offsets of the true class's box (arXiv:1504.08083, 2.3)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"name": "localization_loss", **kwargs})

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each image: targets (N, 5) and outputs (N, classes, 5) -> (N,)."""
        labels, offsets = ops.cast(y_true[:, 0], "int32"), y_true[:, 1:]
        own = _of_label(y_pred, labels)[:, 1:]
        entropy = keras.losses.sparse_categorical_crossentropy(labels, y_pred[..., 0], from_logits=True)
        distance = ops.abs(own - offsets)
        smooth = ops.where(distance < 1, 0.5 * distance**2, distance - 0.5)
        return entropy + ops.sum(smooth, axis=-1)


class ClassAccuracy(keras.metrics.Mean):
    """Fraction of images whose class has the largest logit."""

    def __init__(self, name: str = "accuracy") -> None:
        super().__init__(name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch: targets (N, 5) and outputs (N, classes, 5)."""
        return super().update_state(ops.cast(_right(y_true, y_pred), "float32"), sample_weight)


class Localized(keras.metrics.Mean):
    """Fraction of images whose class has the largest logit and a box that overlaps the object by 0.5 and more."""

    def __init__(self, name: str = "localized") -> None:
        super().__init__(name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch: targets (N, 5) and outputs (N, classes, 5)."""
        own = _of_label(y_pred, ops.cast(y_true[:, 0], "int32"))[:, None, 1:]
        found, wanted = (
            decode(each, ops.convert_to_tensor(_UNIT), CANVAS_WEIGHTS) for each in (own, y_true[:, None, 1:])
        )
        overlaps = pairwise_iou(found, wanted)[:, 0, 0] >= 0.5
        return super().update_state(
            ops.cast(ops.logical_and(_right(y_true, y_pred), overlaps), "float32"), sample_weight
        )


def _right(y_true: Any, y_pred: Any) -> Any:
    return ops.equal(ops.cast(y_true[:, 0], "int32"), ops.cast(ops.argmax(y_pred[..., 0], axis=-1), "int32"))


def _of_label(y_pred: Any, labels: Any) -> Any:
    """Returns the output of each image for its label: (N, classes, 5), (N,) -> (N, 5)."""
    return ops.take_along_axis(y_pred, labels[:, None, None], axis=1)[:, 0]
