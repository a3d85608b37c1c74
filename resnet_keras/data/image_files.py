"""Image files: the formats, the names that are taken for images, and the files that are passed over."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from resnet_keras.data.preprocessing import Preprocessing

OnCorrupt = Literal["raise", "skip"]

FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
}
"""Suffixes of the image formats that are read. A file that is found is read by its content, whatever its suffix."""

IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
KINDS = f"{', '.join(tuple(FORMATS)[:-1])} or {tuple(FORMATS)[-1]}"
"""The formats, in words."""

PIXELS_VARIABLE = "RESNET_MOST_PIXELS"
"""Variable of the environment with another limit of pixels, for whole slides or maps: 1 to 2^31 - 1."""


def most_pixels(environment: Mapping[str, str] = os.environ) -> int:
    """Returns the largest number of pixels of one image: 178,956,970, or what the environment says.

    The first is 512 MiB in RGB, twice `PIL.Image.MAX_IMAGE_PIXELS`, as in Pillow. Anything but a number in its range
    leaves it.
    """
    stated = environment.get(PIXELS_VARIABLE, "")
    return int(stated) if re.fullmatch(r"[1-9][0-9]{0,9}", stated) and int(stated) < 2**31 else 178_956_970


MOST_PIXELS = most_pixels()
"""Largest number of pixels of one image in this process."""

MOST_BYTES = 2**30
"""Largest image file that is read whole, in bytes."""

MOST_SCANS = 100
"""Most scans of a JPEG; a progressive one has about 10. Each takes the time of an image, and a few bytes."""

SCAN = b"\xff\xda\x00"
"""Start of a JPEG's scan, with the upper byte of its length (ITU T.81, B.2.3). Videos behind photographs have few."""

_HIDDEN_PREFIXES = (".", "@", "$")  # @eaDir is of Synology's file server, $RECYCLE.BIN of Windows
_HIDDEN_NAMES = ("__macosx", "lost+found", "system volume information", "#recycle", "thumbs.db", "desktop.ini")
_MOST_REASONS = 6

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundFiles:
    """Files below a folder.

    Attributes:
        images: Image files, in the order of their names.
        ignored: Numbers of other files, hidden folders, and links, by the reason.
    """

    images: list[Path] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is made by a program for itself: `._1.jpg`, `.ipynb_checkpoints`, `@eaDir`."""
    return name.startswith(_HIDDEN_PREFIXES) or name.lower() in _HIDDEN_NAMES


def check_name(path: str | Path) -> None:
    """Checks that the name of a file or folder is UTF-8, as TensorFlow needs it.

    Raises:
        ValueError: It is not.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Expected names of files and folders in UTF-8; rename it. Received: {os.fsencode(str(path))!r}"
        ) from error


def find_images(folder: str | Path) -> FoundFiles:
    """Returns the image files of a folder, at any depth, and what was passed over.

    Hidden files and folders, and links to folders, are passed over.

    Raises:
        ValueError: The name of an image is not UTF-8; the message shows it.
    """
    found = FoundFiles()
    for place, folders, files in os.walk(folder):
        hidden = {name for name in folders if is_hidden(name)}
        links = {name for name in folders if name not in hidden and os.path.islink(os.path.join(place, name))}
        found.ignored["in a hidden folder"] += sum(map(len, (_below(os.path.join(place, each)) for each in hidden)))
        found.ignored["links to folders"] += len(links)
        folders[:] = [name for name in folders if name not in hidden | links]
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            path = os.path.join(place, name)
            if is_hidden(name):
                found.ignored["hidden"] += 1
            elif suffix not in IMAGE_SUFFIXES:
                found.ignored[suffix or "without a suffix"] += 1
            elif os.path.isfile(path):
                check_name(path)
                found.images.append(Path(path))
            else:
                found.ignored["broken links"] += 1
    found.images.sort(key=str)
    return found


def files_below(folder: str | Path) -> list[Path]:
    """Returns the image files of a folder, at any depth, in the order of their names.

    Hidden files and folders are passed over. A line of the log says how many files were, and why.

    Raises:
        ValueError: The name of an image is not UTF-8; the message shows it.
    """
    found = find_images(folder)
    report_ignored(folder, found.ignored)
    return found.images


def image_paths(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Returns the files among `paths` and the images below the folders among them, in order.

    Raises:
        FileNotFoundError: A path does not exist, or a folder contains no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = files_below(path)
            if not inside:
                raise FileNotFoundError(
                    f"Expected images ({', '.join(IMAGE_SUFFIXES)}) below a folder. Received: {path}"
                )
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"Expected an image or a folder of images. Received: {path}, which does not exist")
    return found


def report_ignored(folder: str | Path, ignored: Mapping[str, int]) -> None:
    """Logs how many files below a folder are not taken for images, and why, in a line; nothing if there are none."""
    reasons = [(why, count) for why, count in Counter(ignored).most_common() if count]
    if not reasons:
        return
    others = sum(count for _, count in reasons[_MOST_REASONS:])
    listed = [f"{count:,} {why}" for why, count in reasons[:_MOST_REASONS]] + [f"{others:,} others"] * bool(others)
    total = sum(count for _, count in reasons)
    log_once(
        f"{total:,} file{'s' * (total > 1)} below {folder} passed over: {', '.join(listed)} "
        f"(images are {', '.join(IMAGE_SUFFIXES)})"
    )


def check_size(height: int, width: int, what: str) -> None:
    """Checks that an image is not too large to decode.

    Raises:
        ValueError: It has more than `MOST_PIXELS`, or none.
    """
    if height < 1 or width < 1:
        raise ValueError(f"Expected an image with pixels. Received: {what}, of {height}x{width}")
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"Expected an image of at most {MOST_PIXELS:,} pixels; reduce it first. "
            f"Received: {what}, of {height:,}x{width:,}"
        )


def check_resized(height: int, width: int, preprocessing: Preprocessing, what: str) -> None:
    """Checks that an image does not become too large when its shorter side is resized.

    Raises:
        ValueError: One of its sides is so much longer than the other that it does.
    """
    side = preprocessing.shorter_side or max(preprocessing.image_size)
    longest = side * max(height, width) // min(height, width)
    # Rows are resized first: the largest image on the way is as high as the image and as wide as the result.
    if longest * max(side, min(height, width)) > MOST_PIXELS:
        raise ValueError(
            f"Expected an image whose sides differ less: with a shorter side of {side} pixels it would have more than "
            f"{MOST_PIXELS:,}; crop it first. Received: {what}, of {height:,}x{width:,}"
        )


@lru_cache(maxsize=1000)
def log_once(message: str) -> None:
    """Logs a message unless it has been logged: the parts of a folder are opened one after the other."""
    _log.info(message)


def _below(folder: str) -> list[str]:
    return [name for _, _, files in os.walk(folder) for name in files]
