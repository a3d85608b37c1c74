"""What a segmentation network learns by: the loss of its logits and of an auxiliary head, and metrics of its masks."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from resnet_keras.segmentation.measures import IGNORED

_JOIN = "logits_and_auxiliary_logits"


def joined(model: keras.Model) -> keras.Model:
    """Returns a network whose only output holds the logits and, after them, those of an auxiliary head.

    One output has one loss and metrics with short names. A network without an auxiliary head stays as it is.
    """
    if not isinstance(model.output, dict):
        return model
    join = keras.layers.Concatenate(dtype="float32", name=_JOIN)
    return keras.Model(model.input, join(list(model.output.values())), name=model.name)


def without_auxiliary(model: keras.Model) -> keras.Model:
    """Returns the network of the logits alone, with the weights of a network that `joined` made."""
    if _JOIN not in {layer.name for layer in model.layers}:
        return model
    return keras.Model(model.input, model.get_layer(_JOIN).input[0], name=model.name)


class MaskCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of the pixels that count, of all replicas together.

    The mean of a batch is the same however replicas share it, whatever their parts of the pixels that do not count. In
    training, replicas have equally many images.

    Args:
        classes: Number of classes.
        ignored: Label of pixels that do not count.
        auxiliary: Weight of the loss of an auxiliary head, whose logits follow the others; 0 without one.
    """

    def __init__(self, classes: int, *, ignored: int = IGNORED, auxiliary: float = 0.0) -> None:
        super().__init__(name="mask_cross_entropy", reduction="sum")
        self.classes, self.ignored, self.auxiliary = classes, ignored, auxiliary

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of labels (N, H, W) and logits (N, H, W, classes, or twice as many): a scalar."""
        labels = tf.cast(tf.convert_to_tensor(y_true), tf.int32)
        logits = tf.cast(tf.convert_to_tensor(y_pred), tf.float32)
        counts = labels != self.ignored
        safe = tf.where(counts, labels, 0)
        heads = [logits[..., : self.classes], logits[..., self.classes :]]
        weights = [1.0, self.auxiliary]
        losses = [
            weight * tf.nn.sparse_softmax_cross_entropy_with_logits(safe, head)
            for weight, head in zip(weights, heads, strict=True)
            if weight
        ]
        total = tf.reduce_sum(tf.where(counts, tf.add_n(losses), 0.0))
        images = tf.cast(tf.shape(labels)[0], tf.float32)
        pixels, all_images = tf.unstack(
            _of_all_replicas(tf.stack([tf.reduce_sum(tf.cast(counts, tf.float32)), images]))
        )
        # Keras weights the losses of replicas by their images, of which a last batch of validation has unequal numbers,
        # or none.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.math.divide_no_nan(total, pixels) * tf.math.divide_no_nan(all_images, images * replicas)


class MaskMeanIoU(keras.metrics.MeanIoU):
    """Mean intersection over union of masks by the first logits, without those of an auxiliary head.

    Args:
        classes: Number of classes.
        ignored: Label of pixels that do not count.
        name: Name of the metric.
    """

    def __init__(self, classes: int, *, ignored: int = IGNORED, name: str = "mean_iou") -> None:
        super().__init__(classes, name=name, ignore_class=ignored, sparse_y_pred=False)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch: labels (N, H, W) and logits (N, H, W, classes or more)."""
        return super().update_state(y_true, y_pred[..., : self.num_classes], sample_weight)


class PixelAccuracy(MaskMeanIoU):
    """Fraction of the pixels that count whose largest logit is right; see `MaskMeanIoU`."""

    def __init__(self, classes: int, *, ignored: int = IGNORED, name: str = "pixel_accuracy") -> None:
        super().__init__(classes, ignored=ignored, name=name)

    def result(self) -> Any:
        """Returns the fraction, 0 without pixels."""
        matrix = keras.ops.convert_to_tensor(self.total_cm)
        return keras.ops.divide_no_nan(keras.ops.trace(matrix), keras.ops.sum(matrix))


def _of_all_replicas(value: Any) -> Any:
    """Returns the sum of a value over the replicas that share a batch."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)
