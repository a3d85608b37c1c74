"""Batches of views: every image once, in its place, whatever its shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import slow_evaluation as slow
from PIL import Image

from resnet_keras.data.datasets import Dataset
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import ArraySplit, FileSplit
from resnet_keras.evaluation import view_batches as module
from resnet_keras.evaluation.view_batches import view_batches
from resnet_keras.evaluation.views import Views

LARGE = Preprocessing(image_size=(16, 16), channels=3, mean=(120, 115, 100), std=(60, 61, 62), shorter_side=18)
SMALL = replace(LARGE, image_size=(10, 12), shorter_side=13, mean=(9, 8, 7), channel_order="bgr")
GREY = Preprocessing(image_size=(8, 8), channels=1, mean=(100,), std=(50,))

SHAPES = [(23, 31), (31, 23), (23, 31), (20, 20), (37, 19), (23, 31), (20, 20), (19, 40), (31, 23), (23, 31), (20, 20)]
PROTOCOLS = [
    Views(),
    Views(flip=True, scales=(17, 24)),
    Views(crops="ten"),
    Views(crops="full", scales=(12, 21)),
    Views(crops="full", scales=(15,), flip=True),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSplit:
    """Images of six shapes in three classes, JPEG and PNG, some of them gray."""
    folder = tmp_path_factory.mktemp("files")
    for index, (height, width) in enumerate(SHAPES):
        pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(pixels[..., 0] if index % 4 == 3 else pixels)
        (folder / f"class {index % 3}").mkdir(exist_ok=True)
        kinds = {0: ("jpg", {"quality": 95}), 1: ("png", {})}
        suffix, options = kinds[index % 2]
        image.save(folder / f"class {index % 3}" / f"{index:02}.{suffix}", **options)
    split = open_split("folder", "all", data_dir=folder)
    assert isinstance(split, FileSplit)
    return split


def arrays(count: int = 7, channels: int = 3) -> ArraySplit:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 20, 24, channels), np.uint8)
    names = ("a", "b", "c")
    return ArraySplit(images, rng.integers(0, 3, count), names, Dataset(source="package", channels=channels))


def slow_inputs(image: np.ndarray, chosen: Preprocessing, views: Views) -> list[np.ndarray]:
    return [
        np.stack([slow.normalized(crop, chosen) for crop in slow.crops_of(image, chosen, views, side)])
        for side in slow.shorter_sides(chosen, views)
    ]


def assert_every_image_once(split: Any, pictures: list[np.ndarray], members: list, views: Views, size: int) -> None:
    places: list[int] = []
    for batch in view_batches(split, members, views, size):
        inputs = [list(scales) for scales in batch.inputs]
        assert 1 <= len(batch.positions) <= max(1, size // views.count)
        assert batch.labels.tolist() == split.labels[batch.positions].tolist()
        places.extend(batch.positions)
        for row, place in enumerate(batch.positions):
            for chosen, scales in zip(members, inputs, strict=True):
                wanted = slow_inputs(pictures[place], chosen, views)
                for found, expected in zip(scales, wanted, strict=True):
                    assert found.dtype == np.float32
                    assert found.shape == (len(batch.positions), *expected.shape)
                    assert (np.abs(found[row] - expected) * chosen.std).max() < 2.01
    assert sorted(places) == list(range(len(pictures)))
    if views.crops != "full":
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("members", "size"),
    [
        pytest.param([LARGE], 3, marks=pytest.mark.slow),
        ([LARGE, SMALL], 1),
        pytest.param([LARGE, SMALL], 128, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("views", PROTOCOLS, ids=str)
def test_each_file_is_shown_once_to_each_classifier(files: FileSplit, views: Views, members: list, size: int) -> None:
    assert_every_image_once(files, [slow.read(path) for path in files.paths], members, views, size)


@pytest.mark.parametrize("views", PROTOCOLS, ids=str)
def test_each_array_is_shown_once_to_each_classifier(views: Views) -> None:
    split = arrays()
    assert_every_image_once(split, list(split.images), [LARGE, SMALL], views, 3)


@pytest.mark.parametrize("views", PROTOCOLS, ids=str)
def test_gray_arrays_are_shown_as_colors(views: Views) -> None:
    split = arrays(channels=1)
    assert_every_image_once(split, [np.repeat(image, 3, -1) for image in split.images], [LARGE], views, 4)


@pytest.mark.parametrize("views", [Views(), Views(crops="ten"), Views(crops="full", scales=(9,))], ids=str)
def test_gray_files_are_shown_in_gray(tmp_path: Path, views: Views) -> None:
    rng = np.random.default_rng(0)
    for index in range(5):
        (tmp_path / f"{index % 2}").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (11, 13), np.uint8)).save(tmp_path / f"{index % 2}" / f"{index}.png")
    split = open_split("folder", "all", data_dir=tmp_path)
    assert isinstance(split, FileSplit)
    assert_every_image_once(split, [slow.read(path, 1) for path in split.paths], [GREY], views, 2)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("views", [Views(), Views(crops="ten"), Views(crops="full", scales=(9,))], ids=str)
def test_each_classifier_is_shown_its_own_channels(views: Views, first: int) -> None:
    split = arrays(channels=1)
    members = [GREY, SMALL]
    members = [members[first], members[1 - first]]
    for batch in view_batches(split, members, views, 128):
        for chosen, scales in zip(members, batch.inputs, strict=True):
            for found in scales:
                wanted = np.repeat(split.images, chosen.channels, -1)
                for row, place in enumerate(batch.positions):
                    (expected,) = slow_inputs(wanted[place], chosen, views)
                    assert found[row].shape == expected.shape
                    assert (np.abs(found[row] - expected) * chosen.std).max() < 2.01


def test_full_images_are_in_full_batches_of_one_shape(files: FileSplit) -> None:
    shapes = [slow.read(path).shape[:2] for path in files.paths]
    batches = list(view_batches(files, [LARGE], Views(crops="full", scales=(12,)), 2))
    for batch in batches:
        assert len({shapes[place] for place in batch.positions}) == 1
    counts = {shape: shapes.count(shape) for shape in shapes}
    assert len(batches) == sum(-(-count // 2) for count in counts.values())


def test_views_of_full_images_are_made_one_scale_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int | None] = []
    original = Views.of

    def counted(self: Views, image: Any, preprocessing: Preprocessing, side: int | None) -> Any:
        made.append(side)
        return original(self, image, preprocessing, side)

    monkeypatch.setattr(Views, "of", counted)
    (batch,) = view_batches(arrays(), [LARGE, SMALL], Views(crops="full", scales=(12, 20)), 128)
    assert made == []
    for scales in batch.inputs:
        for wanted, _ in zip((12, 20), scales, strict=True):
            assert made[-1] == wanted
    assert made == [12, 20, 12, 20]


class Counted:
    """Images of a list that stands for a data set of TensorFlow, and how many of them have been asked for."""

    def __init__(self, shapes: list[tuple[int, int]]) -> None:
        self.shapes, self.taken = shapes, 0

    def prefetch(self, count: int) -> Counted:
        """Returns itself, which fetches nothing ahead."""
        return self

    def as_numpy_iterator(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yields each image, whose pixels are its number, and its label."""
        for index, shape in enumerate(self.shapes):
            self.taken += 1
            yield np.full((*shape, 3), index, np.uint8), index % 3


@pytest.mark.parametrize("limit", [1, 2, 8])
@pytest.mark.parametrize(("views", "size"), [(Views(crops="full"), 4), (Views(crops="full", flip=True), 8)])
def test_no_more_images_are_held_than_fill_a_few_batches(
    views: Views, size: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    shapes = [(8 + side, 9) for side in rng.integers(0, 30, 150).tolist()]
    source = Counted(shapes)
    monkeypatch.setattr(module, "_HELD_BATCHES", limit)
    monkeypatch.setattr(module, "whole_images", lambda split, channels: source)
    given: list[int] = []
    most = 0
    for batch in view_batches(arrays(), [LARGE], views, size):
        most = max(most, source.taken - len(given))
        assert 1 <= len(batch.positions) <= 4
        assert len({shapes[place] for place in batch.positions}) == 1
        assert batch.labels.tolist() == [place % 3 for place in batch.positions]
        given.extend(batch.positions)
    assert sorted(given) == list(range(150))
    assert most <= 4 * limit
    assert most >= 4


def test_images_of_many_shapes_are_each_shown_once_with_little_memory(
    files: FileSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HELD_BATCHES", 1)
    pictures = [slow.read(path) for path in files.paths]
    for size in (1, 2, 3):
        assert_every_image_once(files, pictures, [LARGE], Views(crops="full", scales=(12,)), size)
