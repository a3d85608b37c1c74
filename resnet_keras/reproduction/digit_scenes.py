"""Images of several digits with their boxes, for a detector to be tried on without any other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from resnet_keras import files
from resnet_keras.data.opening import open_split
from resnet_keras.data.splits import ArraySplit

COUNTS = {"train": 48, "test": 16}
"""Images of each part."""
SIDE = 64
"""Height and width of the images in pixels."""

_MOST, _SIDES, _NOISE = 3, (14, 28), 60  # digits of an image, their sides in pixels, levels of noise

_OBJECT = (
    "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
    "<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
)


def write_digit_scenes(folder: Path, seed: int = 0) -> Path:
    """Writes images of one to three digits on dark noise, in PASCAL VOC's layout; returns the folder.

    Digits of the training part are training digits of this package, those of the test part its test digits. They do
    not overlap. A folder that is complete stays as it is.

    Args:
        folder: Folder to write.
        seed: Seed of digits, sizes, places, and noise.
    """
    last = folder / "ImageSets" / "Main" / "test.txt"
    if last.is_file():
        return folder
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for part, count in COUNTS.items():
        names = [f"{part}{index:03d}" for index in range(count)]
        for name in names:
            _write_scene(folder, name, part, random)
        files.write_text(folder / "ImageSets" / "Main" / f"{part}.txt", "\n".join(names) + "\n")
    return folder


def _write_scene(folder: Path, name: str, part: str, random: np.random.Generator) -> None:
    split = open_split("digits", part)
    assert isinstance(split, ArraySplit)
    image = random.integers(0, _NOISE, (SIDE, SIDE, 3)).astype(np.uint8)
    taken = np.zeros((SIDE, SIDE), bool)
    objects = []
    for index in random.integers(0, len(split.labels), random.integers(1, _MOST + 1)):
        side = int(random.integers(*_SIDES))
        left, top = (int(edge) for edge in random.integers(0, SIDE - side, 2))
        place = np.s_[top : top + side, left : left + side]
        if taken[place].any():
            continue
        taken[place] = True
        pixels = Image.fromarray(split.images[index, ..., 0].astype(np.uint8)).resize((side, side))
        image[place] = np.maximum(image[place], np.asarray(pixels)[..., None])
        edges = {"left": left + 1, "top": top + 1, "right": left + side, "bottom": top + side}
        objects.append(_OBJECT.format(name=split.class_names[split.labels[index]], **edges))
    Image.fromarray(image).save(folder / "JPEGImages" / f"{name}.png")
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    files.write_text(folder / "Annotations" / f"{name}.xml", f"<annotation>{size}{''.join(objects)}</annotation>\n")
