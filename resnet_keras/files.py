"""Atomic files and folders: written under another name, then renamed, so that they are complete or absent."""

from __future__ import annotations

import json
import os
import reprlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MOST_JSON_BYTES = 2**26


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path with the suffixes of `path`; renames it to `path` if the context ends without error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".aside-") as aside:
        written = Path(aside) / path.name
        yield written
        _flush(written)
        os.replace(written, path)


@contextmanager
def new_files(folder: str | Path) -> Iterator[Path]:
    """Yields an empty temporary folder; moves its files to `folder` if the context ends without error.

    Files of the same names are replaced; others stay.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".aside-") as aside:
        yield Path(aside)
        written = sorted(Path(aside).iterdir())
        for file in written:
            _flush(file)
        for file in written:
            os.replace(file, folder / file.name)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty temporary folder; renames it to `path` if the context ends without error.

    Raises:
        FileExistsError: `path` exists.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise FileExistsError(f"Expected a folder that does not exist yet. Received: {path}")
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=".aside-"))
    try:
        aside.chmod(0o755)
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                _flush(file)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_json(path: str | Path) -> dict[str, Any]:
    """Returns the object in a file of JSON.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, holds no object, or has more than 64 MiB; the message names it.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise ValueError(f"more than {_MOST_JSON_BYTES:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}. Received: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"Expected a JSON object in {path}. Received: {reprlib.repr(content)}")
    return content


@contextmanager
def as_written(path: str | Path) -> Iterator[None]:
    """Turns errors about the fields of a file into one that names it.

    Raises:
        ValueError: The context ends with such an error.
    """
    try:
        yield
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"Expected {path} as it was written. Received: {error!r:.300}") from error


def write_json(path: str | Path, content: Any) -> None:
    """Writes `content` as indented JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: str | Path, content: str) -> None:
    """Writes `content` in UTF-8."""
    with new_file(path) as aside:
        aside.write_text(content, encoding="utf-8")


def _flush(path: Path) -> None:
    """Waits until the file is on the disk; otherwise a crash could leave an empty file under the new name."""
    with path.open("r+b") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())
