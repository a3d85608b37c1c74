"""Evaluates a run or a file, e.g. `resnet-evaluate runs/cifar10_resnet20`."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

import resnet_keras
from resnet_keras.cli.program import run


def evaluate(
    source: tyro.conf.Positional[Path],
    *,
    split: str = "test",
    dataset: str | None = None,
    data_dir: Path | None = None,
    batch_size: int = 128,
    skip_broken: bool = False,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Prints top-1 and top-5 error of a classifier on a split, each image seen once, cropped in the centre.

    Args:
        source: Folder of a finished run, or a .keras file that one has written.
        split: train or test; of a TFDS set, any split.
        dataset: Data set; the run's own if None.
        data_dir: Where it lies; where the run had it if None.
        batch_size: Images per step.
        skip_broken: Leave out and count broken images, labels outside the classes and empty classes.
        json_output: Print JSON.
    """
    classifier = resnet_keras.Classifier.load(source)
    dataset, place = resnet_keras.dataset_of(source, dataset, data_dir)
    tell = functools.partial(print, file=sys.stderr) if skip_broken else None
    data = resnet_keras.open_whole(dataset, split, data_dir=place, skip=tell)
    evaluation = resnet_keras.evaluate(classifier, data, batch_size=batch_size)
    print(json.dumps(asdict(evaluation)) if json_output else f"{source} on {dataset}/{split}: {evaluation}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet-evaluate`."""
    return run(evaluate, "resnet-evaluate", argv)
