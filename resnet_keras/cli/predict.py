"""Classifies images, e.g. `resnet predict runs/digits_resnet20 seven.png photos/ --json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

import resnet_keras
from resnet_keras.cli.program import run

SOME_FAILED = 1
"""Exit status when some of the images could not be read; the others are predicted."""


def predict(
    source: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[Path, ...]],
    *,
    top_k: int = 5,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> int:
    """Prints the most probable classes of each image. Images that cannot be read are named; then the status is 1.

    Args:
        source: Folder of a finished run, a file of weights, or a name: resnet20_digits, hf://OWNER/NAME.
        images: Image files and folders of images.
        top_k: Number of classes to print for each image.
        json_output: Print JSON, one line per image.
    """
    if not images:
        raise ValueError("Expected images or folders of images. Received: none")
    classifier = resnet_keras.Classifier.from_pretrained(source)
    wanted, predicted = len(resnet_keras.data.image_paths(images)), 0
    for prediction in resnet_keras.predict(classifier, images, top_k=top_k, on_corrupt="skip"):
        predicted += 1
        if json_output:
            classes = [{"class": name, "probability": value} for name, value in prediction.classes]
            print(json.dumps({"image": prediction.path, "classes": classes}))
        else:
            print(prediction)
    if not predicted:
        raise ValueError(f"Expected images that can be read. Received: {wanted}, none of which can")
    return 0 if predicted == wanted else SOME_FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet predict`."""
    return run(predict, "resnet predict", argv)
