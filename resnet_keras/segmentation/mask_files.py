"""Images with masks: folders of both, and VOC's layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_keras.checks.fields import nearest
from resnet_keras.data.class_names import read_class_names
from resnet_keras.data.image_files import IMAGE_SUFFIXES, is_hidden
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
        images: Files of the images.
        masks: Files of their masks, in the same order.
        class_names: Names of the classes, in the order of the labels.
        ignored: Label of pixels that do not count.
    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
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
    largest = max(_checked(image, mask, names, ignored) for image, mask in zip(images, masks, strict=True))
    if names is None:
        names = tuple(map(str, range(largest + 1)))
    return MaskSplit(tuple(images), tuple(masks), names, ignored)


def read_mask(path: str | Path) -> np.ndarray:
    """Returns the labels of a mask: uint8 (H, W).

    Raises:
        ValueError: The file is no PNG, or has colors instead of labels.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            mode, labels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Expected a PNG of labels. Received: {path}: {error}") from error
    if mode not in ("L", "P"):
        raise ValueError(
            f"Expected a mask of 8 bits, whose gray levels or palette indices are labels. Received: {path}, of {mode}"
        )
    return labels


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
    names = file.read_text(encoding="utf-8").split()
    images = [root / _VOC[0] / f"{name}.jpg" for name in names]
    masks = [root / _VOC[1] / f"{name}.png" for name in names]
    _expect_files([*images, *masks], file)
    return images, masks


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


def _checked(image: Path, mask: Path, names: tuple[str, ...] | None, ignored: int) -> int:
    """Returns the largest label of a mask that fits its image."""
    labels = read_mask(mask)
    try:
        with Image.open(image) as opened:
            size = (opened.height, opened.width)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Expected an image. Received: {image}: {error}") from error
    if labels.shape != size:
        raise ValueError(f"Expected a mask of its image's size, {size}. Received: {mask}, of {labels.shape}")
    largest = int(labels[labels != ignored].max(initial=0))
    if names is not None and largest >= len(names):
        raise ValueError(
            f"Expected labels from 0 to {len(names) - 1}, or {ignored} where pixels do not count (`ignored`). "
            f"Received: {largest} in {mask}"
        )
    return largest
