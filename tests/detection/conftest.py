"""Fixtures of the tests of detection: writers of small data sets, a small detector, and what torchvision computes."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.box_folders import VocFolder
from helpers.small_detectors import small_detector
from helpers.torchvision_boxes import torchvision_boxes


@pytest.fixture
def voc_folder(tmp_path: Path) -> Callable[..., VocFolder]:
    """Returns a maker of folders in VOC's layout."""
    return lambda name="voc": VocFolder(tmp_path / name)


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Boxes, and what torchvision computes of them; skips without torchvision."""
    return torchvision_boxes(tmp_path_factory.mktemp("torchvision"))


@pytest.fixture(scope="session")
def detector() -> keras.Model:
    """Returns a small detector of 3 classes with a feature pyramid, for images of 64x96, whose weights are drawn."""
    return small_detector()
