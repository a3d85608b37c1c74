"""Fingerprints of data sets: the same images are the same anywhere, and each change is told."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_keras.data import fingerprint
from resnet_keras.data.fingerprint import changes, data_fingerprint, digest, listed
from resnet_keras.data.opening import open_split


def paint(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(path)


def make(root: Path) -> Path:
    """Writes bitmaps, which all have one size, whatever is painted."""
    for part, count in (("train", 4), ("test", 2)):
        for level, name in enumerate(("cats", "dogs", "emus")):
            for i in range(count):
                paint(root / part / name / f"{i}.bmp", 80 * level + i)
    return root


def of(root: Path) -> dict[str, Any]:
    return data_fingerprint({part: open_split("folder", part, data_dir=root) for part in ("train", "test")})


def rename(root: Path, old: str, new: str) -> None:
    for part in ("train", "test"):
        (root / part / old).rename(root / part / new)


def swap(root: Path) -> None:
    for old, new in (("cats", "_"), ("dogs", "cats"), ("_", "dogs")):
        rename(root, old, new)


CASES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "nothing": (lambda root: None, []),
    "a touched image": (lambda root: (root / "train/cats/1.bmp").touch(), []),
    "an image added": (
        lambda root: paint(root / "train/cats/00.bmp", 9),
        ["5 training images of cats (begun with 4)"],
    ),
    "an image removed": (
        lambda root: (root / "train/cats/1.bmp").unlink(),
        ["3 training images of cats (begun with 4)"],
    ),
    "an image repainted": (
        lambda root: paint(root / "train/cats/1.bmp", 200),
        ["other training images of cats"],
    ),
    "an image renamed": (
        lambda root: (root / "train/dogs/1.bmp").rename(root / "train/dogs/7.bmp"),
        ["other training images of dogs"],
    ),
    "a test image removed": (
        lambda root: (root / "test/emus/1.bmp").unlink(),
        ["1 test images of emus (begun with 2)"],
    ),
    "a class renamed": (lambda root: rename(root, "cats", "bats"), ["classes added: bats", "classes removed: cats"]),
    "a class renamed to the end": (
        lambda root: rename(root, "cats", "zebus"),
        ["classes added: zebus", "classes removed: cats"],
    ),
    "two classes swapped": (swap, ["other training images of cats, dogs", "other test images of cats, dogs"]),
    "a class added": (
        lambda root: [shutil.copytree(root / part / "cats", root / part / "yaks") for part in ("train", "test")],
        ["classes added: yaks"],
    ),
    "a class removed": (
        lambda root: [shutil.rmtree(root / part / "emus") for part in ("train", "test")],
        ["classes removed: emus"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_change_of_a_folder_is_told(tmp_path: Path, case: str) -> None:
    change, expected = CASES[case]
    before = of(make(tmp_path))
    change(tmp_path)
    assert changes(before, of(tmp_path)) == expected


def test_the_same_images_in_another_folder_are_the_same(tmp_path: Path) -> None:
    one, other = make(tmp_path / "here"), tmp_path / "there" / "deeper"
    shutil.copytree(one, other)
    assert digest(of(one)) == digest(of(other))


def test_a_repainted_image_of_another_size_is_told_even_if_it_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_READ_FILES", 3)  # the first of each class
    before = of(make(tmp_path))
    paint(tmp_path / "train/cats/1.bmp", 200)
    assert changes(before, of(tmp_path)) == []
    (tmp_path / "train/cats/1.bmp").write_bytes((tmp_path / "train/cats/1.bmp").read_bytes() + b"\0")
    assert changes(before, of(tmp_path)) == ["other training images of cats"]


def test_a_part_for_validation_that_appears_or_disappears_is_told(tmp_path: Path) -> None:
    found = of(make(tmp_path))
    more = found | {"validation": found["test"]}
    assert changes(found, more) == ["validation images added"]
    assert changes(more, found) == ["validation images removed"]


def test_images_in_memory_are_known_by_their_pixels_labels_and_version() -> None:
    split = open_split("digits", "test")
    found = data_fingerprint({"test": split})
    assert changes(found, data_fingerprint({"test": open_split("digits", "test")})) == []
    images = split.images.copy()  # type: ignore[union-attr]
    images[0, 0, 0] ^= 1
    name = split.class_names[split.labels[0]]  # type: ignore[union-attr]
    assert changes(found, data_fingerprint({"test": replace(split, images=images)})) == [  # type: ignore[call-arg]
        f"other test images of {name}"
    ]
    version = replace(split, info=replace(split.info, version="3.0.2"))
    assert changes(found, data_fingerprint({"test": version})) == ["version 3.0.2 of the data set (begun with None)"]


def test_only_the_first_of_many_changes_are_listed() -> None:
    assert listed([str(i) for i in range(8)]) == "0; 1; 2; 3; 4; and 3 more"
