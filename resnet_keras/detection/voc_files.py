"""Images with boxes in PASCAL VOC's layout: XML files, and lists of the images of each part."""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from resnet_keras import files
from resnet_keras.checks.fields import nearest
from resnet_keras.data.class_names import read_class_names
from resnet_keras.data.image_files import IMAGE_SUFFIXES, OnCorrupt, is_hidden
from resnet_keras.detection.box_split import (
    BoxExample,
    BoxList,
    BoxSplit,
    Faults,
    WrongBox,
    WrongImage,
    check_image,
    joined,
)
from resnet_keras.detection.image_reading import checked

_ANNOTATIONS = ("Annotations", "annotations", "annots")
_IMAGES = ("JPEGImages", "images", "Images")
_LISTS = "ImageSets/Main"
_CLASSES = "classes.txt"
_YEARS = "VOC20*"

_MOST_BYTES = 2**20  # of an XML file; one of VOC has a few kilobytes
_DEEPEST = 16  # elements inside each other; VOC has 4
_TEST_FRACTION = 0.2  # without lists


def is_voc(folder: Path) -> bool:
    """Returns whether a folder has VOC's layout, or holds folders of it by their years."""
    return bool(_years(folder)) or (_first(folder, _ANNOTATIONS) is not None and _first(folder, _IMAGES) is not None)


def voc_parts(folder: Path) -> list[str]:
    """Returns the parts of a folder of VOC's layout: the lists of all images, or "train" and "test" without lists."""
    found = {path.stem for root in _years(folder) or [folder] for path in (root / _LISTS).glob("*.txt")}
    return sorted(found) or ["test", "train"]


def open_voc(
    folder: str | Path,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    on_corrupt: OnCorrupt = "raise",
) -> BoxSplit:
    """Opens a part of a folder in PASCAL VOC's layout: `Annotations`, `JPEGImages`, and `ImageSets/Main/SPLIT.txt`.

    A folder of such folders by year (`VOC2007`, `VOC2012`) has the images of each year whose lists name the part. A
    folder without lists, as labeling programs write it, is divided into "train" and "test", about a fifth of the
    images by a hash of their names; there, `annots` and `images` are known, too.

    VOC counts pixels from 1 and includes the last one. Here a box is from the edge of its first pixel to that of its
    last one: `xmin - 1`, `ymin - 1`, `xmax`, `ymax`, as in detectron2. An image without objects stays.

    Args:
        folder: The folder.
        split: Name of a list, such as "train", "val", "trainval", or "test".
        class_names: Names of the classes, in the order of the labels. `None` takes the lines of `classes.txt`, or the
            names in all files of the folder, sorted, which are those of VOC for its own files.
        on_corrupt: A box without area, outside its image, or of an unknown class, a missing or broken image, and a
            broken file or one of another size than its image are errors ("raise"), or left out with a warning ("skip").

    Raises:
        FileNotFoundError: There is no such folder or part.
        ValueError: Something is wrong with a file or a box; the message names both.
    """
    root = Path(folder).expanduser()
    if not root.is_dir() or not is_voc(root):
        raise FileNotFoundError(
            f"Expected a folder in VOC's layout, with {_ANNOTATIONS[0]} and {_IMAGES[0]}. Received: {root}"
        )
    years = _years(root) or [root]
    known = voc_parts(root)
    if split not in known:
        raise FileNotFoundError(
            f"Expected a part of {root}, one of {', '.join(known)}. Received: {split!r}.{nearest(split, known)}"
        )
    names = tuple(class_names) if class_names is not None else _class_names(years)
    faults = Faults(on_corrupt)
    parts = [_opened(year, split, names, faults) for year in years if split in voc_parts(year)]
    opened = joined([BoxSplit(tuple(examples), names) for examples in parts])
    return checked(opened, faults, f"{split} of {root}")


def read_voc(path: str | Path) -> Element:
    """Returns the root element of an annotation in VOC's XML.

    The file is data alone: of at most 1 MiB and 16 elements inside each other, without a document type, so that no
    entity is expanded and nothing outside is read.

    Raises:
        ValueError: It is larger, deeper, or no XML.
    """
    path = Path(path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"Expected an annotation of at most {_MOST_BYTES:,} bytes. Received: {path}")
    builder, parser, depth = TreeBuilder(), expat.ParserCreate(), 0

    def refuse(*_: object) -> None:
        raise ValueError(f"Expected XML without a document type. Received: {path}")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"Expected at most {_DEEPEST} elements inside each other. Received: {path}")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, LookupError) as error:  # the latter of an unknown encoding
        raise ValueError(f"Expected VOC's XML. Received: {path}: {error}") from error
    return builder.close()


def _years(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(_YEARS) if (path / _LISTS).is_dir() and _first(path, _ANNOTATIONS))


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _folder_of(root: Path, names: Sequence[str]) -> Path:
    return _first(root, names) or root / names[0]


def _class_names(years: Sequence[Path]) -> tuple[str, ...]:
    for year in years:
        if (year / _CLASSES).is_file():
            return tuple(read_class_names(year / _CLASSES))
    found: set[str] = set()
    for year in years:
        for path in _annotations(year).values():
            try:
                found.update(_text(each, "name") for each in read_voc(path).iter("object"))
            except (ValueError, OSError):
                continue  # named where the image is read
    if not found:
        raise ValueError(f"Expected objects in the files of {years[0]}. Received: none")
    return tuple(sorted(found))


def _annotations(root: Path) -> dict[str, Path]:
    """Returns the annotation of each image of a folder, by the image's name."""
    paths = _folder_of(root, _ANNOTATIONS).iterdir()
    return {path.stem: path for path in sorted(paths) if path.suffix.lower() == ".xml" and not is_hidden(path.name)}


def _names(root: Path, split: str) -> list[str]:
    """Returns the names of the images of a part."""
    file = root / _LISTS / f"{split}.txt"
    if not (root / _LISTS).is_dir():
        names = list(_annotations(root))
        test = {name for name in names if _place(name) < _TEST_FRACTION} or set(names[:1])
        return [name for name in names if (name in test) == (split == "test")]
    annotations = _annotations(root)

    def name(line: str) -> str:
        # Lists of one class have 1, 0, or -1 after the name, with which a name itself may end.
        first, *last = line.rsplit(None, 1)
        whole = " ".join([first, *last])
        listed = last in (["1"], ["0"], ["-1"])
        return first if listed and whole not in annotations else whole

    return [name(line) for line in files.read_lines(file)]


def _place(name: str) -> float:
    """Returns a number in [0, 1) that depends on a name alone."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def _opened(root: Path, split: str, names: tuple[str, ...], faults: Faults) -> list[BoxExample]:
    images, annotations = _folder_of(root, _IMAGES), _folder_of(root, _ANNOTATIONS)
    found = []
    for name in _names(root, split):
        with faults.tolerated():
            if not files.is_plain_name(name):
                raise WrongImage(
                    f"Expected names of images in the list {split} of {root}. Received: {reprlib.repr(name)}"
                )
            found.append(_example(_image(images, name), annotations / f"{name}.xml", name, names, faults))
    return found


def _image(folder: Path, name: str) -> Path:
    candidates = (folder / f"{name}{suffix}" for suffix in [*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)])
    return next((path for path in candidates if path.is_file()), folder / f"{name}.jpg")


def _example(image: Path, annotation: Path, name: str, names: tuple[str, ...], faults: Faults) -> BoxExample:
    try:
        tree = read_voc(annotation)
    except ValueError as error:
        raise WrongImage(str(error)) from error
    except OSError as error:
        raise WrongImage(f"Expected the annotation {annotation}. Received: {error.strerror}") from error
    size = tree.find("size")
    stated = None if size is None else (_pixels(size, "height", annotation), _pixels(size, "width", annotation))
    height, width = check_image(image, stated)
    boxes = BoxList(height, width, names)
    for number, each in enumerate(tree.findall("object"), 1):
        what = f"object {number} in {annotation}"
        with faults.tolerated():
            label = boxes.label(_text(each, "name"), what)
            box = each.find("bndbox")
            if box is None:
                raise WrongBox(f"Expected an object with the element bndbox. Received: {what}, without")
            left, top, right, bottom = (_number(box, tag, what) for tag in ("xmin", "ymin", "xmax", "ymax"))
            if not (left < right and top < bottom):  # before the inclusive last pixel gives it an area
                raise WrongBox(
                    f"Expected boxes with an area. Received: {left:g}, {top:g}, {right:g}, {bottom:g} (xmin, ymin, "
                    f"xmax, ymax) of {what}"
                )
            boxes.add(
                (left - 1, top - 1, right, bottom), label, what, difficult=_text(each, "difficult") not in ("", "0")
            )
    return boxes.example(image, name)


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _number(element: Element, tag: str, what: str) -> float:
    text = _text(element, tag)
    try:
        return float(text)
    except ValueError as error:
        raise WrongBox(f"Expected a number in the element {tag} of {what}. Received: {text[:20]!r}") from error


def _pixels(size: Element, tag: str, annotation: Path) -> int:
    text = _text(size, tag)
    if not re.fullmatch("[0-9]{1,9}", text):
        raise WrongImage(f"Expected a size of whole pixels in {annotation}. Received: {text[:20]!r} as {tag}")
    return int(text)
