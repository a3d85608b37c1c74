"""Images with boxes of TensorFlow Datasets: what a folder of the same images and boxes has, and refusals."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers.box_folders import VocFolder

from resnet_keras.data.opening import DataSource
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection import BoxSplit, box_batches, canvas_batches, open_part_of_boxes, open_voc
from resnet_keras.detection.image_reading import image_files, undecodable
from resnet_keras.detection.tfds_boxes import parts_of_boxes
from resnet_keras.exporting.detector_exporter import _test_images
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.runs.folder import RunFolder
from resnet_keras.training.box_data import BoxData
from resnet_keras.training.detection import open_training_boxes

CANVAS = Preprocessing(image_size=(32, 64), channels=3, mean=(0, 0, 0), std=(1, 1, 1))
NAMES = ("cat", "dog")
IMAGES = [
    ("000005", (40, 60), [("dog", 1, 1, 60, 40), ("cat", 7, 11, 23, 29)], False),
    ("000007", (50, 30), [("cat", 3, 5, 30, 44)], True),
    ("000009", (40, 60), [], False),
]


def prepare(root: Path, name: str, examples: list[dict], objects: dict, **more: object) -> None:
    """Writes a prepared set of one part per key of `examples`' part, as TensorFlow Datasets does."""
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(encoding_format="jpeg"), "objects": tfds.features.Sequence(objects), **more}
    )
    parts: dict[str, list] = {}
    for example in examples:
        parts.setdefault(str(example["part"]), []).append({k: v for k, v in example.items() if k != "part"})
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        data_dir=root,
        features=features,
        split_datasets={part: list(enumerate(rows)) for part, rows in parts.items()},
    )


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same images as a folder in VOC's layout, and as the set `voc` of TFDS."""
    folder, root = VocFolder(tmp_path_factory.mktemp("folder")), tmp_path_factory.mktemp("sets")
    examples = []
    for name, size, boxes, difficult in IMAGES:
        folder.add(name, boxes, size=size, part="train", difficult=difficult)
        height, width = size
        rows = [
            {
                "bbox": tfds.features.BBox(top / height, left / width, bottom / height, right / width),
                "label": kind,
                "is_difficult": difficult,
            }
            for kind, left, top, right, bottom in boxes
        ]
        image = str(folder.root / "JPEGImages" / f"{name}.jpg")
        for part in ("train", "test"):
            examples.append({"image": image, "image/filename": f"{name}.jpg", "objects": rows, "part": part})
    objects = {
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(names=NAMES),
        "is_difficult": np.bool_,
    }
    prepare(root, "voc", examples, objects, **{"image/filename": tfds.features.Text()})
    return folder.root, root


@pytest.fixture(scope="module")
def splits(voc: tuple[Path, Path]) -> tuple[BoxSplit, BoxSplit]:
    return open_voc(voc[0], "train"), open_part_of_boxes("voc", "train", DataSource(data_dir=voc[1]))


def by_identity(split: BoxSplit) -> dict:
    return {example.identity: example for example in split.examples}


def test_the_boxes_of_voc_are_those_of_its_folder(splits: tuple[BoxSplit, BoxSplit]) -> None:
    expected, found = splits
    assert found.class_names == expected.class_names == NAMES
    ours, theirs = by_identity(found), by_identity(expected)
    assert ours.keys() == theirs.keys()
    for name, example in theirs.items():
        own = ours[name]
        assert (own.height, own.width) == (example.height, example.width)
        for field in ("boxes", "labels", "difficult", "crowd", "areas"):
            np.testing.assert_allclose(getattr(own, field), getattr(example, field), err_msg=field)
        assert own.image == Path("voc/train", f"{name}.jpg")


def test_images_are_those_of_the_files(splits: tuple[BoxSplit, BoxSplit]) -> None:
    files, records = splits
    pixels = [
        dict(zip(by_identity(split), (batch.images[0] for batch in canvas_batches(split, CANVAS, 1)), strict=True))
        for split in splits
    ]
    for name, expected in pixels[0].items():
        np.testing.assert_array_equal(pixels[1][name], expected)
    contents = dict(zip(by_identity(records), image_files(records), strict=True))
    assert contents["000005"] == by_identity(files)["000005"].image.read_bytes()
    assert undecodable(records) == []
    ((images, found),) = box_batches(records, CANVAS, batch_size=3)
    assert images.shape == (3, 32, 64, 3)
    # The object of the second image is difficult, and not trained on.
    assert sorted(found["labels"].numpy().sum(1).tolist()) == [0, 0, 3]
    prints = [BoxData(each, each, None).fingerprint()["train"] for each in (records, files)]
    assert prints[0]["records"] != prints[1]["records"]
    assert prints[0] == BoxData(records, records, None).fingerprint()["train"]


def test_a_run_trains_and_tests_on_the_parts_of_a_set(voc: tuple[Path, Path]) -> None:
    train, test = open_training_boxes(DataSource(data_dir=voc[1]), "voc")
    assert (len(train), len(test), train.boxes) == (3, 3, 2)
    assert train.records is not None and test.records is not None
    assert (train.records.split, test.records.split) == ("train", "test")


def test_an_export_compares_on_the_test_part_of_the_set_of_its_run(voc: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = RECIPES["voc_frcnn_c4"].replace(dataset="voc")
    RunFolder(tmp_path).begin(recipe, {"data_dir": str(voc[1])})
    detector: Any = SimpleNamespace(class_names=NAMES)
    for data_dir in (None, voc[1]):
        part = _test_images(tmp_path, detector, data_dir)
        assert part.records is not None and part.records.split == "test"
        assert {each.identity for each in part.examples} == {name for name, *_ in IMAGES}
    (tmp_path / "x.keras").touch()
    with pytest.raises(FileNotFoundError, match="test"):
        _test_images(tmp_path / "x.keras", detector, voc[0])  # a folder without that part


def test_parts_are_joined_and_sliced_as_tfds_does(voc: tuple[Path, Path]) -> None:
    source = DataSource(data_dir=voc[1])
    assert len(open_part_of_boxes("voc", "train+test", source)) == 6
    part = open_part_of_boxes("voc", "test[1:]", source)
    assert [example.record for example in part.examples] == [0, 1]
    whole = dict(zip((each.identity for each in part.examples), image_files(part), strict=True))
    assert whole.keys() < {name for name, *_ in IMAGES}


def test_coco_has_crowds_areas_numbers_and_no_test_part(tmp_path: Path) -> None:
    image = tf.io.encode_jpeg(np.zeros((40, 60, 3), np.uint8)).numpy()
    (tmp_path / "a.jpg").write_bytes(image)
    rows = [
        {"bbox": tfds.features.BBox(0.25, 0.1, 0.5, 0.3), "label": "dog", "is_crowd": True, "area": 7},
        {"bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0), "label": "cat", "is_crowd": False, "area": 9},
    ]
    examples = [
        {"image": str(tmp_path / "a.jpg"), "image/id": 139, "objects": rows if part != "test" else [], "part": part}
        for part in ("train", "validation", "test")
    ]
    objects = {
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(names=NAMES),
        "is_crowd": np.bool_,
        "area": np.int64,
    }
    prepare(tmp_path, "coco", examples, objects, **{"image/id": np.int64})
    source = DataSource(data_dir=tmp_path)
    assert sorted(parts_of_boxes("coco", source)) == ["train", "trainval", "validation"]
    assert len(open_part_of_boxes("coco", "trainval", source)) == 2
    assert len(open_part_of_boxes("coco", "train", source)) == 1
    with pytest.raises(FileNotFoundError, match="Received: 'trainval"):
        open_part_of_boxes("coco", "trainval[:50%]", source)
    split = open_part_of_boxes("coco", "test", source, class_names=("dog", "cat"))
    (example,) = split.examples
    assert (example.identity, example.image) == (139, Path("coco/validation/0"))
    np.testing.assert_allclose(example.boxes, [[6, 10, 18, 20], [0, 0, 60, 40]])
    assert example.labels.tolist() == [0, 1]
    assert example.crowd.tolist() == [True, False]
    assert example.areas.tolist() == [7, 9]


def test_wrong_boxes_classes_and_sets_are_named(
    voc: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jpg").write_bytes(tf.io.encode_jpeg(np.zeros((40, 60, 3), np.uint8)).numpy())
    rows = [
        {"bbox": tfds.features.BBox(0.5, 0.1, 0.5, 0.3), "label": "dog"},
        {"bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0), "label": "cat"},
    ]
    examples = [{"image": str(tmp_path / "a.jpg"), "objects": rows, "part": part} for part in ("train", "test")]
    objects = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=NAMES)}
    prepare(tmp_path, "pets", examples, objects)
    source = DataSource(data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"boxes with an area. Received: .* of object 1 in pets/train/0"):
        open_part_of_boxes("pets", "train", source)
    with caplog.at_level(logging.WARNING):
        skipped = DataSource(data_dir=tmp_path, on_corrupt="skip")
        split = open_part_of_boxes("pets", "train", skipped, class_names=("dog", "cow"))
    assert (split.boxes, split.skipped_boxes) == (0, 2)
    assert "0 images and 2 boxes of pets/train are left out" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"Expected a part of voc with boxes, one of .* Received: 'validation'"):
        open_part_of_boxes("voc", "validation", DataSource(data_dir=voc[1]))
    with pytest.raises(FileNotFoundError, match="Expected the data set 'coco' under"):
        open_part_of_boxes("coco", "train", source)
