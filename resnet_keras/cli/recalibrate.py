"""Recalibrates batch normalization, e.g. `resnet recalibrate runs/r20 --to r20.keras`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

import resnet_keras
from resnet_keras.cli.program import run

if TYPE_CHECKING:
    from resnet_keras.data.splits import Split


def recalibrate(
    source: tyro.conf.Positional[str],
    *,
    to: Path,
    dataset: str | None = None,
    data_dir: Path | None = None,
    images: int = 10_000,
    batch_size: int = 128,
) -> None:
    """Writes a .keras file whose batch normalization has true averages over training images, not moving averages.

    Args:
        source: Folder of a finished run, a file of weights, or a name of weights in the package: resnet20_digits.
        to: The .keras file to write.
        dataset: Name of the data set; the run's own if it is not given.
        data_dir: Folder of TensorFlow Datasets, or of class folders; the run's own if it is not given.
        images: Largest number of training images to use.
        batch_size: Images per batch; use that of the training.
    """
    if to.suffix != ".keras":
        raise ValueError(f"Expected a file ending in .keras for --to. Received: {to}")
    classifier = resnet_keras.Classifier.from_pretrained(source)
    dataset, place = resnet_keras.runs.dataset_of(source, dataset, data_dir)
    split = resnet_keras.data.stratified_sample(resnet_keras.open_split(dataset, "train", data_dir=place), images)
    batches = resnet_keras.data.evaluation_batches(_mixed(split), classifier.preprocessing, batch_size)
    seen = resnet_keras.surgery.recalibrate(classifier.model, batches)
    classifier.save(to)
    print(f"{to}: statistics of {seen:,} training images")


def _mixed(split: Split) -> Split:
    """Returns the images in random order: those of class folders come class by class. Records are mixed already."""
    import numpy as np  # not at the top: these load NumPy and TensorFlow

    from resnet_keras.data.sampling import subset
    from resnet_keras.data.splits import RecordSplit

    if isinstance(split, RecordSplit):
        return split
    return subset(split, np.random.default_rng(0).permutation(len(split)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet recalibrate`."""
    return run(recalibrate, "resnet recalibrate", argv)
