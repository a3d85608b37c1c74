"""Classifies images, e.g. `resnet predict runs/digits_resnet20 seven.png photos/ --json`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

import resnet_keras
from resnet_keras.cli.program import run

_log = logging.getLogger(__name__)

SOME_FAILED = 1
"""Exit status when some of the images could not be read; the others are predicted."""


def predict(
    source: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[Path, ...]],
    *,
    top_k: int = 5,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
    masks: Path | None = None,
) -> int:
    """Prints the most probable classes of each image. Images that cannot be read are named; then the status is 1.

    With the file of a segmenter, it prints the classes that cover most of each image.

    Args:
        source: Folder of a finished run, a file of weights, or a name: resnet20_digits, hf://OWNER/NAME.
        images: Image files and folders of images.
        top_k: Number of classes to print for each image.
        json_output: Print JSON, one line per image.
        masks: Folder for the masks of a segmenter, NAME.mask.png, and for the images with them, NAME.overlay.png.
    """
    if not images:
        raise ValueError("Expected images or folders of images. Received: none")
    if resnet_keras.segmentation.is_segmenter(source):
        return _segment(source, images, top_k, json_output, masks)
    if masks is not None:
        raise ValueError(f"Expected no --masks: they are of segmenters. Received: {masks}, for {source}")
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


def _segment(source: str, images: Sequence[Path], top_k: int, json_output: bool, masks: Path | None) -> int:
    segmentation = resnet_keras.segmentation
    segmenter = segmentation.Segmenter.load(source)
    paths = resnet_keras.data.image_paths(images)
    failed = 0
    for path in paths:
        try:
            ((pixels, mask),) = segmenter.masks(path)
        except (ValueError, OSError) as error:
            _log.warning("%s", error)
            failed += 1
            continue
        covered = segmentation.covered_fractions(mask, segmenter.class_names)
        most = sorted(covered.items(), key=lambda pair: -pair[1])[:top_k]
        if masks is not None:
            segmentation.write_mask(masks / path.stem, pixels, mask, len(segmenter.class_names))
        if json_output:
            classes = [{"class": name, "fraction": value} for name, value in most]
            print(json.dumps({"image": str(path), "classes": classes}))
        else:
            print(f"{path}: " + ", ".join(f"{name} {value:.2%}" for name, value in most))
    if failed == len(paths):
        raise ValueError(f"Expected images that can be read. Received: {len(paths)}, none of which can")
    return SOME_FAILED if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet predict`."""
    return run(predict, "resnet predict", argv)
