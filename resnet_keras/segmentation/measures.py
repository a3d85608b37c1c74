"""Measures of segmentation: intersection over union of each class, its mean, and pixel accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from resnet_keras.segmentation.full_size import full_mask

IGNORED = 255
"""Label of pixels that do not count, as in VOC's masks."""


@dataclass(frozen=True)
class SegmentationResult:
    """Result of a segmentation network on images with masks.

    Attributes:
        images: Number of images.
        pixels: Number of pixels that count.
        mean_iou: Mean over the classes that occur of their intersection over union, 0 to 1.
        pixel_accuracy: Fraction of pixels whose class is right, 0 to 1.
        class_iou: Intersection over union by class name; `None` for a class that neither masks nor predictions have.
    """

    images: int
    pixels: int
    mean_iou: float
    pixel_accuracy: float
    class_iou: dict[str, float | None]

    def __str__(self) -> str:
        """Returns mean IoU and pixel accuracy in percent."""
        return f"mean IoU {self.mean_iou:.2%}, pixel accuracy {self.pixel_accuracy:.2%}, {self.images:,} images"


class MaskConfusion:
    """Confusion matrix of masks, added up over images of any size.

    Args:
        class_names: Names of the classes, in the order of the labels.
        ignored: Label of pixels that do not count.

    Example:
        >>> confusion = MaskConfusion(["sky", "road"])
        >>> confusion.add(mask, logits.argmax(-1))
        >>> confusion.result().mean_iou
    """

    def __init__(self, class_names: Sequence[str], *, ignored: int = IGNORED) -> None:
        self.class_names = tuple(class_names)
        self.images = 0
        self._metric = keras.metrics.MeanIoU(len(self.class_names), ignore_class=ignored)
        self._ignored = ignored

    def add(self, mask: Any, predicted: Any) -> None:
        """Adds one image.

        Args:
            mask: Labels (H, W), integers.
            predicted: Predicted labels (H, W), integers.

        Raises:
            ValueError: The shapes differ, or a label is outside the classes.
        """
        mask, predicted = np.asarray(mask), np.asarray(predicted)
        if mask.shape != predicted.shape or mask.ndim != 2:
            raise ValueError(
                f"Expected a mask and a prediction of one shape (H, W). Received: {mask.shape} and {predicted.shape}"
            )
        counted = mask[mask != self._ignored]
        if counted.size and not 0 <= counted.min() <= counted.max() < len(self.class_names):
            wrong = counted.max() if counted.max() >= len(self.class_names) else counted.min()
            raise ValueError(
                f"Expected labels from 0 to {len(self.class_names) - 1}, or {self._ignored} where pixels do not count. "
                f"Received: {wrong}"
            )
        self._metric.update_state(mask, predicted)
        self.images += 1

    @property
    def matrix(self) -> np.ndarray:
        """Pixels of true class i that are predicted as class j, int64 (classes, classes)."""
        return np.rint(keras.ops.convert_to_numpy(self._metric.total_cm)).astype(np.int64)

    def result(self) -> SegmentationResult:
        """Returns the measures of all images that were added.

        Raises:
            ValueError: No pixel counts.
        """
        matrix = self.matrix
        pixels = int(matrix.sum())
        if not pixels:
            raise ValueError(f"Expected images with pixels that count. Received: {self.images} images, without any")
        right = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - right
        found = [float(one / all_) if all_ else None for one, all_ in zip(right, union, strict=True)]
        occurring = [iou for iou in found if iou is not None]
        return SegmentationResult(
            images=self.images,
            pixels=pixels,
            mean_iou=float(np.mean(occurring)),
            pixel_accuracy=float(right.sum() / pixels),
            class_iou=dict(zip(self.class_names, found, strict=True)),
        )


def scores_of(outputs: Any) -> Any:
    """Returns the scores among a network's outputs, which an auxiliary head may accompany."""
    return outputs["logits"] if isinstance(outputs, dict) else outputs


def evaluate_masks(
    model: keras.Model, pairs: Iterable[tuple[Any, Any]], class_names: Sequence[str], *, ignored: int = IGNORED
) -> SegmentationResult:
    """Returns the measures of a segmentation network at the full resolution of the masks.

    Args:
        model: Network from normalized images (N, H, W, C) to scores (N, h, w, classes). With a fixed input size,
            images have to have it.
        pairs: For each image, the normalized image (H, W, C) and its mask (H', W'); scores are resized to the mask's
            size by bilinear interpolation before the largest is taken.
        class_names: Names of the classes, in the order of the labels.
        ignored: Label of pixels that do not count.

    Raises:
        ValueError: The network has another number of classes, a label is outside the classes, or no pixel counts.
    """
    confusion = MaskConfusion(class_names, ignored=ignored)
    for image, mask in pairs:
        scores = scores_of(model(np.asarray(image)[None], training=False))
        if scores.shape[-1] != len(confusion.class_names):
            raise ValueError(
                f"Expected a network of {len(confusion.class_names)} classes. Received: {model.name!r}, of "
                f"{scores.shape[-1]}"
            )
        mask = np.asarray(mask)
        if mask.ndim != 2:
            raise ValueError(f"Expected a mask (H, W). Received: {mask.shape}")
        confusion.add(mask, full_mask(scores[0], mask.shape))
    return confusion.result()
