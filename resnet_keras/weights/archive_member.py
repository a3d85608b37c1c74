"""A member of a zip archive that is read at any place."""

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
