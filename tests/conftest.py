"""What several test files share: real data where there are any, and one trained run."""

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
    """The folder of real data sets and photographs; without it, the tests that need them are skipped."""
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
    """The folder of an export of `digits_run` in all formats of the default."""
    return export(digits_run, tmp_path_factory.mktemp("saved_models")).path


@pytest.fixture(scope="session")
def recent_keras() -> None:
    """Skips a test of what Keras 3.12, the last for Python 3.10, cannot do yet."""
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15):
        pytest.skip(
            f"Keras {keras.__version__} cannot do this: no max-pool on OpenVINO, no models in a Sequential cloned"
        )
