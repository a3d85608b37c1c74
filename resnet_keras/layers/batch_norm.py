"""Batch normalization (arXiv:1502.03167) by TensorFlow's fused kernel."""

from __future__ import annotations

import warnings
from typing import Any

import keras
from keras import ops

from resnet_keras.layers.grouped_conv import Conv2D
from resnet_keras.layers.keras_internals import saved_as_keras_layer
from resnet_keras.layers.traversal import flat_layers

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class FoldedStatistics:
    """A warning, given once, that a network with folded statistics is trained.

    Args:
        source: Where its weights are from.
    """

    def __init__(self, source: str) -> None:
        self.source, self._warned = source, False

    def warn(self) -> None:
        """Warns, the first time."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"The statistics of batch normalization are folded into scale and offset in {self.source}: training "
                "uses those of each batch instead, which changes what the network computes at once. Before `fit`, call "
                "`resnet_keras.surgery.restore_statistics(model, batches)` on some training images",
                stacklevel=2,
            )


def note_folded_statistics(model: keras.Model, source: str | None) -> None:
    """Notes that all statistics of a network are folded in the weights of a source; `None`: that they are not."""
    folded = FoldedStatistics(source) if source else None
    for layer in flat_layers(model):
        if isinstance(layer, BatchNormalization):
            layer.folded = folded


@saved_as_keras_layer
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with TensorFlow's fused kernel.

    Keras composes the layer from a dozen elementwise operations in float32; TensorFlow has one kernel for all of them,
    which also reads and writes half precision. Outputs, gradients and moving statistics agree. The kernel takes images
    (N, H, W, C) in float32, bfloat16 or float16, without mask, renormalization or synchronization. Other inputs and
    backends use Keras's own code.

    Keras saves the layer as `keras.layers.BatchNormalization`; see `saved_as_keras_layer`.
    """

    folded: FoldedStatistics | None = None
    """Set where moving statistics are folded into scale and offset, which training must not replace."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Returns normalized `inputs` (N, H, W, C); in training, by the mean and variance of the batch."""
        if self.folded and training and self.trainable:
            self.folded.warn()
        if mask is not None or not self._fuses(inputs):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        scale = ops.cast(self.gamma, "float32") if self.scale else tf.ones([channels])
        offset = ops.cast(self.beta, "float32") if self.center else tf.zeros([channels])
        use_batch = training and self.trainable
        # In training, the kernel takes empty moving statistics.
        mean = tf.zeros([0]) if use_batch else ops.cast(self.moving_mean, "float32")
        variance = tf.zeros([0]) if use_batch else ops.cast(self.moving_variance, "float32")
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=bool(use_batch),
        )
        if use_batch:
            # The kernel returns the unbiased variance, n / (n - 1) times the one that Keras averages.
            variance *= 1.0 - channels / tf.cast(tf.size(inputs), "float32")
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + ops.cast(batch, moving.dtype) * (1.0 - self.momentum))
        return outputs

    def _fuses(self, inputs: Any) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and inputs.shape[-1] is not None
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16", "float16")
            and keras.backend.standardize_dtype(inputs.dtype) == self.compute_dtype
            and not self.synchronized
            and not getattr(self, "renorm", False)
        )


FUSED_LAYERS = {"BatchNormalization": BatchNormalization, "Conv2D": Conv2D}
"""Classes by the names in files of networks of this package, for `custom_objects`: nothing is left to `fuse` then."""


def fuse(model: keras.Model) -> keras.Model:
    """Returns `model` with the faster batch normalizations and grouped convolutions of this package.

    A model that Keras reads from a file has Keras's own layers. The result is a new, uncompiled model with the same
    weights, or `model` itself if it has no such layer.
    """

    def slow(layer: Any) -> bool:
        grouped = type(layer) is keras.layers.Conv2D and layer.groups > 1
        return grouped or type(layer) is keras.layers.BatchNormalization

    def swapped(layer: Any) -> Any:
        if slow(layer):
            fast = Conv2D if isinstance(layer, keras.layers.Conv2D) else BatchNormalization
            return fast.from_config(layer.get_config())
        return layer.__class__.from_config(layer.get_config()) if isinstance(layer, keras.layers.Layer) else layer

    if not any(map(slow, flat_layers(model))):
        return model
    fused = keras.models.clone_model(model, clone_function=swapped, recursive=True)
    fused.set_weights(model.get_weights())
    return fused
