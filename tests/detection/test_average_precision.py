"""Average precision: every rule by hand, and COCO's numbers against pycocotools."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from resnet_keras.detection.average_precision import (
    FoundBoxes,
    coco_average_precision,
    pairwise_iou,
    voc_average_precision,
)
from resnet_keras.detection.box_split import BoxExample, BoxSplit
from resnet_keras.detection.coco_files import open_coco

UNIT = [0.0, 0.0, 10.0, 10.0]


def image(boxes: list, labels: list | None = None, *, difficult: list | None = None) -> BoxExample:
    found = np.array(boxes, float).reshape(-1, 4)
    count = len(found)
    return BoxExample(
        Path("a.jpg"),
        100,
        100,
        found,
        np.array(labels or [0] * count, np.int64),
        np.array(difficult or [False] * count, bool),
        np.zeros(count, bool),
        (found[:, 2:] - found[:, :2]).prod(1),
        "a",
    )


def detected(boxes: list, scores: list, labels: list | None = None) -> FoundBoxes:
    labels = labels or [0] * len(scores)
    return FoundBoxes(np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, int))


def one_class(*examples: BoxExample) -> BoxSplit:
    return BoxSplit(examples, ("thing",))


def shifted(by: float) -> list[float]:
    return [by, 0.0, 10.0 + by, 10.0]


def both_years(split: BoxSplit, found: list[FoundBoxes]) -> list[float]:
    return [voc_average_precision(split, found, year=year).mean_ap for year in (2007, 2010)]


def test_iou_of_boxes() -> None:
    boxes = np.array([UNIT, shifted(5), [0, 0, 10, 5]])
    np.testing.assert_allclose(pairwise_iou(boxes, boxes[:1])[:, 0], [1, 1 / 3, 0.5])


def test_a_perfect_detection_has_1_and_a_missing_one_0() -> None:
    split = one_class(image([UNIT]))
    assert both_years(split, [detected([UNIT], [0.3])]) == [1, 1]
    assert both_years(split, [detected([], [])]) == [0, 0]


def test_an_iou_of_exactly_the_threshold_is_right() -> None:
    split = one_class(image([UNIT]))
    assert both_years(split, [detected([[0, 0, 10, 5]], [0.3])]) == [1, 1]
    assert both_years(split, [detected([[0, 0, 10, 4.99]], [0.3])]) == [0, 0]


def test_a_duplicate_is_wrong() -> None:
    split = one_class(image([UNIT, [50, 50, 60, 60]]))
    boxes = [UNIT, UNIT, [50, 50, 60, 60]]
    # Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: six of eleven points have 1, five have 2/3.
    expected = [(6 + 5 * 2 / 3) / 11, 0.5 + 0.5 * 2 / 3]
    np.testing.assert_allclose(both_years(split, [detected(boxes, [0.9, 0.8, 0.7])]), expected)


def test_a_detection_is_compared_with_the_best_object_even_if_it_is_taken() -> None:
    # The second detection overlaps both objects by at least half, the first one more, which is taken: COCO would give
    # it the other object, VOC does not.
    split = one_class(image([UNIT, shifted(4)]))
    found = [detected([UNIT, shifted(1)], [0.9, 0.8])]
    assert voc_average_precision(split, found, year=2010).mean_ap == pytest.approx(0.5)
    assert coco_average_precision(split, found).ap50 == pytest.approx(1.0, abs=1e-9)


def test_difficult_objects_count_neither_way() -> None:
    split = one_class(image([UNIT, [50, 50, 60, 60]], difficult=[False, True]))
    found = [detected([[50, 50, 60, 60], [50, 50, 60, 60], UNIT], [0.9, 0.8, 0.7])]
    assert both_years(split, found) == [1, 1]
    assert coco_average_precision(split, found).ap50 == pytest.approx(1.0, abs=1e-9)


def test_equal_scores_keep_the_order_of_the_images() -> None:
    split = one_class(image([UNIT]), image([]))
    right, wrong = detected([UNIT], [0.5]), detected([UNIT], [0.5])
    assert both_years(split, [right, wrong]) == [1, 1]
    assert both_years(one_class(image([]), image([UNIT])), [wrong, right]) == [0.5, 0.5]


def test_detections_of_another_class_or_image_are_wrong() -> None:
    split = BoxSplit((image([UNIT], [0]), image([UNIT], [1])), ("a", "b", "c"))
    found = [detected([UNIT], [0.9], [1]), detected([UNIT], [0.8], [1])]
    result = voc_average_precision(split, found, year=2010)
    assert result.class_ap == {"a": 0.0, "b": 0.5, "c": None}
    assert result.mean_ap == 0.25


def test_points_of_recall_hit_whole_fractions() -> None:
    # 3 of 10 objects: recalls of 0, 0.1, 0.2, and 0.3 have a precision of 1, the others 0.
    split = one_class(image([[10 * i, 0, 10 * i + 9, 9] for i in range(10)]))
    found = [detected([[10 * i, 0, 10 * i + 9, 9] for i in range(3)], [0.9, 0.8, 0.7])]
    np.testing.assert_allclose(both_years(split, found), [4 / 11, 0.3])


def test_wrong_numbers_are_refused() -> None:
    split = one_class(image([UNIT]))
    with pytest.raises(ValueError, match="detections of 1 images. Received: those of 0"):
        voc_average_precision(split, [])
    with pytest.raises(ValueError, match="without any"):
        coco_average_precision(one_class(image([])), [detected([], [])])
    with pytest.raises(ValueError, match="scores"):
        voc_average_precision(split, [FoundBoxes(np.zeros((2, 4)), np.zeros(1), np.zeros(2))])


def randomly_detected(split: BoxSplit, seed: int) -> list[FoundBoxes]:
    """Objects moved a little, twice, and boxes at random."""
    random, found = np.random.default_rng(seed), []
    for example in split.examples:
        boxes = np.repeat(example.boxes, 2, axis=0)
        boxes = boxes + random.normal(0, 0.1, boxes.shape) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        corners = random.uniform(0, 300, (20, 2))
        boxes = np.concatenate([boxes, np.concatenate([corners, corners + random.uniform(1, 200, (20, 2))], 1)])
        labels = np.concatenate([np.repeat(example.labels, 2), random.integers(0, len(split.class_names), 20)])
        found.append(FoundBoxes(boxes, random.integers(1, 50, len(boxes)) / 50, labels))
    return found


def by_pycocotools(content: dict, found: list[dict]) -> np.ndarray:
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = content
        truth.createIndex()
        judge = evaluation.COCOeval(truth, truth.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


def as_results(split: BoxSplit, found: list[FoundBoxes]) -> list[dict]:
    return [
        {
            "image_id": example.identity,
            "category_id": split.category_ids[label],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": score,
        }
        for example, each in zip(split.examples, found, strict=True)
        for box, score, label in zip(each.boxes.tolist(), each.scores.tolist(), each.labels, strict=True)
    ]


def random_split(seed: int) -> BoxSplit:
    """Images of small, medium, and large objects, some of which are crowds."""
    random, examples = np.random.default_rng(seed), []
    for number in range(12):
        count = int(random.integers(0, 9))
        corners = random.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corners, corners + np.exp(random.uniform(1, 5.5, (count, 2)))], 1)
        crowd = random.random(count) < 0.15
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * random.uniform(0.4, 1, count)
        labels = random.integers(0, 4, count)
        examples.append(
            BoxExample(Path("a.jpg"), 600, 600, boxes, labels, np.zeros(count, bool), crowd, areas, number + 5)
        )
    return BoxSplit(tuple(examples), ("a", "b", "c", "d", "never"))


def content_of(split: BoxSplit) -> dict:
    return {
        "images": [{"id": example.identity, "height": 600, "width": 600} for example in split.examples],
        "categories": [{"id": number, "name": name} for number, name in enumerate(split.class_names, 1)],
        "annotations": [
            {
                "id": 1000 * int(example.identity) + index + 1,
                "image_id": example.identity,
                "category_id": int(label) + 1,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": area,
                "iscrowd": int(crowd),
            }
            for example in split.examples
            for index, (box, label, area, crowd) in enumerate(
                zip(example.boxes.tolist(), example.labels, example.areas.tolist(), example.crowd, strict=True)
            )
        ],
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_twelve_numbers_are_those_of_pycocotools(seed: int) -> None:
    split = random_split(seed)
    found = randomly_detected(split, seed)
    result = coco_average_precision(split, found)
    numbers = [value for name, value in vars(result).items() if name != "class_ap"]
    judged = by_pycocotools(content_of(split), as_results(split, found))
    assert len(numbers) == 12
    np.testing.assert_allclose(numbers, judged, rtol=0, atol=1e-9)
    assert 0.05 < result.ap < 0.95
    assert result.class_ap["never"] is None
    known = [value for value in result.class_ap.values() if value is not None]
    assert np.mean(known) == pytest.approx(result.ap, abs=1e-12)


def test_the_twelve_numbers_on_coco_are_those_of_pycocotools(test_data: Path) -> None:
    folder = test_data / "detection" / "coco"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    split = open_coco(folder, "val2017")
    found = randomly_detected(split, 3)
    result = coco_average_precision(split, found)
    content = json.loads((folder / "annotations/instances_val2017.json").read_text())
    judged = by_pycocotools(content, as_results(split, found))
    numbers = [value for name, value in vars(result).items() if name != "class_ap"]
    np.testing.assert_allclose(numbers, judged, rtol=0, atol=1e-9)
    assert 0.05 < result.ap < 0.95
