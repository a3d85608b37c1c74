"""Files of segmenters, detectors, and their like: a `.keras` file with a member that says what its network takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import keras

from resnet_keras.applications.classifier import RUN_MODEL
from resnet_keras.weights.keras_archive import open_archive
from resnet_keras.weights.keras_file import read_member

T = TypeVar("T")


def model_file(source: str | Path) -> Path:
    """Returns the file of a source: itself, or the model of a run's folder."""
    return Path(source, RUN_MODEL) if Path(source).is_dir() else Path(source)


def has_member(source: str | Path, member: str) -> bool:
    """Returns whether a source is a `.keras` file with a member, or the folder of a finished run with such a file."""
    path = model_file(source)
    return path.suffix == ".keras" and path.is_file() and read_member(path, member) is not None


def open_model_file(source: str | Path, member: str, kind: str, make: Callable[[keras.Model, dict[str, Any]], T]) -> T:
    """Returns what is made of the model in a source and of the metadata in a member.

    Args:
        source: A `.keras` file, or the folder of a finished run.
        member: Name of the member.
        kind: What the file is of, with its article, for messages: "a segmenter".
        make: Returns the result, of the model and the metadata.

    Raises:
        FileNotFoundError: There is no such file, or no finished run in the folder.
        ValueError: The file is damaged, malicious, or has no such member.
    """
    path = model_file(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a .keras file of {kind}, or the folder of a finished run. Received: no file {path}"
        )
    metadata = read_member(path, member)
    if metadata is None:
        raise ValueError(
            f"Expected a .keras file of {kind}, with its preprocessing and class names. Received: {path}, without them"
        )
    try:
        return make(open_archive(path), metadata)
    except Exception as error:  # of any kind, from Keras
        raise ValueError(
            f"Expected a whole .keras file. Received: {path}, which can't be read: {str(error)[:300]}"
        ) from error
