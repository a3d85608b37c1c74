"""The record of a run's images: what has changed is said, accepted, and noted."""

import json
from pathlib import Path
from typing import Any

import pytest

from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.runs.data_record import changed_data, record_data
from resnet_keras.runs.folder import RunFolder


def found(**counts: int) -> dict[str, Any]:
    """Returns the fingerprint of training images of some classes."""
    classes = [[count, "0123"] for count in counts.values()]
    images = {"class_names": list(counts), "images": sum(counts.values()), "version": None, "order": "4567"}
    return {"train": images | {"classes": classes}}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """The folder of a run on two cats and three dogs."""
    folder = RunFolder(tmp_path)
    folder.begin(RECIPES["digits"], {"data_dir": None})
    record_data(folder, found(cats=2, dogs=3), [], None)
    return folder


def test_changed_images_are_refused_unless_they_are_accepted(folder: RunFolder) -> None:
    fewer = found(cats=1, dogs=3)
    assert changed_data(folder, found(cats=2, dogs=3), accept=False, last_step=5) == []
    assert changed_data(folder, fewer, accept=False, last_step=None) == []  # nothing depends on them yet
    said = "1 training images of cats (begun with 2)"
    with pytest.raises(
        ValueError, match=r"`accept_changed_data` resumes on others\. Received: 1 training images of cats"
    ):
        changed_data(folder, fewer, accept=False, last_step=5)
    assert changed_data(folder, fewer, accept=True, last_step=5) == [said]
    record_data(folder, fewer, [said], 5)
    assert changed_data(folder, fewer, accept=False, last_step=5) == []
    assert folder.data()["data_changes"] == [{"after_step": 5, "changes": [said]}]


def test_another_number_of_classes_is_refused_even_if_changes_are_accepted(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match=r"images of 2 classes, .*Received: classes added: emus; train in another"):
        changed_data(folder, found(cats=2, dogs=3, emus=4), accept=True, last_step=5)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"train": 1}'])
def test_a_run_without_a_record_or_with_a_damaged_one_gets_one(folder: RunFolder, content: str | None) -> None:
    file = folder.path / "data.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert changed_data(folder, found(cats=1), accept=False, last_step=5) == []
    record_data(folder, found(cats=1), [], 5)
    assert json.loads(file.read_text()) == found(cats=1)
