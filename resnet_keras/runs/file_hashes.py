"""Hashes of the files of a finished run, which tell whether one has changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def sha256_of(content: bytes) -> str:
    """Returns the SHA-256 of some bytes in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the SHA-256 of those of the files that exist."""
    return {name: sha256_of((folder / name).read_bytes()) for name in names if (folder / name).is_file()}


def check_hashes(folder: Path, names: Iterable[str], expected: Any) -> None:
    """Checks files against the hashes that a run wrote at its end; files without one are not checked.

    Raises:
        ValueError: One has changed; the message names it.
    """
    wanted = expected if isinstance(expected, dict) else {}
    for name, found in file_hashes(folder, (name for name in names if name in wanted)).items():
        if found != wanted[name]:
            raise ValueError(
                f"Expected {folder / name} as the run wrote it, of SHA-256 {str(wanted[name])[:16]}.... Received: a "
                f"changed or damaged file, of {found[:16]}...; put a copy of the run back, or train in another folder"
            )


def artifact_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the graph and the variables of a SavedModel in a folder."""
    digest = hashlib.sha256()
    for part in [path / "saved_model.pb", *sorted(path.glob("variables/*"))] if path.is_dir() else [path]:
        digest.update(part.read_bytes() if part.is_file() else b"")
    return digest.hexdigest()
