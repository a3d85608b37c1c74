"""The orientation in the Exif data of a photograph, read from its bytes."""

from __future__ import annotations

import struct

MAGIC = 42
"""The number of a TIFF header (TIFF 6.0, section 2)."""

ORIENTATION, SHORT, LONG = 0x0112, 3, 4
"""The tag of the orientation, and the types that its value has."""

MOST_ENTRIES = 1 << 12
"""Entries of a directory that are looked at."""


def orientation_of_tiff(content: bytes) -> int:
    """Returns the orientation in Exif data, as `orientation` reads it: 1 (upright) to 8.

    Args:
        content: A TIFF header and its first directory, perhaps after "Exif".
    """
    content = content.removeprefix(b"Exif\0\0")
    order = ">" if content.startswith(b"MM") else "<"
    try:
        magic, directory = struct.unpack_from(f"{order}HI", content, 2) if content[:2] in (b"MM", b"II") else (0, 0)
        (count,) = struct.unpack_from(f"{order}H", content, directory) if magic == MAGIC else (0,)
        for entry in range(directory + 2, directory + 2 + 12 * min(count, MOST_ENTRIES), 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", content, entry)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + ("I" if kind == LONG else "H"), content, entry + 8)
                return value if kind in (SHORT, LONG) and values == 1 and 1 <= value <= 8 else 1
    except struct.error:  # beyond the end
        pass
    return 1
