"""The layers of Faster R-CNN without weights: proposals, their parts of the maps, and detections.

Their outputs have static shapes, with the numbers of boxes that count. They compute in float32 under every policy, and
stop gradients where torchvision does: at proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from resnet_keras.detection.anchors import anchors_at, cell_anchors, level_anchors, spatial_size
from resnet_keras.detection.boxes import Weights, clip_boxes, decode, has_sides
from resnet_keras.detection.pooling import Form, roi_align
from resnet_keras.detection.suppression import non_max_suppression

_NO_ANCHOR = -1e30
_MOST_BOXES, _MOST_SAMPLES = 20_000, 32  # a file may ask for any number, which would take all memory
_LEAST_DETECTION = 0.01  # pixels, as in torchvision


class _Float32Layer(keras.layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.supports_jit = keras.backend.backend() != "tensorflow"  # XLA has no such suppression


@keras.saving.register_keras_serializable("resnet_keras")
class Proposals(_Float32Layer):
    """Boxes that probably have an object in them, from the output of a region proposal network.

    Args:
        anchor_sizes: Sizes of the anchors of each map.
        anchor_ratios: Heights per width of the anchors.
        before: Anchors of each map that enter non-maximum suppression, in training and in inference.
        after: Proposals of an image, likewise.
        iou: Overlap above which a proposal is suppressed.
        least_side: Least width and height in pixels.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        anchor_sizes: Sequence[Sequence[float]],
        anchor_ratios: Sequence[float],
        before: Sequence[int],
        after: Sequence[int],
        iou: float,
        least_side: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.anchor_sizes = tuple(map(tuple, anchor_sizes))
        self.anchor_ratios = tuple(anchor_ratios)
        self.before, self.after, self.iou, self.least_side = tuple(before), tuple(after), iou, least_side
        for number in (*self.before, *self.after):
            _expect_at_most(number, _MOST_BOXES, "proposals")

    def call(
        self, objectness: list[Any], deltas: list[Any], images: Any, sizes: Any, training: bool | None = None
    ) -> tuple[Any, Any]:
        """Returns proposals, the best first, float32 (N, proposals, 4), and how many of them count, int32 (N,).

        Args:
            objectness: Logits of the anchors of each map (N, h, w, A).
            deltas: Offsets from the anchors of each map (N, h, w, 4 * A).
            images: Images with their padding (N, H, W, C), of which only height and width matter.
            sizes: Height and width of each image without padding (N, 2), at which proposals are cut off.
            training: Whether as many proposals as in training are made.
        """
        before, count = (pair[0 if training else 1] for pair in (self.before, self.after))
        image_size = spatial_size(images)
        found = [
            _best(ops.stop_gradient(logits), ops.stop_gradient(offsets), before, image_size, self._cell(level))
            for level, (logits, offsets) in enumerate(zip(objectness, deltas, strict=True))
        ]
        levels = [ops.full((boxes.shape[1],), level, "int32") for level, (boxes, _) in enumerate(found)]
        boxes = clip_boxes(ops.concatenate([boxes for boxes, _ in found], axis=1), sizes)
        scores = ops.concatenate([scores for _, scores in found], axis=1)
        scores = ops.where(has_sides(boxes, self.least_side), scores, -1.0)
        kept, number = non_max_suppression(boxes, scores, ops.concatenate(levels), count, self.iou, -0.5)
        counts = ops.expand_dims(ops.arange(count), 0) < ops.expand_dims(number, 1)
        return ops.where(counts[..., None], _rows(boxes, kept), 0.0), number

    def anchors(self, image_size: tuple[Any, Any], map_sizes: Sequence[tuple[Any, Any]]) -> list[Any]:
        """Returns the anchors of each map; see `level_anchors`."""
        return level_anchors(image_size, map_sizes, self.anchor_sizes, self.anchor_ratios)

    def _cell(self, level: int) -> np.ndarray:
        return cell_anchors(self.anchor_sizes[level], self.anchor_ratios)

    def compute_output_spec(
        self, objectness: list[Any], deltas: list[Any], images: Any, sizes: Any, training: bool | None = None
    ) -> tuple[Any, Any]:
        """Returns the shapes of the outputs, which do not depend on those of the images."""
        count, batch = self.after[0 if training else 1], images.shape[0]
        return keras.KerasTensor((batch, count, 4), "float32"), keras.KerasTensor((batch,), "int32")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {
            **super().get_config(),
            "anchor_sizes": self.anchor_sizes,
            "anchor_ratios": self.anchor_ratios,
            "before": self.before,
            "after": self.after,
            "iou": self.iou,
            "least_side": self.least_side,
        }


@keras.saving.register_keras_serializable("resnet_keras")
class RoIAlign(_Float32Layer):
    """The part of the maps under each proposal, at one size; see `roi_align`.

    Args:
        strides: Stride of each map.
        size: Cells along each side.
        samples: Samples of a cell along each side.
        aligned: Whether pixels of maps are areas.
        form: "crop", "gather", or "auto".
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        strides: Sequence[int],
        size: int,
        samples: int = 2,
        aligned: bool = False,
        form: Form = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _expect_at_most(size * samples, _MOST_SAMPLES, "samples along a side of a region, `size` times `samples`,")
        self.strides, self.size, self.samples = tuple(strides), size, samples
        self.aligned, self.form = aligned, form

    def call(self, maps: list[Any], boxes: Any, training: bool | None = None) -> Any:
        """Returns the parts of all boxes of all images: float32 (N * R, size, size, C).

        Args:
            maps: Feature maps (N, h, w, C), the finest first.
            boxes: Boxes of each image in its pixels (N, R, 4).
            training: Whether the gradient has to be the same to the last bit each time.
        """
        return roi_align(
            maps,
            boxes,
            self.strides,
            self.size,
            samples=self.samples,
            aligned=self.aligned,
            form=self.form,
            deterministic=bool(training),
        )

    def compute_output_spec(self, maps: list[Any], boxes: Any, training: bool | None = None) -> Any:
        """Returns the shape of the output."""
        images, count = boxes.shape[:2]
        regions = None if images is None or count is None else images * count
        return keras.KerasTensor((regions, self.size, self.size, maps[0].shape[-1]), "float32")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {
            **super().get_config(),
            "strides": self.strides,
            "size": self.size,
            "samples": self.samples,
            "aligned": self.aligned,
            "form": self.form,
        }


@keras.saving.register_keras_serializable("resnet_keras")
class Detections(_Float32Layer):
    """The objects of each image, from the classes and offsets of its proposals.

    Args:
        count: Detections of an image, at most.
        iou: Overlap above which a detection of the same class is suppressed.
        least_score: Detections have scores above it.
        box_weights: Weights of the offsets.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, count: int, iou: float, least_score: float, box_weights: Weights, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _expect_at_most(count, _MOST_BOXES, "detections")
        self.count, self.iou, self.least_score = count, iou, least_score
        x, y, width, height = box_weights  # a list in a file
        self.box_weights: Weights = (x, y, width, height)

    def call(self, logits: Any, deltas: Any, proposals: Any, number: Any, sizes: Any) -> dict[str, Any]:
        """Returns the detections, the best first.

        Args:
            logits: Scores of the classes of each proposal, background first (N * R, 1 + classes).
            deltas: Offsets of each class (N * R, 4 * (1 + classes)).
            proposals: Proposals (N, R, 4).
            number: How many of them count (N,).
            sizes: Height and width of each image without padding (N, 2).

        Returns:
            `boxes`, float32 (N, count, 4), in pixels of the images as they are given; `scores`, float32 (N, count);
            `labels`, int32 (N, count), 0 for the first class after background; and `number`, int32 (N,). Behind the
            last detection, boxes and scores are 0, and labels -1.
        """
        regions, classes = proposals.shape[1], logits.shape[-1] - 1
        counted = ops.expand_dims(ops.arange(regions), 0) < ops.expand_dims(number, 1)
        scores = ops.reshape(ops.softmax(logits, axis=-1), (-1, regions, 1 + classes))[..., 1:]
        offsets = ops.reshape(deltas, (-1, regions, 1 + classes, 4))[:, :, 1:]
        boxes = clip_boxes(decode(offsets, ops.expand_dims(proposals, 2), self.box_weights), sizes)
        usable = ops.logical_and(has_sides(boxes, _LEAST_DETECTION), ops.expand_dims(counted, -1))
        scores = ops.reshape(ops.where(usable, scores, -1.0), (-1, regions * classes))
        boxes = ops.reshape(boxes, (-1, regions * classes, 4))
        labels = ops.tile(ops.arange(classes, dtype="int32"), [regions])
        kept, found = non_max_suppression(boxes, scores, labels, self.count, self.iou, self.least_score)
        there = ops.expand_dims(ops.arange(self.count), 0) < ops.expand_dims(found, 1)
        return {
            "boxes": ops.where(there[..., None], _rows(boxes, kept), 0.0),
            "scores": ops.where(there, _rows(scores[..., None], kept)[..., 0], 0.0),
            "labels": ops.where(there, ops.take(labels, kept, axis=0), -1),
            "number": found,
        }

    def compute_output_spec(self, logits: Any, deltas: Any, proposals: Any, number: Any, sizes: Any) -> dict[str, Any]:
        """Returns the shapes of the outputs."""
        batch = proposals.shape[0]
        return {
            "boxes": keras.KerasTensor((batch, self.count, 4), "float32"),
            "scores": keras.KerasTensor((batch, self.count), "float32"),
            "labels": keras.KerasTensor((batch, self.count), "int32"),
            "number": keras.KerasTensor((batch,), "int32"),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {
            **super().get_config(),
            "count": self.count,
            "iou": self.iou,
            "least_score": self.least_score,
            "box_weights": self.box_weights,
        }


def _expect_at_most(number: int, most: int, what: str) -> None:
    if not 1 <= number <= most:
        raise ValueError(f"Expected 1 to {most:,} {what}. Received: {number:,}".replace(",.", "."))


def _best(logits: Any, deltas: Any, count: int, image_size: tuple[Any, Any], cell: np.ndarray) -> tuple[Any, Any]:
    """Returns boxes (N, count, 4) and scores (N, count) of the best anchors of a map; scores of padding are -1."""
    images, map_size = ops.shape(logits)[0], spatial_size(logits)
    logits, deltas = ops.reshape(logits, (images, -1)), ops.reshape(deltas, (images, -1, 4))
    if logits.shape[1] is not None:
        best, index = ops.top_k(logits, min(count, logits.shape[1]))
        scores = ops.sigmoid(best)
    else:  # there may be fewer
        best, index = ops.top_k(ops.pad(logits, [[0, 0], [0, count]], constant_values=_NO_ANCHOR), count)
        index = ops.minimum(index, ops.shape(logits)[1] - 1)
        scores = ops.where(best > _NO_ANCHOR, ops.sigmoid(best), -1.0)
    return decode(_rows(deltas, index), anchors_at(index, image_size, map_size, cell)), scores


def _rows(values: Any, index: Any) -> Any:
    """Returns rows of each image: (N, B, ...), (N, count) -> (N, count, ...)."""
    if values.shape[0] == 1:  # operations that LiteRT has
        return ops.take(values[0], index[0], axis=0)[None]
    return ops.take_along_axis(values, index[..., None], axis=1)
