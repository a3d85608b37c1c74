"""Images with masks: folders of both, and VOC's layout."""

from __future__ import annotations

import io
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_keras import files
from resnet_keras.checks.fields import nearest
from resnet_keras.data.class_names import read_class_names
from resnet_keras.data.image_files import IMAGE_SUFFIXES, check_size, is_hidden
from resnet_keras.data.pillow_files import FAILURES, image_header
from resnet_keras.segmentation.measures import IGNORED

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""The 21 classes of PASCAL VOC's masks, in the order of their labels."""

_MASK_FOLDERS = ("masks", "labels", "annotations")
_CLASSES_FILE = "classes.txt"
_VOC = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class MaskSplit:
    """Images with masks.

    Attributes:
        images: Files of the images: their paths, or their bytes.
        masks: Files of their masks, in the same order, of the same kind.
        class_names: Names of the classes, in the order of the labels.
        ignored: Label of pixels that do not count.
    """

    images: tuple[Path, ...] | tuple[bytes, ...]
    masks: tuple[Path, ...] | tuple[bytes, ...]
    class_names: tuple[str, ...]
    ignored: int = IGNORED

    def __len__(self) -> int:
        return len(self.images)


def open_masks(
    folder: str | Path, split: str, *, class_names: Sequence[str] | None = None, ignored: int = IGNORED
) -> MaskSplit:
    """Opens a part of a folder of images and masks, and looks at each mask.

    Two layouts are known:

    - `SPLIT/images/NAME.jpg` with `SPLIT/masks/NAME.png` (or `labels`, `annotations`), in which the names of the
      classes are lines of `classes.txt`, or numbers.
    - PASCAL VOC's: `JPEGImages`, `SegmentationClass`, and the names in `ImageSets/Segmentation/SPLIT.txt`.

    A mask is a PNG of 8 bits whose gray levels, or indices of a palette, are the labels.

    Args:
        folder: The folder.
        split: "train", "val", "test", or another part that is there.
        class_names: Names of the classes, in the order of the labels; those of the layout if `None`.
        ignored: Label of pixels that do not count, such as unlabelled ones and borders.

    Raises:
        FileNotFoundError: There is no such folder or part.
        ValueError: An image has no mask, or a mask is damaged, has another size than its image, or a label outside
            the classes; the message names the first.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"Expected a folder of images and masks. Received: {root}, which does not exist")
    voc = all((root / part).is_dir() for part in _VOC)
    images, masks = _voc_files(root, split) if voc else _folder_files(root, split)
    names = tuple(class_names) if class_names is not None else _names(root, voc)
    return checked_masks(MaskSplit(tuple(images), tuple(masks), names or (), ignored), [str(mask) for mask in masks])


def checked_masks(split: MaskSplit, called: Sequence[str]) -> MaskSplit:
    """Returns a split after a look at each mask; without names of classes, they are the numbers up to the largest.

    Args:
        split: Images with masks; `class_names` may be empty.
        called: Name of each mask for messages.

    Raises:
        ValueError: A mask is damaged, has another size than its image, or a label outside the classes.
    """
    images: Sequence[Path | bytes] = split.images
    masks: Sequence[Path | bytes] = split.masks
    pairs = zip(images, masks, called, strict=True)
    largest = max(_checked(image, mask, name, split.class_names, split.ignored) for image, mask, name in pairs)
    return replace(split, class_names=split.class_names or tuple(map(str, range(largest + 1))))


def parts_of(folder: str | Path) -> tuple[str, ...]:
    """Returns the parts of a folder of images and masks that have masks, such as "train" and "val"; see `open_masks`.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"Expected a folder of images and masks. Received: {root}, which does not exist")
    if not all((root / part).is_dir() for part in _VOC):
        return tuple(sorted(path.parent.name for path in root.glob("*/images") if path.is_dir()))
    lists = {path.stem: _listed(path) for path in sorted((root / _VOC[2]).glob("*.txt"))}
    # VOC's test images come without masks.
    return tuple(part for part, names in lists.items() if names and (root / _VOC[1] / f"{names[0]}.png").is_file())


def read_mask(source: str | Path | bytes, called: str | None = None) -> np.ndarray:
    """Returns the labels of a mask: uint8 (H, W).

    Args:
        source: A PNG file: its path, or its bytes.
        called: Its name in messages; the path if `None`.

    Raises:
        ValueError: The file is no PNG, or has colors instead of labels.
    """
    return _labels(source, called or ("a file" if isinstance(source, bytes) else str(source)))


def _labels(source: str | Path | bytes, called: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns the labels of a mask, of a size if one is given; nothing is decoded of a file that has others."""
    try:
        with Image.open(_opened(source), formats=["PNG"]) as image:
            found = (image.height, image.width)
            # Pillow spreads gray levels of fewer bits over 0 to 255.
            mode = image.tile[0][3] if image.mode == "L" and image.tile else image.mode
            fits = mode in ("L", "P") and size in (None, found)
            check_size(*found, called)
            labels = np.asarray(image) if fits else np.empty(found, np.uint8)
    except FAILURES as error:
        raise ValueError(f"Expected a PNG of labels. Received: {called}: {error}") from error
    if mode not in ("L", "P"):
        raise ValueError(
            f"Expected a mask of 8 bits, whose gray levels or palette indices are labels. Received: {called}, of {mode}"
        )
    if not fits:
        raise ValueError(f"Expected a mask of its image's size, {size}. Received: {called}, of {found}")
    return labels


def _opened(source: str | Path | bytes) -> Any:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _names(root: Path, voc: bool) -> tuple[str, ...] | None:
    if voc:
        return VOC_CLASSES
    file = root / _CLASSES_FILE
    return tuple(read_class_names(file)) if file.is_file() else None


def _voc_files(root: Path, split: str) -> tuple[list[Path], list[Path]]:
    lists = root / _VOC[2]
    file = lists / f"{split}.txt"
    if not file.is_file():
        known = sorted(path.stem for path in lists.glob("*.txt"))
        raise FileNotFoundError(
            f"Expected a part of {root}, one of {', '.join(known)}. Received: {split!r}.{nearest(split, known)}"
        )
    names = _listed(file)
    images = [root / _VOC[0] / f"{name}.jpg" for name in names]
    masks = [root / _VOC[1] / f"{name}.png" for name in names]
    _expect_files([*images, *masks], file)
    return images, masks


def _listed(file: Path) -> list[str]:
    """Returns the names in a list of VOC."""
    names = files.read_lines(file)
    for name in names:
        if not files.is_plain_name(name):
            raise ValueError(f"Expected names of images in {file}. Received: {reprlib.repr(name)}")
    return names


def _folder_files(root: Path, split: str) -> tuple[list[Path], list[Path]]:
    folder = root / split / "images"
    if not folder.is_dir():
        known = sorted(path.parent.name for path in root.glob("*/images"))
        raise FileNotFoundError(
            f"Expected a part of {root}, with a folder images: {', '.join(known) or 'there is none'}. "
            f"Received: {split!r}.{nearest(split, known)}"
        )
    places = [root / split / name for name in _MASK_FOLDERS if (root / split / name).is_dir()]
    if not places:
        raise FileNotFoundError(
            f"Expected a folder of masks beside {folder}, one of {', '.join(_MASK_FOLDERS)}. Received: none"
        )
    images = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path.name)
    )
    masks = [places[0] / f"{image.stem}.png" for image in images]
    _expect_files(masks, folder)
    return images, masks


def _expect_files(files: Sequence[Path], source: Path) -> None:
    if not files:
        raise ValueError(f"Expected images in {source}. Received: none")
    missing = [path for path in files if not path.is_file()]
    if missing:
        shown = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        raise ValueError(
            f"Expected the files that {source} asks for. Received: {len(missing)} of {len(files)} missing: {shown}"
        )


def _checked(image: Path | bytes, mask: Path | bytes, called: str, names: tuple[str, ...], ignored: int) -> int:
    """Returns the largest label of a mask that fits its image."""
    shown = f"that of {called}" if isinstance(image, bytes) else str(image)
    height, width, orientation = image_header(image, shown)
    labels = _labels(mask, called, (height, width))
    if orientation != 1:
        raise ValueError(
            f"Expected an image that no Exif orientation turns, as its mask is not turned. Received: that of {called}"
        )
    largest = int(labels[labels != ignored].max(initial=0))
    if names and largest >= len(names):
        raise ValueError(
            f"Expected labels from 0 to {len(names) - 1}, or {ignored} where pixels do not count (`ignored`, or "
            f"`ignored_label` of a recipe). Received: {largest} in {called}"
        )
    return largest
