"""Classifies images, e.g. `resnet predict runs/digits_resnet20 seven.png photos/ --json`."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

import resnet_keras
from resnet_keras.cli.program import run, start_tensorflow

_log = logging.getLogger(__name__)

_Found = TypeVar("_Found")

SOME_FAILED = 1
"""Exit status when some of the images could not be read; the others are predicted."""


def predict(
    source: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[Path, ...]],
    *,
    top_k: int = 5,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
    masks: Path | None = None,
    boxes: Path | None = None,
    least_score: float | None = None,
) -> int:
    """Prints the most probable classes of each image. Images that cannot be read are named; then the status is 1.

    With the file of a segmenter, it prints the classes that cover most of each image; with that of a detector, the
    objects in each image: class, score, and left, top, right, and bottom edge in pixels; with that of a localizer, the
    most probable classes with a box of each. An export's .tflite file runs in LiteRT, without TensorFlow.

    Args:
        source: Folder of a finished run or an export, a file of weights, or a name: resnet20_digits, hf://OWNER/NAME.
        images: Image files and folders of images.
        top_k: Number of classes to print for each image.
        json_output: Print JSON, one line per image.
        masks: Folder for the masks of a segmenter, NAME.mask.png, and for the images with them, NAME.overlay.png. NAME
            is the path below the folder of all images.
        boxes: Folder for the images with the boxes of a detector, or the best one of a localizer, NAME.boxes.png.
        least_score: Least score of a detector's objects, 0 to 1; 0.5 if it is not given.
    """
    if not images:
        raise ValueError("Expected images or folders of images. Received: none")
    found_by = {"--masks": masks, "--boxes": boxes, "--least-score": least_score}
    if resnet_keras.exporting.is_litert(source):
        _expect_only("", found_by, f"{source}, an export of a classifier")
        exported = resnet_keras.exporting.LiteRTClassifier.open(source)
        return _print(exported.predictions(images, top_k, on_corrupt="skip"), images, json_output)
    start_tensorflow(single_images=True)
    if resnet_keras.segmentation.is_segmenter(source):
        _expect_only("--masks", found_by, f"{source}, a segmenter")
        return _segment(source, images, top_k, json_output, masks)
    if resnet_keras.detection.is_detector(source):
        _expect_only("--boxes --least-score", found_by, f"{source}, a detector")
        return _detect(source, images, json_output, boxes, 0.5 if least_score is None else least_score)
    if resnet_keras.detection.is_localizer(source):
        _expect_only("--boxes", found_by, f"{source}, a localizer")
        return _localize(source, images, top_k, json_output, boxes)
    _expect_only("", found_by, f"{source}, a classifier")
    classifier = resnet_keras.Classifier.from_pretrained(source)
    return _print(resnet_keras.predict(classifier, images, top_k=top_k, on_corrupt="skip"), images, json_output)


def _print(predictions: Iterable[Any], images: Sequence[Path], json_output: bool) -> int:
    wanted, predicted = len(resnet_keras.data.image_paths(images)), 0
    for prediction in predictions:
        predicted += 1
        if json_output:
            classes = [{"class": name, "probability": value} for name, value in prediction.classes]
            print(json.dumps({"image": prediction.path, "classes": classes}), flush=True)
        else:
            print(prediction, flush=True)
    if not predicted:
        raise ValueError(f"Expected images that can be read. Received: {wanted}, none of which can")
    return 0 if predicted == wanted else SOME_FAILED


def _expect_only(own: str, given: Mapping[str, object], source: str) -> None:
    """Raises an error if a flag is given that is of other networks."""
    if wrong := [flag for flag, value in given.items() if value is not None and flag not in own]:
        kinds = "segmenters" if wrong[0] == "--masks" else "detectors"
        raise ValueError(f"Expected no {wrong[0]}, which is of {kinds}. Received: {given[wrong[0]]}, for {source}")


def _segment(source: str, images: Sequence[Path], top_k: int, json_output: bool, masks: Path | None) -> int:
    segmentation = resnet_keras.segmentation
    if top_k < 1:
        raise ValueError(f"Expected --top-k of at least 1. Received: {top_k}")
    segmenter = segmentation.Segmenter.load(source)

    def show(path: Path, found: tuple[Any, Any], to: Path | None) -> None:
        pixels, mask = found
        covered = segmentation.covered_fractions(mask, segmenter.class_names)
        most = sorted(covered.items(), key=lambda pair: -pair[1])[:top_k]
        if to is not None:
            segmentation.write_mask(to, pixels, mask, len(segmenter.class_names))
        if json_output:
            classes = [{"class": name, "fraction": value} for name, value in most]
            print(json.dumps({"image": str(path), "classes": classes}))
        else:
            print(f"{path}: " + ", ".join(f"{name} {value:.2%}" for name, value in most))

    return _each(images, lambda path: next(segmenter.masks(path)), show, "--masks", masks)


def _detect(source: str, images: Sequence[Path], json_output: bool, boxes: Path | None, least_score: float) -> int:
    detection = resnet_keras.detection
    if not 0 <= least_score <= 1:
        raise ValueError(f"Expected --least-score from 0 to 1. Received: {least_score}")
    detector = detection.Detector.load(source)
    names = detector.class_names

    def show(path: Path, result: tuple[Any, Any], to: Path | None) -> None:
        pixels, every = result
        found = detection.FoundBoxes(*(values[every.scores >= least_score] for values in every))
        if to is not None:
            detection.write_boxes(to, pixels, found, names)
        rows = [(names[label], float(score), box.tolist()) for box, score, label in zip(*found, strict=True)]
        if json_output:
            objects = [{"class": name, "score": score, "box": box} for name, score, box in rows]
            print(json.dumps({"image": str(path), "objects": objects}))
        else:
            print(f"{path}: {len(rows)} objects")
            for name, score, box in rows:
                print(f"  {name} {score:.2%} at " + ", ".join(f"{edge:.1f}" for edge in box))

    return _each(images, lambda path: next(detector.detections(path)), show, "--boxes", boxes)


def _localize(source: str, images: Sequence[Path], top_k: int, json_output: bool, boxes: Path | None) -> int:
    detection = resnet_keras.detection
    localizer = detection.Localizer.load(source)
    names = localizer.class_names

    def show(path: Path, result: tuple[Any, Any], to: Path | None) -> None:
        pixels, found = result
        if to is not None:
            best = detection.FoundBoxes(*(values[:1] for values in found))
            detection.write_boxes(to, pixels, best, names)
        rows = [(names[label], float(score), box.tolist()) for box, score, label in zip(*found, strict=True)]
        if json_output:
            classes = [{"class": name, "probability": score, "box": box} for name, score, box in rows]
            print(json.dumps({"image": str(path), "classes": classes}))
        else:
            shown = (f"{name} {score:.2%} at " + ", ".join(f"{edge:.1f}" for edge in box) for name, score, box in rows)
            print(f"{path}: " + "; ".join(shown))

    return _each(images, lambda path: next(localizer.localizations(path, top_k=top_k)), show, "--boxes", boxes)


def _each(
    images: Sequence[Path],
    read: Callable[[Path], _Found],
    show: Callable[[Path, _Found, Path | None], None],
    flag: str,
    folder: Path | None,
) -> int:
    """Shows what is found in each image; those that cannot be read are named. Returns the exit status.

    Args:
        images: Image files and folders of images.
        read: Returns what is found in an image file.
        show: Prints it and writes it to a path without an ending, if there is a folder.
        flag: Name of the folder's flag.
        folder: Folder of the results.
    """
    paths = resnet_keras.data.image_paths(images)
    targets: Mapping[Path, Path | None] = dict.fromkeys(paths)
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"Expected a folder for the results ({flag}). Received: {folder}, a file")
        targets = _targets(paths, folder)
    failed = 0
    for path in paths:
        try:
            found = read(path)
        except (ValueError, OSError) as error:
            _log.warning("%s", error)
            failed += 1
            continue
        show(path, found, targets[path])
        sys.stdout.flush()  # each image is seen at once; a closed pipe is no image that cannot be read
    if failed == len(paths):
        raise ValueError(f"Expected images that can be read. Received: {len(paths)}, none of which can")
    return SOME_FAILED if failed else 0


def _targets(paths: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Returns where the result of each image goes, without its ending: its path below the folder of all images.

    Results keep the endings of their images where two images differ by them alone.
    """
    whole = {path: Path(os.path.abspath(path)) for path in paths}
    root = os.path.commonpath([path.parent for path in whole.values()])
    inside = {path: each.relative_to(root) for path, each in whole.items()}
    bare = {path: each.with_suffix("") for path, each in inside.items()}
    alike = len(set(bare.values())) < len(set(inside.values()))
    return {path: folder / (inside if alike else bare)[path] for path in paths}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet predict`."""
    return run(predict, "resnet predict", argv, tensorflow=False)
