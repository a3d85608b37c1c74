"""Small image files that would take gigabytes or minutes where their headers are believed or not read."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def flat_png(width: int, height: int, before: bytes = b"") -> bytes:
    """Returns a gray PNG of one color: a thousandth of its pixels in bytes. `before` are chunks before IHDR."""
    packer = zlib.compressobj(9)
    line = b"\0" + b"\x80" * width
    lines = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + before + header + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def png_of_claimed_size(width: int, height: int) -> bytes:
    """Returns a PNG whose header claims a size, and nothing else."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


def png_of_hidden_size(width: int, height: int) -> bytes:
    """Returns a PNG with an unknown chunk before IHDR: where a size is expected, it says 8x8."""
    return flat_png(width, height, chunk(b"teSt", struct.pack(">II", 8, 8) + bytes(8)))


def jpeg_of_scans(scans: int, side: int = 64) -> bytes:
    """Returns a progressive JPEG whose second scan is repeated until there are `scans`."""
    pixels = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(file, "JPEG", progressive=True, quality=50)
    content = file.getvalue()
    starts = [i for i in range(len(content)) if content.startswith(b"\xff\xda\x00", i)]
    scan = content[starts[1] : starts[2]]
    while b"\xff\xc4" in scan:  # tables between scans
        scan = scan[: scan.index(b"\xff\xc4")]
    extra = scans - len(starts)
    assert extra >= 0
    return content[:-2] + scan * extra + b"\xff\xd9"
