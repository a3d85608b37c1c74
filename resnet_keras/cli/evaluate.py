"""Evaluates runs or files, e.g. `resnet evaluate runs/cifar10_resnet20 --crops ten`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import tyro

import resnet_keras
from resnet_keras.cli.program import run

SECTIONS = {
    "Images": ("dataset", "data-dir", "split", "skip-broken"),
    "Views": ("crops", "scales", "flip", "average", "batch-size"),
    "Output": ("details", "json"),
}


def evaluate(
    sources: tyro.conf.Positional[tuple[str, ...]],
    *,
    split: str = "test",
    dataset: str | None = None,
    data_dir: Path | None = None,
    crops: Literal["center", "ten", "full"] = "center",
    scales: tuple[int, ...] = (),
    flip: bool = False,
    average: Literal["probabilities", "logits"] = "probabilities",
    batch_size: int = 128,
    details: Path | None = None,
    skip_broken: bool = False,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Prints the top-1 and top-5 error of a classifier, or of an ensemble that averages the scores of several.

    Args:
        sources: Folders of finished runs, files of weights, or names of weights in the package: resnet20_digits.
        split: train or test; all for a folder of images; any split of a TensorFlow data set.
        dataset: Name of the data set; the run's own if it is not given.
        data_dir: Folder of TensorFlow Datasets, or of class folders; the run's own if it is not given.
        crops: The center of each image, ten crops (corners and center, mirrored too), or the full image.
        scales: Shorter sides in pixels to resize images to; the paper's five for full images.
        flip: Add the mirrored image of each view.
        average: Average probabilities or logits over views and classifiers.
        batch_size: Views per step.
        details: Write per-class accuracy and the confusion matrix (CSV, PNG) to this folder.
        skip_broken: Skip and count broken images, labels outside the classes, and empty classes.
        json_output: Print JSON.
    """
    if not sources:
        raise ValueError("Expected a run folder or a .keras file. Received: none")
    classifiers = [resnet_keras.Classifier.from_pretrained(source) for source in sources]
    dataset, place = resnet_keras.runs.dataset_of(sources[0], dataset, data_dir)
    data = resnet_keras.open_split(dataset, split, data_dir=place, on_corrupt="skip" if skip_broken else "raise")
    views = resnet_keras.evaluation.Views(crops=crops, scales=scales, flip=flip, average=average)
    predictions = resnet_keras.evaluation.predict_split(classifiers, data, views=views, batch_size=batch_size)
    if details is not None:
        resnet_keras.evaluation.write_details(predictions, details)
    names = " + ".join(map(str, sources))
    result = predictions.evaluation
    print(json.dumps(asdict(result)) if json_output else f"{names} on {dataset}/{split}: {result}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet evaluate`."""
    return run(evaluate, "resnet evaluate", argv, sections=SECTIONS)
