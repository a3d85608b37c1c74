"""Image files in folders, with or without a folder for each class."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np

OnCorrupt = Literal["raise", "skip"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
TEST_FOLDERS = ("test", "val", "validation")

_TEST_FRACTION = 0.2
_log = logging.getLogger(__name__)


def files_below(folder: Path) -> list[Path]:
    """Returns the image files of a folder, at any depth, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(found, key=str)


def class_files(folder: str | Path | None, split: str, on_corrupt: OnCorrupt = "raise") -> dict[str, list[Path]]:
    """Returns the image files of each class, by the name of its folder.

    Args:
        folder: Holds `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or class folders alone, of which every fifth image, by
            a fixed seed, becomes the test part.
        split: "train", "test" or "all".
        on_corrupt: Class folders without images are an error ("raise"), or skipped with a warning ("skip").

    Raises:
        FileNotFoundError: There is no such folder, or no test part beside `train`.
        ValueError: No classes, a class without images or with too few to split, or other classes in the test part.
    """
    layout = "train/CLASS/*.jpg and test/CLASS/*.jpg, or CLASS/*.jpg alone"
    if folder is None or not Path(folder).is_dir():
        raise FileNotFoundError(f"Expected a folder of images, with {layout}, as data_dir. Received: {folder}")
    root = Path(folder)
    parted = (root / "train").is_dir()
    training = {each.name: files_below(each) for each in _class_folders(root / "train" if parted else root)}
    files = _test_files(root, training) if parted and split != "train" else training
    if parted and split == "all":
        files = {name: training[name] + files[name] for name in training}
    for name, found in files.items():
        if not found:
            if on_corrupt == "raise":
                kinds = ", ".join(IMAGE_SUFFIXES)
                raise ValueError(f"Expected images ({kinds}) in every class folder of {root}. Received: {name}, empty")
            _log.warning(f"class {name} of {root} has no {split} images and is skipped")
    names = [name for name, found in training.items() if found]
    if not names:
        raise ValueError(f"Expected class folders: {layout}. Received: {root}, which holds none")
    return {name: files[name] if parted or split == "all" else _part(files[name], split) for name in names}


def _class_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _test_files(root: Path, training: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Returns the images in the test folder beside `train`, which must have the same class folders."""
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if not tests:
        raise FileNotFoundError(f"Expected one of {', '.join(TEST_FOLDERS)} beside train. Received: {root}")
    there = {folder.name for folder in _class_folders(tests[0])}
    if strangers := sorted(there - training.keys()):
        raise ValueError(f"Expected in {tests[0]} the classes of train alone. Received: {', '.join(strangers)}")
    if missing := sorted(training.keys() - there):
        raise ValueError(f"Expected in {tests[0]} all the classes of train. Received none of: {', '.join(missing)}")
    return {name: files_below(tests[0] / name) for name in training}


def _part(files: list[Path], split: str) -> list[Path]:
    """Returns a class's test images, a fifth by a fixed seed, or the others."""
    count = round(_TEST_FRACTION * len(files))
    if not 0 < count < len(files):
        raise ValueError(
            f"Expected at least 3 images in a class folder that is split into train and test. "
            f"Received: {files[0].parent}, with {len(files)}"
        )
    test = set(np.random.default_rng(0).permutation(len(files))[:count])
    return [path for i, path in enumerate(files) if (i in test) == (split == "test")]
