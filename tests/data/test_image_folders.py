"""Folders of images as people have them: layouts of archives, parts, hidden files, names of classes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_keras.data.datasets import dataset
from resnet_keras.data.image_checks import report_turned_images
from resnet_keras.data.image_files import files_below
from resnet_keras.data.image_folders import PARTS, class_files, has_validation
from resnet_keras.data.opening import open_split
from resnet_keras.data.splits import FileSplit


def write(root: Path, *names: str) -> None:
    """Writes a small image under each name below the root."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (len(name), 0, 0)).save(root / name, "PNG")


def write_classes(root: Path, count: int, *classes: str) -> None:
    write(root, *(f"{name}/{i:02d}.png" for name in classes for i in range(count)))


def found(root: Path, split: str) -> set[str]:
    """Returns the paths of a part below the root."""
    return {str(path.relative_to(root)) for paths in class_files(root, split).values() for path in paths}


# What is an image --------------------------------------------------------------------------------------------------

HIDDEN = (
    "._cat.png",  # of a Mac
    ".ipynb_checkpoints/1-checkpoint.png",  # of Jupyter
    "@eaDir/1.png/SYNOPHOTO_THUMB_M.png",  # of a file server
    "__MACOSX/1.png",
    ".git/1.png",
    "$RECYCLE.BIN/1.png",
)


def test_hidden_files_and_folders_are_no_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write(tmp_path, "1.png", "night/2.png", *HIDDEN)
    assert files_below(tmp_path) == [tmp_path / "1.png", tmp_path / "night" / "2.png"]
    assert [message.partition(" (images")[0] for message in caplog.messages] == [
        f"6 files below {tmp_path} passed over: 5 in a hidden folder, 1 hidden"
    ]


def test_hidden_folders_are_no_classes_and_no_images_of_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path, 20, "a", "b")
    everything = found(tmp_path, "all")
    write(tmp_path, *HIDDEN, *(f"a/{name}" for name in HIDDEN))
    assert found(tmp_path, "train") | found(tmp_path, "test") == everything
    assert list(class_files(tmp_path, "train")) == ["a", "b"]


def test_files_that_are_passed_over_are_counted_by_their_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_classes(tmp_path / "train", 1, "a", "b")
    for name in ("train/a/x.txt", "train/b/y.TXT", "train/b/photo.heic", "train/b/README"):
        (tmp_path / name).touch()
    for _ in range(2):  # said once
        class_files(tmp_path, "train")
    (said,) = caplog.messages
    assert said.startswith(f"4 files below {tmp_path / 'train'} passed over: 2 .txt, 1 .heic, 1 without a suffix (")
    assert ".webp" in said


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tiff", ".avif"])
def test_an_image_is_found_by_its_suffix_in_any_case(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, f"1{suffix}")
    assert files_below(tmp_path) == [tmp_path / f"1{suffix}"]


@pytest.mark.parametrize("name", [b"a/caf\xe9.png", b"caf\xe9/1.png"])
def test_a_name_that_is_not_utf_8_is_refused_and_shown(tmp_path: Path, name: bytes) -> None:
    write_classes(tmp_path, 3, "a", "b")
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        shutil.copy(tmp_path / "b" / "00.png", path)
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(ValueError, match=r"UTF-8.*Received: b'.*caf\\xe9"):
        class_files(tmp_path, "train")


# Layouts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["train", "Train", "training_set", "TRAINING"])
@pytest.mark.parametrize("test", ["test", "Testing", "test_set", "valid"])
@pytest.mark.parametrize("around", ["", "archive/dogs_and_cats/"])
def test_common_layouts_are_recognized(tmp_path: Path, train: str, test: str, around: str) -> None:
    write_classes(tmp_path / around / train, 3, "cat", "dog")
    write_classes(tmp_path / around / test, 2, "cat", "dog")
    assert found(tmp_path, "train") == {f"{around}{train}/{c}/{i:02d}.png" for c in ("cat", "dog") for i in range(3)}
    assert found(tmp_path, "test") == {f"{around}{test}/{c}/{i:02d}.png" for c in ("cat", "dog") for i in range(2)}


def test_class_folders_may_be_one_folder_deeper(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_classes(tmp_path / "images", 10, "cat", "dog")
    assert list(class_files(tmp_path, "train")) == ["cat", "dog"]
    assert f"the images are those of {tmp_path / 'images'}" in caplog.messages


def test_a_part_may_have_its_classes_one_folder_deeper(tmp_path: Path) -> None:
    write_classes(tmp_path / "training_set" / "training_set", 3, "cat", "dog")
    write_classes(tmp_path / "test_set" / "test_set", 2, "cat", "dog")
    assert list(class_files(tmp_path, "test")) == ["cat", "dog"]
    assert len(found(tmp_path, "all")) == 10


def test_train_and_test_may_be_names_of_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, 3, "bus", "car", "train")
    assert list(class_files(tmp_path, "train")) == ["bus", "car", "train"]


def unlabeled(root: Path) -> None:
    write(root, "train/cat.0.png", "train/dog.0.png", "test/1.png")


def two_tests(root: Path) -> None:
    write_classes(root / "train", 1, "a", "b")
    write_classes(root / "test", 1, "a", "b")
    write_classes(root / "Testing", 1, "a", "b")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (unlabeled, r"a folder for each class in .*train.*Received: images without class folders"),
        (two_tests, r"one folder of test images.*Received: Testing, test"),
    ],
)
def test_an_ambiguous_layout_is_refused(tmp_path: Path, layout: Callable[[Path], None], message: str) -> None:
    layout(tmp_path)
    with pytest.raises(ValueError, match=message):
        class_files(tmp_path, "train")


def test_a_part_without_labels_is_not_read_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_classes(tmp_path / "train", 2, "a", "b")
    write_classes(tmp_path / "val", 1, "a", "b")
    write(tmp_path, "test/1.png")
    write_classes(tmp_path / "extra", 1, "c")
    assert found(tmp_path, "test") == {"val/a/00.png", "val/b/00.png"}
    assert f"folders that are not read in {tmp_path}: extra, test" in caplog.messages


# Parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS["validation"])
def test_with_three_parts_validation_is_not_the_test(tmp_path: Path, name: str) -> None:
    for part, count in (("train", 3), (name, 2), ("test", 1)):
        write_classes(tmp_path / part, count, "a", "b")
    assert has_validation(tmp_path)
    assert found(tmp_path, "validation") == {f"{name}/{c}/{i:02d}.png" for c in "ab" for i in range(2)}
    assert found(tmp_path, "test") == {"test/a/00.png", "test/b/00.png"}
    assert len(found(tmp_path, "all")) == 12


def test_without_a_folder_for_it_there_is_no_validation(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 2, "a", "b")
    write_classes(tmp_path / "test", 1, "a", "b")
    assert not has_validation(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"val, valid, .*beside train\. Received: "):
        class_files(tmp_path, "validation")


def test_class_folders_alone_have_no_validation_and_no_misspelled_split(tmp_path: Path) -> None:
    write_classes(tmp_path, 5, "a", "b")
    for name in ("validation", "val"):
        with pytest.raises(FileNotFoundError, match=r"val, valid, .* or the split test .*\. Received: "):
            class_files(tmp_path, name)
    with pytest.raises(ValueError, match=r"one of train, validation, test, all\. Received: 'tset'"):
        class_files(tmp_path, "tset")


def test_a_test_part_alone_can_be_tested_and_not_trained_on(tmp_path: Path) -> None:
    write_classes(tmp_path / "test", 2, "a", "b")
    assert found(tmp_path, "test") == {f"test/{c}/{i:02d}.png" for c in "ab" for i in range(2)}
    with pytest.raises(FileNotFoundError, match=r"folder train beside the others\. Received: .*, with test alone"):
        class_files(tmp_path, "train")


def test_an_image_stays_in_its_part_when_others_are_added(tmp_path: Path) -> None:
    write_classes(tmp_path, 40, "a", "b")
    before = {split: found(tmp_path, split) for split in ("train", "test")}
    write(tmp_path, *(f"{c}/{name}{i}.png" for c in "ab" for name in ("-", "5", "z") for i in range(5)))
    after = {split: found(tmp_path, split) for split in ("train", "test")}
    assert before["train"] <= after["train"]
    assert before["test"] <= after["test"]
    assert after["train"].isdisjoint(after["test"])


def test_about_a_fifth_of_class_folders_is_the_test_part(tmp_path: Path) -> None:
    write_classes(tmp_path, 250, "a", "b")
    assert abs(len(found(tmp_path, "test")) - 100) < 4 * (500 * 0.2 * 0.8) ** 0.5


@pytest.mark.parametrize("count", [3, 4, 5])
def test_small_classes_have_images_in_both_parts(tmp_path: Path, count: int) -> None:
    classes = [f"class{i}" for i in range(20)]
    write_classes(tmp_path, count, *classes)
    for split in ("train", "test"):
        assert all(class_files(tmp_path, split).values())


# Classes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["0", "1", "2", "10", "11"], ["0", "1", "2", "10", "11"]),
        (["007", "8", "10"], ["007", "8", "10"]),
        (["1a", "10a", "2a"], ["10a", "1a", "2a"]),  # the order of names, as it has been for all other sets
        (["0", "10", "9", "other"], ["0", "10", "9", "other"]),
    ],
)
def test_classes_called_by_numbers_are_in_the_order_of_the_numbers(
    tmp_path: Path, names: list[str], order: list[str]
) -> None:
    write_classes(tmp_path, 3, *names)
    assert list(class_files(tmp_path, "train")) == order


def test_images_that_are_turned_upright_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    about = Image.Exif()
    for name, place in (("a", 6), ("b", 1), ("c", 8)):
        about[0x0112] = place
        for part, suffix in (("train", ".jpg"), ("test", ".webp")):
            file = tmp_path / part / "one" / f"{name}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 6)).save(file, exif=about)
    (tmp_path / "train" / "one" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    caplog.set_level("INFO")
    open_split("folder", "train", data_dir=tmp_path)
    assert caplog.messages == ["2 of 4 images are turned upright by their Exif data"]
    caplog.clear()
    open_split("folder", "test", data_dir=tmp_path)
    assert caplog.messages == ["2 of 3 images are turned upright by their Exif data"]


def test_of_many_images_some_are_looked_at(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    about = Image.Exif()
    about[0x0112] = 3
    Image.new("RGB", (2, 2)).save(tmp_path / "turned.png", exif=about)
    Image.new("RGB", (2, 2)).save(tmp_path / "upright.png")
    caplog.set_level("INFO")
    paths = [str(tmp_path / f"{name}.png") for name in ("turned", "upright", "upright")] * 501
    report_turned_images(FileSplit(tuple(paths), np.zeros(len(paths), np.int64), ("one",), dataset("folder")))
    assert caplog.messages == ["251 of 752 images that were looked at, of 1,503, are turned upright by their Exif data"]
