"""Images with boxes in any layout that is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resnet_keras.checks.fields import nearest
from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.coco_files import coco_parts, is_coco, open_coco
from resnet_keras.detection.voc_files import is_voc, open_voc, voc_parts

_PARTS = {
    "train": ("trainval", "train", "train2017", "train2014"),
    "validation": ("val", "valid", "validation", "val2017", "val2014"),
    "test": ("test", "val", "valid", "validation", "test2017", "val2017", "val2014"),
}
"""Names that each part of a training run has in the layouts, in the order in which they are looked for."""


def box_parts(folder: str | Path) -> list[str]:
    """Returns the parts of a folder in VOC's or COCO's layout.

    Raises:
        FileNotFoundError: There is no such folder, or it has neither layout.
    """
    root = Path(folder).expanduser()
    if root.is_dir() and is_voc(root):
        return voc_parts(root)
    if root.is_dir() and is_coco(root):
        return list(coco_parts(root))
    raise FileNotFoundError(
        "Expected a folder of images with boxes, in VOC's layout (Annotations, JPEGImages, ImageSets/Main) or COCO's "
        f"(annotations/instances_*.json). Received: {root}"
    )


def open_boxes(
    folder: str | Path,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    on_corrupt: OnCorrupt = "raise",
) -> BoxSplit:
    """Opens a part of a folder of images with boxes, in VOC's layout or COCO's; see `open_voc` and `open_coco`.

    Args:
        folder: The folder.
        split: A part that is there. Otherwise "train" is trainval, train, or train2017, whichever is there; "test" is
            test, val, or val2017; and "validation" is val, if it is a part of neither.
        class_names: Names of the classes, in the order of the labels; those of the files if `None`.
        on_corrupt: Wrong boxes and images are errors ("raise"), or left out with a warning ("skip").

    Raises:
        FileNotFoundError: There is no such folder or part.
        ValueError: Something is wrong with a file or a box; the message names both.
    """
    root = Path(folder).expanduser()
    known = box_parts(root)
    part = split if split in known else run_part(known, split)
    if part is None:
        raise FileNotFoundError(
            f"Expected a part of {root}, one of {', '.join(known)}. Received: {split!r}.{nearest(split, known)}"
        )
    opened = open_voc if is_voc(root) else open_coco
    return opened(root, part, class_names=class_names, on_corrupt=on_corrupt)


def run_part(known: Sequence[str], part: str) -> str | None:
    """Returns the name that a part of a training run has among the parts of a folder; `None` if there is none.

    Training has trainval only where there is a test part; otherwise val is the test part.
    """
    if part == "validation":
        taken = {run_part(known, "train"), run_part(known, "test")}
        free = [name for name in _PARTS[part] if name in known and name not in taken]
        return free[0] if free and "trainval" not in taken else None
    names = [name for name in _PARTS.get(part, (part,)) if name in known]
    if part == "train" and "test" not in known:
        names = [name for name in names if name != "trainval"]
    return names[0] if names else None
