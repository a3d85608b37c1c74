"""Batches of images and boxes: canvas, order, mirroring, padding."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.box_folders import VocFolder
from PIL import Image

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.box_input import (
    BoxAugmentation,
    box_batches,
    canvas_batches,
)
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.image_reading import explain_undecodable
from resnet_keras.detection.voc_files import open_voc

CANVAS = Preprocessing(image_size=(32, 48), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> BoxSplit:
    """Six images of 40x60, of 0 to 3 dogs and a cat."""
    folder = VocFolder(tmp_path_factory.mktemp("voc"))
    for count in range(6):
        boxes = [("dog", 5 + 10 * i, 9, 10 + 10 * i, 20 + i) for i in range(count % 4)]
        folder.add(f"{count}", [*boxes, ("cat", 1, 1, 30, 40)] if count == 5 else boxes)
    return open_voc(folder.root, "train")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((600, 960), (800, 1280)),
        ((480, 640), (800, 1066)),
        ((640, 480), (1066, 800)),
        ((500, 1000), (666, 1333)),
        ((1000, 10), (1333, 13)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_sizes_are_those_of_torchvision(size: tuple[int, int], expected: tuple[int, int]) -> None:
    scale = min(800 / min(size), 1333 / max(size))
    assert expected == tuple(max(int(side * scale), 1) for side in size)
    assert tuple(resized_size(tf.constant(size), (1344, 1344), (800, 1333)).numpy()) == expected


def test_an_image_fills_the_canvas_without_a_shorter_side() -> None:
    assert tuple(resized_size(tf.constant((40, 60)), (32, 48)).numpy()) == (32, 48)
    assert tuple(resized_size(tf.constant((60, 40)), (32, 48)).numpy()) == (32, 21)


def test_pixels_are_interpolated_without_antialiasing_and_padded_at_the_right_and_below() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 1::2] = 100
    placed = on_canvas(tf.constant(image), CANVAS.at((3, 4)), tf.constant((2, 2))).numpy()
    # Half the pixels: each is the mean of the two columns it lies between; antialiasing would weigh in a third one.
    np.testing.assert_array_equal(placed[..., 0], [[50, 50, 0, 0], [50, 50, 0, 0], [0, 0, 0, 0]])
    bright = Preprocessing(image_size=(2, 3), channels=3, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 5.0))
    placed = on_canvas(tf.fill((2, 2, 3), 60), bright, tf.constant((2, 2))).numpy()
    np.testing.assert_array_equal(placed[0], [[25, 10, 6], [25, 10, 6], [0, 0, 0]])


def test_boxes_are_resized_with_their_image_and_padded(split: BoxSplit) -> None:
    batches = list(box_batches(split, CANVAS, batch_size=2).as_numpy_iterator())
    assert len(batches) == 3
    images, targets = batches[0]
    assert images.shape == (2, 32, 48, 3)
    assert {name: (value.shape, value.dtype) for name, value in targets.items()} == {
        "boxes": ((2, 3, 4), np.float32),
        "labels": ((2, 3), np.int32),
        "sizes": ((2, 2), np.int32),
    }
    counts = sorted(int((labels > 0).sum()) for _, each in batches for labels in each["labels"])
    assert counts == [0, 0, 1, 2, 2, 3]
    seen = {tuple(box) for _, each in batches for box in each["boxes"].reshape(-1, 4).tolist() if box != [0, 0, 0, 0]}
    expected = {(4 + 10 * i, 8, 10 + 10 * i, 20 + i) for i in range(3)} | {(0, 0, 30, 40)}
    np.testing.assert_allclose(sorted(seen), 0.8 * np.array(sorted(expected)), rtol=1e-6)
    cats = [
        {(int(label), *box) for label, box in zip(labels, boxes.tolist(), strict=True)}
        for _, each in batches
        for labels, boxes in zip(each["labels"], each["boxes"], strict=True)
        if 1 in labels
    ]
    (found,) = cats
    expected = [(0, 0, 0, 0, 0), (1, 0, 0, 24, 32), (2, 3.2, 6.4, 8, 16)]  # padding, the cat, and the dog before it
    np.testing.assert_allclose(sorted(found), expected, rtol=1e-6)


def test_a_mirrored_image_has_its_boxes_mirrored(tmp_path: Path) -> None:
    folder = VocFolder(tmp_path)
    for name in map(str, range(16)):
        folder.add(name, [("dog", 11, 6, 20, 15)], size=(32, 48))
        pixels = np.zeros((32, 48, 3), np.uint8)
        pixels[5:15, 10:20] = 255
        Image.fromarray(pixels).save(tmp_path / "JPEGImages" / f"{name}.png")
        (tmp_path / "JPEGImages" / f"{name}.jpg").unlink()
    batches = box_batches(open_voc(tmp_path, "train"), CANVAS, BoxAugmentation(flip=True), batch_size=1)
    lefts = []
    for images, targets in batches.as_numpy_iterator():
        rows, columns = np.nonzero(images[0, :, :, 0] > 128)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(targets["boxes"][0, 0], found)
        lefts.append(found[0])
    assert set(lefts) == {10, 28}
    assert 3 <= lefts.count(28) <= 13


def test_a_run_that_resumes_sees_the_batches_that_are_left(split: BoxSplit) -> None:
    arguments = {"batch_size": 2, "epochs": 3, "seed": 7}
    random = BoxAugmentation(flip=True, shorter_side=(12, 32))
    whole = list(box_batches(split, CANVAS, random, **arguments).as_numpy_iterator())
    rest = list(box_batches(split, CANVAS, random, first_step=4, **arguments).as_numpy_iterator())
    assert (len(whole), len(rest)) == (9, 5)
    for (images, targets), (later_images, later_targets) in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(images, later_images)
        for name in targets:
            np.testing.assert_array_equal(targets[name], later_targets[name])
    sides = {int(each.min()) for _, targets in whole for each in targets["sizes"]}
    assert min(sides) >= 12
    assert len(sides) > 5
    first_epoch = [targets["labels"].sum() for _, targets in whole[:3]]
    assert sum(first_epoch) == sum(targets["labels"].sum() for _, targets in whole[3:6])


def test_each_epoch_has_an_order_of_its_own_and_leaves_others_out(tmp_path: Path) -> None:
    folder = VocFolder(tmp_path)
    for number in range(5):
        folder.add(str(number), [("dog", 1, 1, 9, 9)], size=(32, 48))
        Image.new("RGB", (48, 32), (number, 0, 0)).save(tmp_path / "JPEGImages" / f"{number}.png")
        (tmp_path / "JPEGImages" / f"{number}.jpg").unlink()
    batches = box_batches(open_voc(tmp_path, "train"), CANVAS, batch_size=2, epochs=8).as_numpy_iterator()
    seen = np.concatenate([images[:, 0, 0, 0] for images, _ in batches]).astype(int)
    epochs = [tuple(epoch) for epoch in seen.reshape(8, 4).tolist()]
    assert len(set(epochs[:3])) == 3
    assert all(len(set(epoch)) == 4 for epoch in epochs)
    assert set(seen.tolist()) == {0, 1, 2, 3, 4}


def test_the_rows_of_workers_are_the_batches_of_one_process(split: BoxSplit) -> None:
    arguments = {"batch_size": 2, "epochs": 2, "seed": 7, "first_step": 1}
    random = BoxAugmentation(flip=True, shorter_side=(12, 32))
    whole = list(box_batches(split, CANVAS, random, **arguments).as_numpy_iterator())
    for worker in range(2):
        rows = range(worker, worker + 1)
        own = list(box_batches(split, CANVAS, random, rows=rows, **arguments).as_numpy_iterator())
        assert len(own) == len(whole) == 5
        for (images, targets), (all_images, all_targets) in zip(own, whole, strict=True):
            np.testing.assert_array_equal(images, all_images[rows.start : rows.stop])
            for name in targets:
                np.testing.assert_array_equal(targets[name], all_targets[name][rows.start : rows.stop])


def test_of_many_boxes_some_are_drawn(split: BoxSplit) -> None:
    batches = box_batches(split, CANVAS, batch_size=6, epochs=8, most_boxes=2).as_numpy_iterator()
    drawn = [tuple(box) for _, each in batches for box in each["boxes"].reshape(-1, 4).tolist()]
    assert len({box for box in drawn if any(box)}) == 4


def test_every_image_is_evaluated_once_in_order(split: BoxSplit) -> None:
    batches = list(canvas_batches(split, CANVAS, 4, fit=(16, 48)))
    assert [len(batch.images) for batch in batches] == [4, 2]
    np.testing.assert_array_equal(batches[1].sizes, [[16, 24]] * 2)
    np.testing.assert_array_equal(batches[1].full_sizes, [[40, 60]] * 2)
    assert not batches[0].images[:, 16:].any()


def test_a_truncated_image_is_named_or_skipped(tmp_path: Path) -> None:
    folder = VocFolder(tmp_path)
    for name in ("whole", "cut"):
        folder.add(name, [("dog", 1, 1, 9, 9)], size=(200, 300))
    path = tmp_path / "JPEGImages" / "cut.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    split = open_voc(tmp_path, "train")
    with pytest.raises(ValueError, match="cut.jpg"), explain_undecodable(split):
        list(box_batches(split, CANVAS, batch_size=2))
    with pytest.raises(ValueError, match=r"cut.jpg"):
        list(canvas_batches(split, CANVAS, 2))
    kept = open_voc(tmp_path, "train", on_corrupt="skip")
    assert ([example.identity for example in kept.examples], kept.skipped_images) == (["whole"], 1)
    (tmp_path / "JPEGImages" / "whole.jpg").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"Received: none: all 2 are left out, the first because of: .*whole.jpg"):
        open_voc(tmp_path, "train", on_corrupt="skip")


def test_a_batch_of_more_images_than_there_are_is_refused(split: BoxSplit) -> None:
    with pytest.raises(ValueError, match="at most 6, the images. Received: 7"):
        box_batches(split, CANVAS, batch_size=7)
