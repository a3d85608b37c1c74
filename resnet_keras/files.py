"""Atomic files and folders: written under another name, then renamed, so that they are complete or absent."""

from __future__ import annotations

import errno
import json
import os
import reprlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ASIDE = ".aside-"
"""Beginning of the names of temporary folders beside what is written."""

_SCRATCH = "resnet_keras-"
_DAY_SECONDS = 86_400

_MOST_JSON_BYTES = 2**26
_MOST_LIST_BYTES = 2**26
_MOST_NAME = 250  # bytes of a part, before a suffix


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path with the suffixes of `path`; renames it to `path` if the context ends without error."""
    path = Path(path)
    with _folder_aside(path.parent) as aside:
        written = aside / path.name
        yield written
        _flush(written)
        os.replace(written, path)


@contextmanager
def new_files(folder: str | Path) -> Iterator[Path]:
    """Yields an empty temporary folder; moves its files to `folder` if the context ends without error.

    Files of the same names are replaced; others stay.
    """
    folder = Path(folder)
    with _folder_aside(folder) as aside:
        yield aside
        written = sorted(aside.iterdir())
        for file in written:
            _flush(file)
        for file in written:
            os.replace(file, folder / file.name)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty temporary folder; renames it to `path` if the context ends without error.

    Raises:
        FileExistsError: `path` exists, at the start or at the end.
    """
    path = Path(path)
    _expect_free(path)
    with _folder_aside(path.parent) as aside:
        written = aside / path.name
        written.mkdir()  # has the permissions that the umask gives, which `aside` has not
        yield written
        _publish(written, path)


@dataclass
class NewVersion:
    """A folder that gets a number.

    Attributes:
        aside: The folder to write to.
        path: Where it is once the context has ended; before, where it would be.
    """

    aside: Path
    path: Path


@contextmanager
def new_version(folder: str | Path, number: int | None = None) -> Iterator[NewVersion]:
    """Yields a new folder; renames it to a number in `folder` if the context ends without error.

    Args:
        folder: Holds the versions.
        number: The number; the next free one, at the end of the context, if `None`.

    Raises:
        FileExistsError: `number` exists, at the start or at the end.
    """
    folder = Path(folder)
    path = folder / str(_free_number(folder) if number is None else number)
    _expect_free(path)
    with _folder_aside(folder) as aside:
        made = NewVersion(aside / "version", path)
        made.aside.mkdir()
        yield made
        while True:
            try:
                _publish(made.aside, made.path)
                return
            except FileExistsError:
                if number is not None:
                    raise
            made.path = folder / str(_free_number(folder))


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yields an empty folder among the temporary files of the system; removes it at the end.

    Those that a killed process has left are removed, too.
    """
    with _folder_aside(Path(tempfile.gettempdir()), _SCRATCH) as folder:
        yield folder


def sweep(folder: str | Path, prefix: str = ASIDE) -> None:
    """Removes the temporary folders in a folder that no process writes to any more.

    A process locks its own until it ends. Where a file system has no such locks, those of the last day stay.
    """
    for path in Path(folder).glob(f"{prefix}*"):
        try:
            lock = _lock(path)
        except BlockingIOError:
            continue
        except OSError:
            lock = None
        if lock is not None or _is_old(path):
            shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def _folder_aside(parent: Path, prefix: str = ASIDE) -> Iterator[Path]:
    """Yields an empty folder in `parent`, which this process alone can read; removes it at the end."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, prefix)
    while True:
        aside = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        try:
            lock = _lock(aside)
        except (BlockingIOError, FileNotFoundError):  # another process has just swept it
            continue
        except OSError:
            lock = None
        if aside.exists():
            break
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Locks a folder for as long as the descriptor is open; returns `None` where the system has no such locks.

    Raises:
        BlockingIOError: Another process has locked it.
        OSError: The file system has no such locks, or it is not a folder.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _DAY_SECONDS
    except OSError:
        return False


def _expect_free(path: Path) -> None:
    if path.exists():
        raise FileExistsError(f"Expected a folder that does not exist yet. Received: {path}")


def _publish(written: Path, path: Path) -> None:
    """Renames a folder to a path that does not exist."""
    for file in written.rglob("*"):
        if file.is_file():
            _flush(file)
    _expect_free(path)
    try:
        written.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # of another process, in this moment
            raise FileExistsError(f"Expected a folder that does not exist yet. Received: {path}") from error
        raise


def _free_number(folder: Path) -> int:
    taken = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    return max(taken, default=0) + 1


def parse_json(text: str | bytes, **options: Any) -> Any:
    """Returns the content of JSON that somebody else may have written; options are those of `json.loads`.

    Raises:
        ValueError: It is malformed, or has too many lists or objects inside each other.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("JSON of too many lists or objects inside each other") from error


def is_plain_name(name: str) -> bool:
    """Returns whether a name from a list or a file stays inside its folder, is a line, and as long as systems allow."""
    path = Path(name)
    short = all(len(part.encode(errors="surrogatepass")) <= _MOST_NAME for part in path.parts)
    line = bool(name) and min(name) >= " " and "\x7f" not in name
    return line and short and len(name) < 4096 and not path.is_absolute() and ".." not in path.parts


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a list, without spaces around them and without empty ones.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not text, or has more than 64 MiB; the message names it.
    """
    try:
        if path.stat().st_size > _MOST_LIST_BYTES:
            raise ValueError(f"more than {_MOST_LIST_BYTES:,} bytes")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except ValueError as error:
        raise ValueError(f"Expected a list of text in UTF-8. Received: {path}: {error}") from error
    return [line.strip() for line in lines if line.strip()]


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
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
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
