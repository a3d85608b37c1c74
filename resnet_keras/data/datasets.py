"""Data sets by name: facts about their images, not their location."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["package", "tfds", "folder", "arrays"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Facts about a data set before it is opened.

    Attributes:
        source: Where the images come from: this "package", TensorFlow Datasets ("tfds"), a "folder" of class
            folders, or the caller's "arrays".
        classes: Number of classes; `None` if known from the data alone.
        image_size: Height and width of the images in pixels; `None` if they differ.
        channels: 3 for RGB, 1 for gray, 0 if known from the data alone.
        mean: Mean of the training pixels, per channel, 0–255.
        std: Standard deviation of the training pixels, per channel.
        train_split: The split to train on.
        test_split: The split to evaluate on.
        version: Version of a set of TFDS; `None` before it is opened.
    """

    source: Source
    classes: int | None = None
    image_size: int | None = None
    channels: int = 3
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)  # ImageNet's, the usual values since fb.resnet.torch
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    train_split: str = "train"
    test_split: str = "test"
    version: str | None = None


DATASETS: dict[str, Dataset] = {
    "digits": Dataset(
        source="package", classes=10, image_size=8, channels=1, mean=(77.9,), std=(95.9,)
    ),  # scikit-learn's 1,797 handwritten digits
    "cifar10": Dataset(source="tfds", classes=10, image_size=32, mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7)),
    "cifar100": Dataset(source="tfds", classes=100, image_size=32, mean=(129.3, 124.1, 112.4), std=(68.2, 65.4, 70.4)),
    "imagenet2012": Dataset(source="tfds", classes=1000, test_split="validation"),
    "folder": Dataset(source="folder"),
}
"""Known data sets by name. Any other name is looked up in TensorFlow Datasets."""


def dataset(name: str) -> Dataset:
    """Returns the entry of `DATASETS` called `name`, or the defaults of a set of TFDS."""
    return DATASETS.get(name, Dataset(source="tfds", channels=0))
