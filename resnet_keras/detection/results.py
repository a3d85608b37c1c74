"""Result of a detector on images with boxes: COCO's numbers and PASCAL VOC's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_keras.detection.average_precision import (
    CocoResult,
    FoundBoxes,
    coco_average_precision,
    voc_average_precision,
)
from resnet_keras.detection.box_split import BoxSplit


@dataclass(frozen=True)
class DetectionResult(CocoResult):
    """Result of a detector on images with boxes.

    Attributes:
        images: Number of images.
        objects: Number of objects that count.
        voc2007_ap: Mean average precision of PASCAL VOC 2007, over eleven points, at an IoU of 0.5.
        voc2010_ap: Mean average precision of PASCAL VOC from 2010 on, the area under the curve.
    """

    images: int
    objects: int
    voc2007_ap: float
    voc2010_ap: float

    def __str__(self) -> str:
        """Returns the main numbers in percent."""
        named = {"AP": self.ap, "AP50": self.ap50, "AP75": self.ap75, "VOC 2007 AP": self.voc2007_ap}
        numbers = ", ".join(f"{name} {value:.1%}" for name, value in named.items() if value is not None)
        return f"{numbers} on {self.images:,} images with {self.objects:,} objects"


def measure_detections(split: BoxSplit, found: Sequence[FoundBoxes]) -> DetectionResult:
    """Returns COCO's numbers and PASCAL VOC's of detections.

    Args:
        split: Images with boxes.
        found: Detections in each of them, in the same order.

    Raises:
        ValueError: There are more or fewer images, or no object counts.
        MissingExtra: faster-coco-eval is not installed.
    """
    coco = coco_average_precision(split, found)
    voc2007, voc2010 = (voc_average_precision(split, found, year=year).mean_ap for year in (2007, 2010))
    return DetectionResult(**vars(coco), images=len(split), objects=split.boxes, voc2007_ap=voc2007, voc2010_ap=voc2010)
