"""Images with boxes in COCO's layout: one JSON file for the images of each part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown  # of any size and depth
from typing import Any, NoReturn, TypeGuard

from resnet_keras import files
from resnet_keras.checks.fields import nearest
from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.detection.box_split import (
    BoxExample,
    BoxList,
    BoxSplit,
    Faults,
    WrongBox,
    WrongImage,
    check_image,
)
from resnet_keras.detection.image_reading import checked

_MOST_BYTES = 2**30
"""Size of a JSON file; COCO's instances_train2017.json has 449 MB."""

_PREFIX = "instances_"
_ROBOFLOW = "_annotations.coco.json"
_LISTS = ("images", "annotations", "categories")


def is_coco(folder: Path) -> bool:
    """Returns whether a folder has COCO's layout."""
    return bool(coco_parts(folder))


def coco_parts(folder: Path) -> dict[str, Path]:
    """Returns the JSON file of each part of a folder: `train2017`, `val2017`, or the names of its folders."""
    found = {path.stem.removeprefix(_PREFIX): path for path in sorted(folder.glob(f"annotations/{_PREFIX}*.json"))}
    return found | {path.parent.name: path for path in sorted(folder.glob(f"*/{_ROBOFLOW}"))}


def open_coco(
    folder: str | Path,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    on_corrupt: OnCorrupt = "raise",
) -> BoxSplit:
    """Opens a part of a folder in COCO's layout: `annotations/instances_SPLIT.json`, and the images in `SPLIT`.

    A folder `SPLIT` with `_annotations.coco.json` beside its images is known, too. The numbers of COCO's 80 classes go
    from 1 to 90 with holes; here labels are 0 to 79, in the order of the numbers, and `category_ids` has the numbers.
    Boxes are left, top, width, and height in pixels from 0. An image without objects stays.

    Args:
        folder: The folder.
        split: "train2017", "val2017", or another part; its beginning is enough if no other part has it.
        class_names: Names of the classes, in the order of the labels; those of the file if `None`.
        on_corrupt: A box without area, outside its image, or of an unknown class, and a missing or broken image or one
            of another size than stated are errors ("raise"), or left out with a warning ("skip").

    Raises:
        FileNotFoundError: There is no such folder or part.
        ValueError: The file is larger than 1 GiB or not COCO's, or something is wrong with an image or a box; the
            message names the file and the box.
    """
    root = Path(folder).expanduser()
    parts = coco_parts(root) if root.is_dir() else {}
    matching = [name for name in parts if name == split] or [name for name in parts if name.startswith(split)]
    if len(matching) != 1:
        raise FileNotFoundError(
            f"Expected a part of a folder in COCO's layout (annotations/{_PREFIX}SPLIT.json), one of "
            f"{', '.join(parts) or 'none that are there'}. Received: {split!r} of {root}.{nearest(split, parts)}"
        )
    file = parts[matching[0]]
    content = _read(file)
    ids, names = _categories(content["categories"], file)
    labels = dict(zip(ids, names, strict=True))
    if class_names is not None:
        numbers = {name: number for number, name in labels.items()}
        ids = tuple(numbers.get(name, -1) for name in class_names)
    names = tuple(class_names) if class_names is not None else names
    faults = Faults(on_corrupt)
    annotations = _by_image(content, file, faults)
    images = file.parent if file.name == _ROBOFLOW else _image_folder(root, matching[0])
    examples = []
    for image in content["images"]:
        with faults.tolerated():
            examples.append(_example(image, images, annotations, labels, names, file, faults))
    return checked(BoxSplit(tuple(examples), names, ids), faults, f"{matching[0]} of {root}")


def _read(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(f"Expected a file of at most {_MOST_BYTES:,} bytes. Received: {file}")

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        content = files.parse_json(file.read_bytes(), parse_constant=refuse)
    except ValueError as error:
        raise ValueError(f"Expected COCO's JSON. Received: {file}: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in _LISTS):
        raise ValueError(f"Expected COCO's JSON, an object with the lists {', '.join(_LISTS)}. Received: {file}")
    return content


def _categories(found: Sequence[Any], file: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns the numbers and the names of the classes, in the order of the numbers."""
    pairs: dict[int, str] = {}
    known: set[str] = set()
    for each in found:
        number, name = (each.get(key) if isinstance(each, dict) else None for key in ("id", "name"))
        if not _is_whole(number) or not isinstance(name, str):
            raise ValueError(f"Expected categories with a number, id, and a name. Received: {shown(each)} in {file}")
        if number in pairs or name in known:
            raise ValueError(
                f"Expected categories of different numbers and names. Received: {shown(each)} twice in {file}"
            )
        pairs[number] = name
        known.add(name)
    if not pairs:
        raise ValueError(f"Expected categories. Received: none in {file}")
    return tuple(sorted(pairs)), tuple(pairs[number] for number in sorted(pairs))


def _by_image(content: Mapping[str, Any], file: Path, faults: Faults) -> dict[int, list[dict[str, Any]]]:
    known = {image["id"] for image in content["images"] if isinstance(image, dict) and _is_whole(image.get("id"))}
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for number, each in enumerate(content["annotations"]):
        with faults.tolerated():
            image = each.get("image_id") if isinstance(each, dict) else None
            if not _is_whole(image) or image not in known:
                raise WrongBox(
                    f"Expected annotations of images in {file}. Received: image {shown(image)} of number {number}"
                )
            found[image].append(each)
    return found


def _image_folder(root: Path, part: str) -> Path:
    return next((root / name for name in (part, f"images/{part}", "images") if (root / name).is_dir()), root)


def _example(
    image: Any,
    folder: Path,
    annotations: Mapping[int, list[dict[str, Any]]],
    categories: Mapping[int, str],
    names: tuple[str, ...],
    file: Path,
    faults: Faults,
) -> BoxExample:
    fields = image if isinstance(image, dict) else {}
    identity, name = fields.get("id"), fields.get("file_name")
    if not isinstance(identity, int) or not isinstance(name, str) or not files.is_plain_name(name):
        raise WrongImage(f"Expected images with id and file_name in {file}. Received: {shown(image)}")
    stated = (fields.get("height"), fields.get("width"))
    if not all(map(_is_whole, stated)):
        raise WrongImage(f"Expected images with height and width in {file}. Received: {shown(stated)} of {name}")
    height, width = check_image(folder / name, (int(stated[0]), int(stated[1])))  # type: ignore[arg-type]
    boxes = BoxList(height, width, names)
    for each in annotations.get(identity, ()):
        what = f"annotation {shown(each.get('id'))} of {name} in {file}"
        with faults.tolerated():
            category = each.get("category_id")
            name_of = categories.get(category) if isinstance(category, int) else None
            label = boxes.label(name_of or shown(category), what)
            left, top, wide, high = _box(each.get("bbox"), what)
            boxes.add(
                (left, top, left + wide, top + high),
                label,
                what,
                crowd=bool(each.get("iscrowd")),
                area=_area(each.get("area"), what),
            )
    return boxes.example(folder / name, identity)


def _box(found: Any, what: str) -> list[float]:
    if not isinstance(found, list) or len(found) != 4 or not all(_is_number(each) for each in found):
        raise WrongBox(f"Expected bbox of 4 numbers. Received: {shown(found)} of {what}")
    return [float(each) for each in found]


def _area(found: Any, what: str) -> float | None:
    if found is not None and (not _is_number(found) or found < 0):
        raise WrongBox(f"Expected a number as area. Received: {shown(found)} of {what}")
    return None if found is None else float(found)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**31
