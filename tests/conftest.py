"""Fixtures of several test files: the folder of real data, a trained run, and its export."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The threads of OpenBLAS wait for each other busily: on shared cores, to fit a classifier takes a minute, not a second.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import pytest
from filelock import FileLock
from helpers.artifacts import one_converter
from helpers.mask_folders import LITTLE, mask_recipe, write_masks

from resnet_keras.exporting.exporter import export
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.trainer import train

# Tracing makes hundreds of thousands of objects that live for long; the default thresholds search them too often.
gc.set_threshold(100_000, 20, 50)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets and photographs; tests that need it are skipped without it."""
    folder = os.environ.get("RESNET_KERAS_TEST_DATA")
    if not folder:
        pytest.skip("RESNET_KERAS_TEST_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def converter() -> Iterator[None]:
    """Conversions to LiteRT share a process."""
    with one_converter():
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session that all processes of pytest-xdist share; tests only read what is in it."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(folder: Path, make: Callable[[], object]) -> Path:
    """Makes a folder in the first process that needs it; the others wait for it."""
    made = folder.with_name(f"{folder.name}.made")
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not made.is_file():
            make()
            made.touch()
    return folder


@pytest.fixture(scope="session")
def digits_run(shared: Path) -> Path:
    """The folder of a finished run: ResNet-20 on digits, six epochs."""
    folder = shared / "digits"
    return made_once(folder, lambda: train(RECIPES["digits"].replace(epochs=6), folder))


@pytest.fixture(scope="session")
def digits_export(digits_run: Path, shared: Path) -> Path:
    """The folder of an export of `digits_run` in the default formats."""
    folder = shared / "digits_exports" / "digits" / "1"
    folder.parents[1].mkdir(exist_ok=True)
    made_once(folder.parents[1], lambda: export(digits_run, folder.parents[1], name="digits"))
    return folder


@pytest.fixture(scope="session")
def mask_data(shared: Path) -> Path:
    """A folder of little images and masks."""
    return made_once(shared / "mask_data", lambda: write_masks(shared / "mask_data"))


@pytest.fixture(scope="session")
def mask_run(mask_data: Path, shared: Path) -> Path:
    """The folder of a finished run of segmentation: six steps of a little network, whose name tests have to add."""
    folder = shared / "masks"

    def make() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(ARCHITECTURES, "little", LITTLE)
            train(mask_recipe(), folder, data_dir=mask_data, checkpoint_steps=None)

    return made_once(folder, make)


@pytest.fixture(scope="session")
def recent_keras() -> None:
    """Skips a test of features that Keras 3.12, the last version for Python 3.10, does not have."""
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15):
        pytest.skip(
            f"Keras {keras.__version__} cannot do this: no max-pool on OpenVINO, no models in a Sequential cloned"
        )
