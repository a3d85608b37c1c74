"""Fixtures of the tests of detection: writers of small data sets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.box_folders import VocFolder


@pytest.fixture
def voc_folder(tmp_path: Path) -> Callable[..., VocFolder]:
    """Returns a maker of folders in VOC's layout."""
    return lambda name="voc": VocFolder(tmp_path / name)
