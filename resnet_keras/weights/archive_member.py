"""Zip archives: the size of their directory before it is read, and a member that is read at any place."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

_LOCAL_NAMES, _LOCAL_HEADER = 26, 30  # of a zip archive: the lengths of two fields, and the end of the fixed ones
_END, _END_BYTES, _MOST_COMMENT = b"PK\5\6", 22, 2**16
_LARGE_END, _LARGE_END_BYTES, _LOCATOR, _LOCATOR_BYTES = b"PK\6\6", 56, b"PK\6\7", 20  # of archives above 4 GB


def check_directory(file: BinaryIO, most: int) -> None:
    """Checks the size of an archive's directory, which `zipfile` reads whole and makes 12 times its bytes of.

    Args:
        file: The archive.
        most: Largest size in bytes.

    Raises:
        ValueError: It is larger.
        zipfile.BadZipFile: There is none.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - _END_BYTES - _MOST_COMMENT - _LOCATOR_BYTES - _LARGE_END_BYTES, 0))
    tail = file.read()
    file.seek(0)
    # As in `zipfile`: without a comment, or before one.
    at = len(tail) - _END_BYTES if tail[-_END_BYTES:].startswith(_END) else tail.rfind(_END)
    if at < 0:
        raise zipfile.BadZipFile("it is not a zip file")
    stated = int.from_bytes(tail[at + 12 : at + 16], "little")
    large = at - _LOCATOR_BYTES - _LARGE_END_BYTES
    if tail[: at - _LOCATOR_BYTES + 4].endswith(_LOCATOR) and tail[max(large, 0) :].startswith(_LARGE_END):
        stated = max(int.from_bytes(tail[large + 40 : large + 48], "little"), stated if stated < 2**32 - 1 else 0)
    if stated > most:
        raise ValueError(f"its directory has {stated:,} bytes, more than {most:,}")


@contextmanager
def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Iterator[BinaryIO]:
    """Opens a member for reading at any place, as HDF5 reads.

    To go back in one, Python reads it again from its start, which takes seconds. Members that are only stored, as Keras
    stores them, are a part of the archive's file.

    Raises:
        zipfile.BadZipFile: The member is not there where the directory says.
    """
    with archive.open(member) as content:  # checks the member's own header, too
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            yield cast(BinaryIO, content)
            return
    with path.open("rb") as file:
        file.seek(member.header_offset + _LOCAL_NAMES)
        name, extra = struct.unpack("<HH", file.read(4))
        start = member.header_offset + _LOCAL_HEADER + name + extra
        if start + member.file_size > path.stat().st_size:
            raise zipfile.BadZipFile(f"{member.filename} is cut short")
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
            memoryview(whole) as view,
            view[start : start + member.file_size] as part,
        ):
            yield cast(BinaryIO, _Part(part))


class _Part(io.RawIOBase):
    """A part of a file in memory, read at any place without a copy of it."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._place = content, 0

    def readable(self) -> bool:
        """Returns `True`."""
        return True

    def seekable(self) -> bool:
        """Returns `True`."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place, counted from the start, the present place, or the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._content)}[whence]
        self._place = max(start + offset, 0)
        return self._place

    def tell(self) -> int:
        """Returns the place."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Copies the bytes at the place into a buffer; returns how many."""
        found = self._content[self._place : self._place + len(buffer)]
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)
