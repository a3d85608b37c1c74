"""Small folders of images with boxes, in VOC's and COCO's layout."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Box = tuple[str, float, float, float, float]  # class, left, top, right, bottom


class VocFolder:
    """A folder in VOC's layout that grows image by image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def add(
        self,
        name: str,
        boxes: Sequence[Box] = (),
        *,
        size: tuple[int, int] = (40, 60),
        stated: tuple[int, int] | None = None,
        part: str = "train",
        difficult: bool = False,
    ) -> Path:
        """Adds an image (height, width) with boxes as VOC counts them; returns its annotation."""
        objects = "".join(
            f"<object><name>{kind}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{a}</xmin>"
            f"<ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
            for kind, a, b, c, d in boxes
        )
        high, wide = stated or size
        file = self.root / "Annotations" / f"{name}.xml"
        file.write_text(
            f"<annotation><size><width>{wide}</width><height>{high}</height><depth>3</depth></size>{objects}"
            "</annotation>"
        )
        rows, columns = np.indices(size)
        pixels = np.stack([rows * 3 % 256, columns * 2 % 256, (rows + columns) % 256], -1).astype(np.uint8)
        Image.fromarray(pixels).save(self.root / "JPEGImages" / f"{name}.jpg")
        with (self.root / "ImageSets" / "Main" / f"{part}.txt").open("a") as lines:
            lines.write(f"{name}\n")
        return file


def write_coco(root: Path, annotations: Sequence[dict[str, Any]], *, part: str = "train2017", **changes: Any) -> Path:
    """Writes two images of 40x60, numbered 7 and 9, with annotations; returns the JSON file."""
    (root / part).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    for number in (7, 9):
        Image.new("RGB", (60, 40), (number, 90, 200)).save(root / part / f"{number:012d}.jpg")
    content = {
        "images": [{"id": number, "file_name": f"{number:012d}.jpg", "height": 40, "width": 60} for number in (7, 9)],
        "annotations": [{"id": index, "image_id": 7, **each} for index, each in enumerate(annotations, 1)],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}],
    } | changes
    file = root / "annotations" / f"instances_{part}.json"
    file.write_text(json.dumps(content))
    return file
