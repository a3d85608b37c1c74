"""Average precision of detections: the twelve numbers of COCO, and PASCAL VOC's of 2007 and of 2010."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from resnet_keras.checks import extras
from resnet_keras.detection.box_split import BoxSplit

VocYear = Literal[2007, 2010]


class FoundBoxes(NamedTuple):
    """Detections in one image, in any order.

    Attributes:
        boxes: Left, top, right, and bottom edge in pixels of the image, (N, 4).
        scores: Score of each box, (N,).
        labels: Class of each box, an index of the class names without background, (N,).
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class CocoResult:
    """The twelve numbers of COCO's evaluation, each from 0 to 1; `None` where no object counts.

    Attributes:
        ap: Mean of average precision over the classes and IoU thresholds of 0.5, 0.55, ..., 0.95.
        ap50: Mean over the classes at a threshold of 0.5.
        ap75: Likewise at 0.75.
        ap_small: Likewise to `ap`, of objects below 32x32 pixels.
        ap_medium: Of objects from there to 96x96 pixels.
        ap_large: Of larger objects.
        ar1: Mean recall over classes and thresholds with the best detection of each image and class.
        ar10: With the best 10.
        ar100: With the best 100.
        ar_small: Likewise to `ar100`, of small objects.
        ar_medium: Of medium ones.
        ar_large: Of large ones.
        class_ap: `ap` of each class by its name; `None` for a class without objects.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    class_ap: dict[str, float | None]


@dataclass(frozen=True)
class VocResult:
    """Average precision as PASCAL VOC computes it.

    Attributes:
        mean_ap: Mean over the classes that have objects, 0 to 1.
        class_ap: Average precision of each class by its name; `None` for a class without objects that count.
    """

    mean_ap: float
    class_ap: dict[str, float | None]


def coco_average_precision(split: BoxSplit, found: Sequence[FoundBoxes]) -> CocoResult:
    """Returns COCO's twelve numbers, by faster-coco-eval, which computes what pycocotools does.

    Crowds and, where there are any, VOC's difficult objects count neither for nor against detections.

    Args:
        split: Images with boxes.
        found: Detections in each of them, in the same order.

    Raises:
        ValueError: There are more or fewer images, or no object counts.
        MissingExtra: faster-coco-eval is not installed.
    """
    with extras.required("detection", "COCO's average precision"):
        from faster_coco_eval import COCO, COCOeval_faster

    _check_detections(split, found)
    truth = COCO(_truth(split), print_function=_quiet)
    evaluation = COCOeval_faster(truth, truth.loadRes(_results(found)), "bbox", print_function=_quiet)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    numbers = [_measured(value) for value in np.asarray(evaluation.stats, np.float64)[:12]]
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]  # thresholds, recalls, classes
    class_ap = {
        name: _measured(float(each.mean()) if (each := precision[:, :, k])[0, 0] > -1 else -1.0)
        for k, name in enumerate(split.class_names)
    }
    names = [each.name for each in fields(CocoResult)][:12]
    return CocoResult(**dict(zip(names, numbers, strict=True)), class_ap=class_ap)


def voc_average_precision(
    split: BoxSplit, found: Sequence[FoundBoxes], *, year: VocYear = 2007, threshold: float = 0.5
) -> VocResult:
    """Returns the average precision of PASCAL VOC (development kit, section 3.4.1).

    Detections of a class are taken by falling score. Each is compared with the object of its image and class whose IoU
    is the largest, whether that object is found already or not: from `threshold` on it is right if the object is not
    found yet, and wrong if it is, or if its IoU is smaller. A detection of a difficult object is neither, and difficult
    objects and crowds do not count in recall.

    Args:
        split: Images with boxes.
        found: Detections in each of them, in the same order.
        year: 2007 is the mean of the largest precision at recalls of at least 0, 0.1, ..., 1; 2010 and later the area
            under the curve of precision, made to fall.
        threshold: Smallest IoU of a right detection.

    Raises:
        ValueError: There are more or fewer images, or no object counts.
    """
    _check_detections(split, found)
    class_ap = {
        name: _class_average_precision(split, found, label, year, threshold)
        for label, name in enumerate(split.class_names)
    }
    return VocResult(float(np.mean([ap for ap in class_ap.values() if ap is not None])), class_ap)


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of each box with each other one: (N, 4), (M, 4) -> (N, M)."""
    sides = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas, other_areas = (np.prod(each[:, 2:] - each[:, :2], axis=-1) for each in (boxes, others))
    return common / np.maximum(areas[:, None] + other_areas[None] - common, np.finfo(np.float64).tiny)


def _class_average_precision(
    split: BoxSplit, found: Sequence[FoundBoxes], label: int, year: VocYear, threshold: float
) -> float | None:
    objects = 0
    scores: list[float] = []
    overlap: list[float] = []
    best: list[tuple[int, int]] = []  # image and object
    counted: list[np.ndarray] = []
    for index, (example, detections) in enumerate(zip(split.examples, found, strict=True)):
        own, boxes = example.labels == label, np.asarray(detections.labels) == label
        counted.append(example.trained[own])
        objects += int(counted[-1].sum())
        iou = pairwise_iou(np.asarray(detections.boxes, np.float64)[boxes], example.boxes[own])
        scores.extend(np.asarray(detections.scores)[boxes].tolist())
        overlap.extend(iou.max(1, initial=0.0).tolist())
        best.extend((index, int(each.argmax()) if own.any() else -1) for each in iou)
    if not objects:
        return None
    taken: set[tuple[int, int]] = set()
    right: list[bool] = []
    for each in np.argsort(-np.asarray(scores), kind="stable"):
        image, place = best[each]
        hit = place >= 0 and overlap[each] >= threshold
        if hit and not counted[image][place]:
            continue
        right.append(hit and (image, place) not in taken)
        taken.add((image, place))
    true = np.cumsum(right, dtype=np.float64)
    return _area(true / objects, true / np.arange(1, len(right) + 1), year)


def _area(recall: np.ndarray, precision: np.ndarray, year: VocYear) -> float:
    if year == 2007:
        points = np.linspace(0, 1, 11)
        # A recall of 0.3 is that of 3 of 10, whatever the last bit of either says.
        return float(np.mean([precision[recall >= point - 1e-9].max(initial=0.0) for point in points]))
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))


def _check_detections(split: BoxSplit, found: Sequence[FoundBoxes]) -> None:
    if len(found) != len(split):
        raise ValueError(f"Expected the detections of {len(split)} images. Received: those of {len(found)}")
    if not split.boxes:
        raise ValueError(f"Expected images with objects that count. Received: {len(split)} images, without any")
    for example, each in zip(split.examples, found, strict=True):
        sizes = [np.asarray(part).shape for part in each]
        if sizes[0][1:] != (4,) or not sizes[0][:1] == sizes[1] == sizes[2]:
            raise ValueError(
                f"Expected boxes (N, 4), scores (N,), and labels (N,) for {example.image}. Received: {sizes}"
            )


def _truth(split: BoxSplit) -> dict[str, Any]:
    """Returns the boxes as COCO's JSON has them; images and classes are numbered from 1."""
    annotations: list[dict[str, Any]] = []
    for index, example in enumerate(split.examples, 1):
        ignored = example.crowd | example.difficult
        for (left, top, right, bottom), label, crowd, area in zip(
            example.boxes.tolist(), example.labels.tolist(), ignored.tolist(), example.areas.tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": label + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    sizes = [(example.height, example.width) for example in split.examples]
    return {
        "images": [{"id": index, "height": size[0], "width": size[1]} for index, size in enumerate(sizes, 1)],
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(split.class_names, 1)],
    }


def _results(found: Sequence[FoundBoxes]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": index,
            "category_id": int(label) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "score": float(score),
        }
        for index, each in enumerate(found, 1)
        for (left, top, right, bottom), score, label in zip(
            np.asarray(each.boxes, np.float64).tolist(), each.scores, each.labels, strict=True
        )
    ]


def _measured(value: float) -> float | None:
    return None if value < 0 else float(value)


def _quiet(*_: Any) -> None:
    pass
