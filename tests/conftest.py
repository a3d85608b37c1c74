"""Fixtures of several test files: the folder of real data, a trained run, and its export."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

from resnet_keras.exporting.exporter import export
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.trainer import train


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets and photographs; tests that need it are skipped without it."""
    folder = os.environ.get("RESNET_KERAS_TEST_DATA")
    if not folder:
        pytest.skip("RESNET_KERAS_TEST_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: ResNet-20 on digits, six epochs."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(RECIPES["digits"].replace(epochs=6), folder)
    return folder


@pytest.fixture(scope="session")
def digits_export(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export of `digits_run` in the default formats."""
    return export(digits_run, tmp_path_factory.mktemp("saved_models")).path


@pytest.fixture(scope="session")
def recent_keras() -> None:
    """Skips a test of features that Keras 3.12, the last version for Python 3.10, does not have."""
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15):
        pytest.skip(
            f"Keras {keras.__version__} cannot do this: no max-pool on OpenVINO, no models in a Sequential cloned"
        )
