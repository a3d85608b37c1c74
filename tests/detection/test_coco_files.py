"""Folders in COCO's layout, right and wrong ones."""

import json
import re
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from helpers.box_folders import write_coco

from resnet_keras.detection.coco_files import coco_parts, open_coco

RIGHT = {"category_id": 13, "bbox": [1.5, 2, 10, 20.25], "area": 77.5, "iscrowd": 0}


def test_numbers_with_holes_become_labels_without(tmp_path: Path) -> None:
    write_coco(tmp_path, [RIGHT, RIGHT | {"category_id": 90, "iscrowd": 1}])
    split = open_coco(tmp_path, "train")
    assert split.class_names == ("person", "stop sign", "toothbrush")
    assert split.category_ids == (1, 13, 90)
    first, empty = split.examples
    np.testing.assert_array_equal(first.boxes, [[1.5, 2, 11.5, 22.25]] * 2)
    np.testing.assert_array_equal(first.labels, [1, 2])
    np.testing.assert_array_equal(first.crowd, [False, True])
    np.testing.assert_array_equal(first.areas, [77.5, 77.5])
    assert first.identity == 7
    assert len(empty.boxes) == 0
    assert split.boxes == 1


WRONG = {
    "Expected boxes with an area. Received: 1, 2, 1, 9": {"bbox": [1, 2, 0, 7]},
    "inside their image of 40x60": {"bbox": [50, 2, 12, 7]},
    "Expected boxes of the classes person, stop sign, toothbrush. Received: '2'": {"category_id": 2},
    "Expected bbox of 4 numbers": {"bbox": [1, 2, "3", 4]},
    "Expected a number as area": {"area": -1},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_box_is_named_with_its_file_or_left_out(tmp_path: Path, message: str) -> None:
    file = write_coco(tmp_path, [RIGHT, RIGHT | WRONG[message]])
    with pytest.raises(ValueError, match="annotation 2 of 000000000007.jpg in") as error:
        open_coco(tmp_path, "train2017")
    assert message in str(error.value)
    assert str(file) in str(error.value)
    split = open_coco(tmp_path, "train2017", on_corrupt="skip")
    assert (split.skipped_boxes, split.boxes) == (1, 1)


def test_wrong_images_are_named_or_left_out(tmp_path: Path) -> None:
    file = write_coco(tmp_path, [RIGHT])
    content = json.loads(file.read_text())
    wrong = {
        "000000000009.jpg": {"height": 41},
        "no such file": {"file_name": "none.jpg"},
        "id and file_name": {"file_name": "../../annotations/instances_train2017.json"},
        "height and width": {"height": "40"},
    }
    for message, change in wrong.items():
        images = [content["images"][0], content["images"][1] | change]
        file.write_text(json.dumps(content | {"images": images}))
        with pytest.raises(ValueError, match=message):
            open_coco(tmp_path, "train2017")
        split = open_coco(tmp_path, "train2017", on_corrupt="skip")
        assert (split.skipped_images, len(split)) == (1, 1)


def test_what_is_not_a_file_of_coco_is_refused(tmp_path: Path) -> None:
    file = write_coco(tmp_path, [RIGHT])
    good = json.loads(file.read_text())
    cases = {
        "an object with the lists": "[]",
        "NaN is no number of JSON": json.dumps(good).replace("77.5", "NaN"),
        "Expected COCO's JSON": "[" * 100_000,
        "different numbers": json.dumps(good | {"categories": [{"id": 1, "name": "a"}] * 2}),
        "Expected categories. Received: none": json.dumps(good | {"categories": []}),
        "image 8 of number 0": json.dumps(good | {"annotations": [RIGHT | {"image_id": 8}]}),
    }
    for message, text in cases.items():
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            open_coco(tmp_path, "train2017")


NESTED = "[" * 900 + "]" * 900


@pytest.mark.parametrize("value", [NESTED, "9" * 4000, json.dumps("x" * 10**5), "1e999", "-1", "null", '{"a": [1]}'])
@pytest.mark.parametrize("on_corrupt", ["raise", "skip"])
def test_a_hostile_value_is_a_short_error_or_left_out(
    tmp_path: Path, value: str, on_corrupt: Literal["raise", "skip"]
) -> None:
    file = write_coco(tmp_path, [RIGHT | {"x": 1}])
    for place in ("image_id", "category_id", "bbox", "area", "id", "file_name", "height", "name"):
        text = re.sub(rf'("{place}": )("[^"]*"|\[.*?\]|[^,}}]+)', rf"\g<1>{value}", file.read_text())
        assert value[:50] in text
        root = tmp_path / place
        (root / "annotations").mkdir(parents=True)
        (root / "annotations" / file.name).write_text(text)
        (root / "train2017").symlink_to(tmp_path / "train2017")
        try:
            open_coco(root, "train2017", on_corrupt=on_corrupt)
        except ValueError as error:
            assert str(error).startswith("Expected ")
            assert len(str(error)) < 700


def test_the_time_of_many_classes_images_and_wrong_boxes_grows_with_their_number(tmp_path: Path) -> None:
    classes = [{"id": number, "name": f"class {number}"} for number in range(20_000)]
    right = [RIGHT | {"category_id": 19_999} for _ in range(20_000)]
    wrong = [RIGHT | {"category_id": 20_000 + number} for number in range(20_000)]
    write_coco(tmp_path, right + wrong, categories=classes)
    begun = time.process_time()
    split = open_coco(tmp_path, "train2017", on_corrupt="skip")
    assert (len(split.examples[0].labels), split.skipped_boxes) == (20_000, 20_000)
    assert time.process_time() - begun < 5  # 0.6 where nothing else runs; hours if each looked at all classes


def test_a_folder_by_part_is_known_too(tmp_path: Path) -> None:
    write_coco(tmp_path, [RIGHT])
    (tmp_path / "annotations/instances_train2017.json").rename(tmp_path / "train2017/_annotations.coco.json")
    assert list(coco_parts(tmp_path)) == ["train2017"]
    assert len(open_coco(tmp_path, "train2017")) == 2


def test_coco_itself_is_whole(test_data: Path) -> None:
    folder = test_data / "detection" / "coco"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    splits = [open_coco(folder, part) for part in ("train2017", "val2017")]
    assert [len(split) for split in splits] == [100, 120]
    assert [sum(len(example.boxes) for example in split.examples) for split in splits] == [757, 1022]
    assert [sum(int(example.crowd.sum()) for example in split.examples) for split in splits] == [6, 9]
    assert (len(splits[0].class_names), splits[0].category_ids[-1]) == (80, 90)
