"""Results of runs, and how they are read: a kind for each task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from types import NoneType
from typing import Any, TypeAlias

from resnet_keras.detection.localization_measures import LocalizationResult
from resnet_keras.detection.results import DetectionResult
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.segmentation.measures import SegmentationResult

Result: TypeAlias = Evaluation | SegmentationResult | DetectionResult | LocalizationResult
"""What a finished run comes to: measures of the trained network on the test images."""

MEASURES: dict[type[Result], dict[str, str]] = {
    Evaluation: {"top1_error": "top-1 error", "mirrored_top1_error": "with mirrored images"},
    SegmentationResult: {"mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"},
    LocalizationResult: {"localization_top5_error": "top-5 localization error", "top1_error": "top-1 error"},
    DetectionResult: {"ap": "AP", "ap50": "AP50", "voc2007_ap": "VOC 2007 AP"},
}
"""The measures of each kind of result, fractions, that tables of runs have; and their titles."""


def read_result(content: Any) -> Result:
    """Returns the result that a run has written, of the kind that its names tell.

    Args:
        content: A result as JSON, an object of its fields.

    Raises:
        TypeError: The content is not a result.
    """
    if not isinstance(content, dict):
        raise TypeError(f"{content!r:.200}")
    kinds = [kind for kind in MEASURES if {field.name for field in fields(kind)} == content.keys()]
    result = (kinds or [Evaluation])[0](**content)
    if not all(isinstance(value, (int, float, NoneType)) for value in _values(content)):
        raise TypeError(f"{result!r:.200}")
    return result


def _values(content: dict[str, Any]) -> Iterator[Any]:
    for value in content.values():
        if isinstance(value, dict):
            yield from _values(value)
        else:
            yield value
