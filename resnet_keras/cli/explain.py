"""Draws where in an image a network finds a class, e.g. `resnet explain resnet18.keras canoe.jpg --class paddle`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

import resnet_keras
from resnet_keras.cli.program import run


def explain(
    source: tyro.conf.Positional[str],
    image: tyro.conf.Positional[Path],
    *,
    class_name: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    to: Path | None = None,
) -> None:
    """Writes a heat map over an image: where the network finds a class, by Grad-CAM (arXiv:1610.02391).

    Args:
        source: Folder of a finished run, a file of weights, or a name: resnet20_digits, hf://OWNER/NAME.
        image: Image file.
        class_name: Name of the class; the most probable one if it is not given.
        to: PNG file to write; IMAGE_heat_map.png in the current folder if it is not given.
    """
    target = to or Path(f"{image.stem}_heat_map.png")
    if target.suffix.lower() != ".png":
        raise ValueError(f"Expected a file ending in .png for `to`. Received: {target}")
    explanation = resnet_keras.Classifier.from_pretrained(source).explain(image, class_name)
    explanation.save(target)
    print(f"{explanation}; {target}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet explain`."""
    return run(explain, "resnet explain", argv, single_images=True)
