"""Images with boxes, whatever their files are, and the checks that all of them pass."""

from __future__ import annotations

import functools
import logging
import math
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.checks.fields import nearest
from resnet_keras.data.class_names import check_class_names
from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.data.pillow_files import image_header

_log = logging.getLogger(__name__)

_NAMED = 5  # in a message


@dataclass(frozen=True, eq=False)
class BoxExample:
    """An image and its boxes.

    Attributes:
        image: The image file.
        height: Pixels of the upright image.
        width: Likewise.
        boxes: Left, top, right, and bottom edge of each box in pixels, float64 (N, 4): the image's left edge is at 0
            and its right one at `width`.
        labels: Class of each box, an index of the class names, int64 (N,).
        difficult: Boxes that do not count in PASCAL VOC's evaluation, bool (N,).
        crowd: Boxes around a group of objects, as COCO has them, bool (N,).
        areas: Area of each object in pixels, which COCO's evaluation sorts objects into small, medium, and large by,
            float64 (N,).
        identity: What the image is called in lists and results: VOC's name or COCO's number.
        record: Number of the record that holds the image, where the split has records; then `image` is a name alone.
    """

    image: Path
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    identity: str | int
    record: int | None = None

    @property
    def trained(self) -> np.ndarray:
        """Which boxes are trained on: neither difficult ones nor crowds, bool (N,)."""
        return ~(self.difficult | self.crowd)


@dataclass(frozen=True, eq=False)
class RecordSource:
    """Records of a set of TensorFlow Datasets that hold the images of a split.

    Attributes:
        builder: Builder of the prepared set.
        split: A split of it.
    """

    builder: Any
    split: str


@dataclass(frozen=True, eq=False)
class BoxSplit:
    """Images with boxes.

    Attributes:
        examples: The images, those without objects, too.
        class_names: Names of the classes, in the order of the labels. Background is none of them.
        category_ids: Number of each class in COCO's files; 1, 2, ... for others.
        skipped_images: Number of images that were left out because they are missing or broken.
        skipped_boxes: Number of boxes that were left out because they are wrong.
        records: Where the images are, unless they are files.
    """

    examples: tuple[BoxExample, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    skipped_images: int = 0
    skipped_boxes: int = 0
    records: RecordSource | None = None

    def __post_init__(self) -> None:
        check_class_names(self.class_names)
        if not self.category_ids:
            object.__setattr__(self, "category_ids", tuple(range(1, len(self.class_names) + 1)))

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def boxes(self) -> int:
        """Number of boxes that are trained on."""
        return sum(int(example.trained.sum()) for example in self.examples)


def joined(splits: Sequence[BoxSplit]) -> BoxSplit:
    """Returns the images of several splits of the same classes, one after the other.

    Raises:
        ValueError: The classes differ.
    """
    first = splits[0]
    for split in splits[1:]:
        if split.class_names != first.class_names:
            raise ValueError(
                f"Expected splits of the same classes, {', '.join(first.class_names)}. Received: "
                f"{', '.join(split.class_names)}"
            )
    return BoxSplit(
        tuple(example for split in splits for example in split.examples),
        first.class_names,
        first.category_ids,
        sum(split.skipped_images for split in splits),
        sum(split.skipped_boxes for split in splits),
    )


class WrongBox(ValueError):
    """A box cannot be used.

    Attributes:
        hint: Returns the end of the message; it may take a thousand times as long as a look at the box.
    """

    def __init__(self, message: str, hint: Callable[[], str] = str) -> None:
        super().__init__(message)
        self.hint = hint


class WrongImage(ValueError):
    """An image or its annotation cannot be used."""


@dataclass
class Faults:
    """What is wrong in a set: the first fault is an error, or all are counted and left out.

    Attributes:
        on_corrupt: "raise" or "skip".
        images: Number of images left out.
        boxes: Number of boxes left out.
    """

    on_corrupt: OnCorrupt
    images: int = 0
    boxes: int = 0
    _named: list[str] = field(default_factory=list)

    @contextmanager
    def tolerated(self) -> Iterator[None]:
        """Returns a context whose faults are counted, unless they are errors.

        Raises:
            ValueError: A box or an image is wrong, and `on_corrupt` is "raise".
        """
        try:
            yield
        except (WrongBox, WrongImage) as error:
            told = self.on_corrupt == "raise" or len(self._named) < _NAMED
            message = f"{error}{error.hint()}" if isinstance(error, WrongBox) and told else str(error)
            if self.on_corrupt == "raise":
                raise ValueError(f"{message} (`on_corrupt='skip'`, --skip-broken leaves such ones out)") from error
            self.images += isinstance(error, WrongImage)
            self.boxes += isinstance(error, WrongBox)
            if told:
                self._named.append(message)

    def report(self, what: str) -> None:
        """Logs a warning that names the first faults, if there are any."""
        if count := self.images + self.boxes:
            more = "" if count <= len(self._named) else "; ..."
            _log.warning(
                f"{self.images} images and {self.boxes} boxes of {what} are left out: {'; '.join(self._named)}{more}"
            )

    def expect_images(self, split: BoxSplit, what: str) -> None:
        """Checks that images are left.

        Raises:
            ValueError: There is none; the message has the first fault.
        """
        if not len(split):
            first = f": all {self.images} are left out, the first because of: {self._named[0]}" if self.images else ""
            raise ValueError(f"Expected images with boxes in {what}. Received: none{first}")


class BoxList:
    """The boxes of one image, checked as they are added.

    Args:
        height: Pixels of the image.
        width: Likewise.
        class_names: Names of the classes.
    """

    def __init__(self, height: int, width: int, class_names: Sequence[str]) -> None:
        self.height, self.width, self._names = height, width, class_names
        self._labels = _labels(tuple(class_names))
        self._rows: list[tuple[list[float], int, bool, bool, float]] = []

    def add(
        self,
        edges: Sequence[float],
        label: int,
        what: str,
        *,
        difficult: bool = False,
        crowd: bool = False,
        area: float | None = None,
    ) -> None:
        """Adds a box.

        A box that goes beyond the image by up to a pixel is cut off: programs disagree on whether the first pixel is 0
        or 1.

        Args:
            edges: Left, top, right, and bottom edge in pixels.
            label: Its class.
            what: Name of the box in messages.
            difficult: See `BoxExample`.
            crowd: Likewise.
            area: Likewise; that of the box if `None`.

        Raises:
            WrongBox: It has no area, or lies beyond the image.
        """
        left, top, right, bottom = edges
        if not all(map(math.isfinite, edges)) or not (left < right and top < bottom):
            raise WrongBox(f"Expected boxes with an area. Received: {_numbers(edges)} of {what}")
        if min(left, top) < -1 or right > self.width + 1 or bottom > self.height + 1:
            raise WrongBox(
                f"Expected boxes inside their image of {self.height}x{self.width}. Received: {_numbers(edges)} (left, "
                f"top, right, bottom) of {what}"
            )
        inside = [max(left, 0.0), max(top, 0.0), min(right, float(self.width)), min(bottom, float(self.height))]
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            raise WrongBox(f"Expected boxes with an area inside their image. Received: {_numbers(edges)} of {what}")
        own = (inside[2] - inside[0]) * (inside[3] - inside[1])
        self._rows.append((inside, label, difficult, crowd, own if area is None else area))

    def label(self, name: str, what: str) -> int:
        """Returns the label of a class.

        Raises:
            WrongBox: There is no such class.
        """
        label = self._labels.get(name)
        if label is None:
            raise WrongBox(
                f"Expected boxes of the classes {_some(self._names)}. Received: {reprlib.repr(name)} of {what}.",
                lambda: nearest(name, self._names),
            )
        return label

    def example(self, image: Path, identity: str | int, record: int | None = None) -> BoxExample:
        """Returns the image with all its boxes."""
        rows = self._rows
        return BoxExample(
            image,
            self.height,
            self.width,
            np.array([row[0] for row in rows], np.float64).reshape(-1, 4),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], bool),
            np.array([row[3] for row in rows], bool),
            np.array([row[4] for row in rows], np.float64),
            identity,
            record,
        )


def check_image(path: Path, stated: tuple[int, int] | None = None) -> tuple[int, int]:
    """Returns the height and width of an upright image from the header of its file.

    Args:
        path: The image file.
        stated: Height and width that an annotation states.

    Raises:
        WrongImage: There is no such file, it is no image, has too many pixels, or another size than stated.
    """
    try:
        there = path.is_file()
    except OSError:  # of a name that is too long
        there = False
    if not there:
        raise WrongImage(f"Expected the image {path}. Received: no such file")
    size = image_size_of(path, str(path))
    if stated is not None and stated != size:
        raise WrongImage(
            f"Expected an annotation of the size of its image, {size[0]}x{size[1]} (height, width). Received: "
            f"{reprlib.repr(stated[0])}x{reprlib.repr(stated[1])}, for {path}"
        )
    return size


def image_size_of(file: Path | bytes, what: str) -> tuple[int, int]:
    """Returns the height and width of an upright image from its header.

    Args:
        file: The image.
        what: Its name in messages.

    Raises:
        WrongImage: It is no image, or has too many pixels.
    """
    try:
        height, width, orientation = image_header(file, what)
    except ValueError as error:
        raise WrongImage(str(error)) from error
    return (width, height) if orientation >= 5 else (height, width)


@functools.lru_cache(4)
def _labels(class_names: tuple[str, ...]) -> dict[str, int]:
    """Returns the label of each class; there may be many thousands."""
    return {name: label for label, name in enumerate(class_names)}


def _numbers(edges: Sequence[float]) -> str:
    return ", ".join(f"{edge:g}" for edge in edges)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f", ... ({len(names)})" if len(names) > _NAMED else "")
