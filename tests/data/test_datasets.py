"""The table of data sets: complete, and right about the pixels."""

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import numpy as np
import pytest

from resnet_keras.data.datasets import DATASETS, Dataset, dataset
from resnet_keras.data.opening import open_split
from resnet_keras.data.splits import ArraySplit, Split


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_has_a_mean_and_a_positive_std_per_channel(name: str) -> None:
    row = DATASETS[name]
    assert len(row.mean) == len(row.std) == row.channels
    assert all(0 < mean < 255 for mean in row.mean)
    assert all(0 < std < 127.5 for std in row.std)  # no larger on the scale 0–255


@pytest.mark.parametrize(
    ("name", "source", "classes", "image_size", "channels", "test_split"),
    [
        ("digits", "package", 10, 8, 1, "test"),
        ("cifar10", "tfds", 10, 32, 3, "test"),
        ("cifar100", "tfds", 100, 32, 3, "test"),
        ("imagenet2012", "tfds", 1000, None, 3, "validation"),
        ("folder", "folder", None, None, 3, "test"),
    ],
)
def test_rows_say_what_the_sets_are(
    name: str, source: str, classes: int | None, image_size: int | None, channels: int, test_split: str
) -> None:
    row = dataset(name)
    assert (row.source, row.classes, row.image_size, row.channels) == (source, classes, image_size, channels)
    assert (row.train_split, row.test_split) == ("train", test_split)


def test_an_unknown_name_is_one_of_tfds_of_which_nothing_is_known() -> None:
    row = dataset("oxford_flowers102")
    assert "oxford_flowers102" not in DATASETS
    assert (row.source, row.classes, row.image_size, row.channels) == ("tfds", None, None, 0)


@pytest.mark.parametrize("field", [field.name for field in fields(Dataset)])
def test_rows_are_frozen(field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(DATASETS["cifar10"], field, None)


@pytest.mark.parametrize("name", ["imagenet2012", "folder"])
def test_photographs_are_normalized_as_by_torchvision(name: str) -> None:
    np.testing.assert_allclose(np.array(DATASETS[name].mean) / 255, (0.485, 0.456, 0.406), atol=1e-6)
    np.testing.assert_allclose(np.array(DATASETS[name].std) / 255, (0.229, 0.224, 0.225), atol=1e-6)


def test_digits_have_the_mean_and_std_of_their_training_pixels() -> None:
    assert_moments("digits", open_split("digits", "train"))


@pytest.mark.slow
def test_cifar10_has_the_mean_and_std_of_its_training_pixels(cifar10_train: Split) -> None:
    assert_moments("cifar10", cifar10_train)


def test_cifar100_has_the_mean_and_std_of_its_training_pixels(test_data: Path) -> None:
    data_dir = test_data / "tensorflow_datasets"
    if not (data_dir / "cifar100").is_dir():
        pytest.skip(f"{data_dir} holds no cifar100")
    assert_moments("cifar100", open_split("cifar100", "train", data_dir=data_dir))


def assert_moments(name: str, split: Split) -> None:
    assert isinstance(split, ArraySplit)
    # From the histogram of each channel: exact, and without a copy of the pixels in float.
    levels = np.arange(256)
    for channel in range(split.images.shape[-1]):
        share = np.bincount(split.images[..., channel].ravel(), minlength=256) / split.images[..., channel].size
        mean = (share * levels).sum()
        std = np.sqrt((share * (levels - mean) ** 2).sum())
        assert DATASETS[name].mean[channel] == pytest.approx(mean, abs=0.1)
        assert DATASETS[name].std[channel] == pytest.approx(std, abs=0.1)
