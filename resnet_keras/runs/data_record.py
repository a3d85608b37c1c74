"""The record of a run's images: a run resumes on the images that it was begun with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.data.fingerprint import changes, listed
from resnet_keras.runs.folder import RECORD, RunFolder

CHANGES = "data_changes"
"""Key of `run.json`: what the user has accepted, and after which step."""

_log = logging.getLogger(__name__)


def changed_data(folder: RunFolder, found: Mapping[str, Any], *, accept: bool, last_step: int | None) -> list[str]:
    """Returns what has changed in the images since the run began; writes nothing.

    Args:
        folder: Folder of the run. Without a record, as in runs of earlier versions, nothing has changed.
        found: Fingerprint of the images as they are; see `resnet_keras.data.fingerprint`.
        accept: Whether the run may resume on changed images.
        last_step: Step of the last checkpoint; `None` if there is none, so that nothing depends on the images yet.

    Raises:
        ValueError: They have changed, and that is not accepted; or the number of classes has.
    """
    before = _read(folder.path / RECORD)
    if before is None or last_step is None:
        return []
    differing = changes(before, found)
    if not differing:
        return []
    counts = [len(each["train"]["class_names"]) for each in (before, found)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"Expected images of {counts[0]} classes, for which the network in {folder.path} has outputs. Received: "
            f"{listed(differing)}; train in another folder, or bring back the images that the run was begun with"
        )
    if not accept:
        raise ValueError(
            f"Expected the images that {folder.path} was begun with; `accept_changed_data` resumes on others. "
            f"Received: {listed(differing)}"
        )
    return differing


def record_data(folder: RunFolder, found: Mapping[str, Any], accepted: list[str], last_step: int | None) -> None:
    """Writes the fingerprint of a run's images, and notes changes that the user has accepted in `run.json`."""
    if accepted:
        _log.warning(f"warning: the images have changed since the run began: {listed(accepted)}")
        notes = folder.data().get(CHANGES) or []
        folder.note(**{CHANGES: [*notes, {"after_step": last_step, "changes": accepted}]})
    if _read(folder.path / RECORD) != found:
        files.write_json(folder.path / RECORD, found)


def _read(file: Path) -> dict[str, Any] | None:
    """Returns the record of a run; `None` if there is none, or a damaged one."""
    try:
        content = files.parse_json(file.read_text(encoding="utf-8"))
        return content if isinstance(content["train"]["class_names"], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
