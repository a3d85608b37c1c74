"""Fixtures of several tests of data."""

from pathlib import Path

import pytest

from resnet_keras.data.opening import open_split
from resnet_keras.data.splits import Split


@pytest.fixture(scope="session")
def cifar10_train(test_data: Path) -> Split:
    """The training images of CIFAR-10, which take seconds to decode."""
    data_dir = test_data / "tensorflow_datasets"
    if not (data_dir / "cifar10").is_dir():
        pytest.skip(f"{data_dir} holds no cifar10")
    return open_split("cifar10", "train", data_dir=data_dir)
