"""Global context of regions (arXiv:1512.03385, appendix B): the layers that it adds to a Faster R-CNN."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("resnet_keras")
class ImageBoxes(keras.layers.Layer):
    """The box of each whole image, as a region of it."""

    def call(self, sizes: Any) -> Any:
        """Returns a box for each image: (N, 2), height and width in pixels -> float32 (N, 1, 4)."""
        height, width = ops.split(ops.cast(sizes, "float32"), 2, axis=-1)
        return ops.expand_dims(ops.concatenate([ops.zeros_like(width), ops.zeros_like(width), width, height], -1), 1)

    def compute_output_spec(self, sizes: Any) -> Any:
        """Returns the shape of the output."""
        return keras.KerasTensor((sizes.shape[0], 1, 4), "float32")


@keras.saving.register_keras_serializable("resnet_keras")
class WithContext(keras.layers.Layer):
    """The feature of each region, with that of its whole image behind it, in float32.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, regions: Any, context: Any) -> Any:
        """Returns both features of each region: (N * R, F), (N, G) -> float32 (N * R, F + G)."""
        images, own, shared = ops.shape(context)[0], regions.shape[-1], context.shape[-1]
        grouped = ops.reshape(regions, (images, -1, own))
        repeated = ops.broadcast_to(ops.expand_dims(context, 1), (images, ops.shape(grouped)[1], shared))
        return ops.reshape(ops.concatenate([grouped, repeated], axis=-1), (-1, own + shared))

    def compute_output_spec(self, regions: Any, context: Any) -> Any:
        """Returns the shape of the output."""
        return keras.KerasTensor((regions.shape[0], regions.shape[-1] + context.shape[-1]), "float32")
