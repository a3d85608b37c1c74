"""Pictures of detections: boxes with their classes and scores over the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resnet_keras import files
from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.segmentation.segmenter import class_colors

_LINES_PER_SIDE, _TEXTS_PER_SIDE = 250, 40  # of the shorter side
_SMALLEST_TEXT = 9


def draw_boxes(image: Any, found: FoundBoxes, class_names: Sequence[str]) -> np.ndarray:
    """Returns an image with the boxes in it, the best on top, each with its class and score: uint8 (H, W, 3).

    Args:
        image: Pixels 0–255, RGB or gray (H, W, C).
        found: Objects in the image, in its pixels; see `Detector.predict`.
        class_names: Names of the classes.
    """
    pixels = np.asarray(image)
    pixels = np.broadcast_to(np.rint(pixels), (*pixels.shape[:2], 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    pen, side = ImageDraw.Draw(picture), min(picture.size)
    width = max(side // _LINES_PER_SIDE, 1)
    font = ImageFont.load_default(max(side // _TEXTS_PER_SIDE, _SMALLEST_TEXT))
    colors = class_colors(len(class_names) + 1)[1:]  # the first is black
    for place in np.argsort(found.scores, kind="stable"):
        left, top, right, bottom = map(float, found.boxes[place])
        label = int(found.labels[place])
        color = tuple(map(int, colors[label]))
        pen.rectangle((left, top, max(right, left), max(bottom, top)), outline=color, width=width)
        text = f"{class_names[label]} {found.scores[place]:.0%}"
        box = pen.textbbox((left + width, top + width), text, font=font)
        pen.rectangle(box, fill=color)
        pen.text((left + width, top + width), text, font=font, fill="black" if sum(color) > 3 * 127 else "white")
    return np.asarray(picture)


def write_boxes(to: str | Path, image: np.ndarray, found: FoundBoxes, class_names: Sequence[str]) -> None:
    """Writes TO.boxes.png, the image with the boxes in it; see `draw_boxes`.

    Args:
        to: Path without an ending; its folder is made if there is none.
        image: Pixels 0–255 (H, W, C).
        found: Objects in the image.
        class_names: Names of the classes.
    """
    picture = Image.fromarray(draw_boxes(image, found, class_names))
    Path(to).parent.mkdir(parents=True, exist_ok=True)
    with files.new_file(f"{to}.boxes.png") as aside:
        picture.save(aside, "PNG")
