"""Folders of images with a folder for each class: their layouts, parts and classes."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_keras.data.image_files import (
    IMAGE_SUFFIXES,
    OnCorrupt,
    check_name,
    find_images,
    is_hidden,
    log_once,
    report_ignored,
)

PARTS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "training_set", "train_set"),
    "validation": ("val", "valid", "validation", "validation_set", "val_set"),
    "test": ("test", "testing", "test_set"),
}
"""Names of the folders of each part, in any case."""

LAYOUT = "train/CLASS/*.jpg and test/CLASS/*.jpg (and val/CLASS/*.jpg), or CLASS/*.jpg alone"

SPLIT_ALIASES = {"val": "validation", "valid": "validation"}
"""Other names of splits."""

_SPLITS = ("train", "validation", "test", "all")
_TEST_FRACTION = 0.2
_DEEPEST = 3  # folders around the class folders that hold nothing else

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images by class.

    Attributes:
        root: The folder that holds the parts, or the class folders.
        parts: The folder of each part that there is; empty if there are class folders alone.
    """

    root: Path
    parts: dict[str, Path]


def open_folder(folder: str | Path | None) -> ImageFolder:
    """Finds the parts in a folder, also one folder deeper, as archives often have them.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There are several folders for one part.
    """
    if folder is None or not Path(folder).is_dir():
        raise FileNotFoundError(f"Expected a folder of images, with {LAYOUT}, as `data_dir`. Received: {folder}")
    root = Path(folder)
    for _ in range(_DEEPEST):
        inside = _parts(root)
        if inside or (deeper := _only_folder(root)) is None:
            break
        root = deeper
    if root != Path(folder):
        log_once(f"the images are those of {root}")
    beside = [path.name for path in class_folders(root) if path not in inside.values()]
    if inside and beside:
        log_once(f"folders that are not read in {root}: {', '.join(beside)}")
    return ImageFolder(root, {part: _only_folder(path) or path for part, path in inside.items()})


def class_files(folder: str | Path | None, split: str, on_corrupt: OnCorrupt = "raise") -> dict[str, list[Path]]:
    """Returns the image files of each class, by the name of its folder.

    Classes whose names all are whole numbers are in the order of the numbers, others in the order of their names.

    Args:
        folder: Holds `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, and perhaps `val/CLASS/*.jpg`; or class folders alone,
            of which about a fifth of the images becomes the test part: those whose names have a low hash, so that an
            image stays in its part when others are added.
        split: "train", "validation", "test", "all", or an alias of one. Without a test folder, the test part is that of
            validation.
        on_corrupt: Class folders without images are an error ("raise"), or skipped with a warning ("skip").

    Raises:
        FileNotFoundError: There is no such folder, or not the part that is asked for.
        ValueError: No classes, a class without images or with too few to split, other classes in the test part, or
            another split.
    """
    split = SPLIT_ALIASES.get(split, split)
    if split not in _SPLITS:
        raise ValueError(f"Expected a split of a folder, one of {', '.join(_SPLITS)}. Received: {split!r}")
    opened = open_folder(folder)
    root, parts = opened.root, opened.parts
    if parts and "train" not in parts and split != "test":
        there = ", ".join(path.name for path in parts.values())
        raise FileNotFoundError(f"Expected a folder train beside the others. Received: {root}, with {there} alone")
    if not parts and split == "validation":
        known = ", ".join(PARTS["validation"])
        raise FileNotFoundError(
            f"Expected one of {known} beside train, or the split test of class folders alone. Received: {root}"
        )
    training = _images_by_class(parts.get("train", parts.get("test", parts.get("validation", root))))
    names = sorted(training, key=class_order(list(training)))
    if parts:
        files = _part_files(opened, training, split)
    else:
        files = {name: training[name] if split == "all" else _share(training[name], root, split) for name in names}
    _check_images(root, names, training if not parts else files, split, on_corrupt)
    names = [name for name in names if training[name]]
    if not names:
        raise ValueError(f"Expected class folders: {LAYOUT}. Received: {root}, which holds none")
    return {name: files[name] for name in names}


def has_validation(folder: str | Path | None) -> bool:
    """Returns whether a folder has a part for validation beside that for the test."""
    parts = open_folder(folder).parts
    return "validation" in parts and "test" in parts


def class_folders(folder: Path) -> list[Path]:
    """Returns the folders in a folder that are not hidden, in the order of their names.

    Raises:
        ValueError: The name of one is not UTF-8.
    """
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
    for path in found:
        check_name(path)
    return found


def class_order(names: list[str]) -> Callable[[str], Any]:
    """Returns the key to sort class names by: numbers if all of them are whole numbers, else the names."""
    numbers = all(name.isascii() and name.isdecimal() for name in names)
    return (lambda name: (int(name), name)) if numbers else str


def _parts(root: Path) -> dict[str, Path]:
    """Returns the folder of each part in `root`; none if `root` rather holds classes, which may be called `train`."""
    folders = class_folders(root)
    named = {part: [path for path in folders if path.name.lower() in names] for part, names in PARTS.items()}
    unlabeled = [path for paths in named.values() for path in paths if _has_images(path)]
    if unlabeled and sum(map(len, named.values())) == len(folders) and {*named["train"]} & {*unlabeled}:
        raise ValueError(
            f"Expected a folder for each class in {named['train'][0]}: {LAYOUT}. Received: images without class folders"
        )
    # Without class folders it is a class, or, as in Kaggle's competitions, a part without labels.
    labeled = {part: [path for path in paths if path not in unlabeled] for part, paths in named.items()}
    for part, paths in labeled.items():
        if len(paths) > 1:
            raise ValueError(
                f"Expected one folder of {part} images in {root}. Received: {', '.join(path.name for path in paths)}"
            )
    parts = {part: paths[0] for part, paths in labeled.items() if paths}
    return parts if "train" in parts or len(parts) == len(folders) else {}


def _only_folder(folder: Path) -> Path | None:
    """Returns the only folder in a folder, if it holds folders, too, and there are no images beside any of them."""
    inside = class_folders(folder)
    if len(inside) != 1 or _has_images(folder) or _has_images(inside[0]) or not class_folders(inside[0]):
        return None
    return inside[0]


def _has_images(folder: Path) -> bool:
    return any(not is_hidden(path.name) and path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def _part_files(opened: ImageFolder, training: dict[str, list[Path]], split: str) -> dict[str, list[Path]]:
    """Returns the images of a part by the classes of training."""
    parts = opened.parts
    if split == "train" or "train" not in parts:
        return training
    wanted = {"all": [part for part in ("validation", "test") if part in parts]}.get(split, [split])
    if wanted == ["test"] and "test" not in parts:
        wanted = ["validation"]
    if not wanted or not set(wanted) <= parts.keys():
        known = ", ".join((*PARTS["test"], *PARTS["validation"]) if split != "validation" else PARTS["validation"])
        raise FileNotFoundError(f"Expected one of {known} beside train. Received: {opened.root}")
    found = [_same_classes(parts[part], training) for part in wanted]
    if split == "all":
        found.insert(0, training)
    return {name: [path for each in found for path in each[name]] for name in training}


def _images_by_class(folder: Path) -> dict[str, list[Path]]:
    """Returns the images in each class folder of a folder, and logs how many files are passed over."""
    found = {each.name: find_images(each) for each in class_folders(folder)}
    report_ignored(folder, sum((each.ignored for each in found.values()), Counter()))
    return {name: each.images for name, each in found.items()}


def _same_classes(part: Path, training: dict[str, list[Path]]) -> dict[str, list[Path]]:
    found = _images_by_class(part)
    if strangers := sorted(found.keys() - training.keys()):
        raise ValueError(f"Expected in {part} the classes of train alone. Received: {', '.join(strangers)}")
    if missing := sorted(training.keys() - found.keys()):
        raise ValueError(f"Expected in {part} all the classes of train. Received none of: {', '.join(missing)}")
    return found


def _check_images(
    root: Path, names: list[str], files: dict[str, list[Path]], split: str, on_corrupt: OnCorrupt
) -> None:
    for name in names:
        if files[name]:
            continue
        if on_corrupt == "raise":
            kinds = ", ".join(IMAGE_SUFFIXES)
            raise ValueError(f"Expected images ({kinds}) in every class folder of {root}. Received: {name}, empty")
        _log.warning(f"class {name} of {root} has no {split} images and is skipped")


def _share(files: list[Path], root: Path, split: str) -> list[Path]:
    """Returns a class's test images, or the others.

    Whether an image is for the test depends on its name alone, except in a class of a few images: each has at least one
    for the test, and at most half.
    """
    if not files:
        return []
    if len(files) < 3:
        way_on = "or folders train and test" if split == "train" else "or all of them as the `split` all"
        raise ValueError(
            f"Expected at least 3 images in a class folder that is split into train and test, {way_on}. "
            f"Received: {files[0].parent}, with {len(files)}"
        )
    place = {path: _place(path.relative_to(root)) for path in files}
    order = sorted(files, key=place.__getitem__)
    below = sum(value < _TEST_FRACTION for value in place.values())
    test = set(order[: min(max(below, 1), len(files) // 2)])
    return [path for path in files if (path in test) == (split == "test")]


def _place(path: Path) -> float:
    """Returns a number in [0, 1) that depends on a path below the class folders alone."""
    digest = hashlib.sha256(os.fsencode(path.as_posix())).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
