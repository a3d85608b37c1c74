"""What anchors and proposals are trained toward: which of them are sampled, and their objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from keras import ops

from resnet_keras.checks.fields import at_least, between, check_fields
from resnet_keras.detection.boxes import Weights, encode, pairwise_iou
from resnet_keras.detection.matching import BACKGROUND, match
from resnet_keras.detection.sampling import Sample, balanced_sample


@dataclass(frozen=True, kw_only=True)
class SamplingRules:
    """Which anchors and proposals a detector is trained on.

    The defaults are torchvision's. arXiv:1512.03385 takes those of arXiv:1506.01497 and its code: 128 regions in two
    images, and background from an overlap of 0.1.

    Raises:
        ValueError: A field is out of its range.
    """

    anchors: Annotated[int, at_least(1)] = 256
    """Anchors of each image."""
    positive_anchors: Annotated[float, between(0, 1)] = 0.5
    """Largest fraction of them with an object."""
    anchor_overlap: Annotated[float, between(0, 1)] = 0.7
    """Least overlap of an anchor with its object; the anchor that an object overlaps most has it in any case."""
    anchor_background: Annotated[float, between(0, 1)] = 0.3
    """Overlap below which an anchor is background."""
    regions: Annotated[int, at_least(1)] = 512
    """Proposals of each image."""
    positive_regions: Annotated[float, between(0, 1)] = 0.25
    """Largest fraction of them with an object."""
    region_overlap: Annotated[float, between(0, 1)] = 0.5
    """Least overlap of a proposal with its object; those with less are background."""
    background_overlap: Annotated[float, between(0, 1)] = 0.0
    """Least overlap with any object of a proposal that is sampled as background."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.anchor_background > self.anchor_overlap:
            raise ValueError(
                f"Expected `anchor_background` of at most `anchor_overlap`, {self.anchor_overlap}. Received: "
                f"{self.anchor_background}"
            )


def sampled_anchors(anchors: Any, boxes: Any, labels: Any, keys: Any, rules: SamplingRules) -> tuple[Sample, Any]:
    """Returns the anchors of each image that are trained on, and the encoded object of each.

    Args:
        anchors: All anchors (A, 4).
        boxes: Objects of each image (N, G, 4).
        labels: Their classes, 0 for padding (N, G).
        keys: Random numbers, from `random_keys`, (N, A).
        rules: Numbers and thresholds.

    Returns:
        The sample, and float32 (N, sampled, 4), 0 for background.
    """
    matches = match(
        pairwise_iou(anchors[None], boxes),
        labels > 0,
        rules.anchor_overlap,
        rules.anchor_background,
        best_of_objects=True,
    )
    kind = ops.where(matches >= 0, 1, ops.where(matches == BACKGROUND, 0, -1))
    sample = balanced_sample(kind, rules.anchors, rules.positive_anchors, keys)
    chosen = ops.take(ops.convert_to_tensor(anchors), sample.indices, axis=0)
    return sample, _encoded(chosen, _matched(matches, boxes, sample), sample.positive > 0)


def sampled_regions(
    proposals: Any, valid: Any, boxes: Any, labels: Any, keys: Any, rules: SamplingRules, weights: Weights
) -> tuple[Sample, Any, Any, Any]:
    """Returns the proposals of each image that are trained on, and the class and the encoded object of each.

    The objects themselves are among the proposals, as in torchvision and py-faster-rcnn.

    Args:
        proposals: Proposals of each image (N, R, 4).
        valid: Whether a proposal is one, and not padding, bool (N, R).
        boxes: Objects of each image (N, G, 4).
        labels: Their classes, 0 for padding (N, G).
        keys: Random numbers, from `random_keys`, (N, R + G).
        rules: Numbers and thresholds.
        weights: Weights of the encoded boxes.

    Returns:
        The sample; its boxes, float32 (N, sampled, 4); classes, 0 for background, int32 (N, sampled); encoded objects,
        float32 (N, sampled, 4), 0 for background.
    """
    boxes = ops.cast(boxes, "float32")
    candidates = ops.stop_gradient(ops.concatenate([ops.cast(proposals, "float32"), boxes], 1))
    is_object = labels > 0
    candidate = ops.concatenate([ops.cast(valid, "bool"), is_object], 1)
    iou = pairwise_iou(candidates, boxes)
    matches = match(iou, is_object, rules.region_overlap, rules.region_overlap)
    classes = ops.take_along_axis(ops.cast(labels, "int32"), ops.maximum(matches, 0), axis=1)
    classes = ops.where(matches >= 0, classes, 0)
    if rules.background_overlap:
        most = ops.max(ops.where(is_object[:, None], iou, 0.0), axis=-1)
        some = ops.any(is_object, axis=1, keepdims=True)  # in an image without objects all are background
        near = ops.logical_or(most >= rules.background_overlap, ops.logical_not(some))
        classes = ops.where(ops.logical_or(classes > 0, near), classes, -1)
    classes = ops.where(candidate, classes, -1)
    sample = balanced_sample(classes, rules.regions, rules.positive_regions, keys)
    chosen = ops.take_along_axis(candidates, sample.indices[..., None], axis=1)
    found = ops.take_along_axis(classes, sample.indices, axis=1)
    found = ops.where(sample.positive > 0, found, 0)
    return sample, chosen, found, _encoded(chosen, _matched(matches, boxes, sample), found > 0, weights)


def _matched(matches: Any, boxes: Any, sample: Sample) -> Any:
    """Returns the object of each that is sampled, (N, sampled, 4); of background any."""
    own = ops.maximum(ops.take_along_axis(matches, sample.indices, axis=1), 0)
    return ops.take_along_axis(ops.cast(boxes, "float32"), own[..., None], axis=1)


def _encoded(references: Any, objects: Any, positive: Any, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Any:
    """Returns the encoded objects, 0 where there is none: what has no area would not be finite."""
    unit = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
    references, objects = (ops.where(positive[..., None], each, unit) for each in (references, objects))
    return ops.stop_gradient(encode(objects, references, weights))
