"""Pickles of checkpoints: those that would take gigabytes or hours are refused at once; others mean what they meant."""

from __future__ import annotations

import io
import pickle
import random
import resource
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from helpers.hostile_pickles import HOSTILE_PICKLES

from resnet_keras.weights.bounded_pickle import BoundedUnpickler, check_key


class _Plain(BoundedUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        return {"OrderedDict": OrderedDict, "complex": complex}[name]


def load(data: bytes) -> Any:
    return _Plain(io.BytesIO(data), len(data)).load()


CONTENT = {
    "state": {"conv.weight": [1, -1, 2**31 - 1, -(2**31), 2**70, -(2**2000)], "deep": {"a": {"b": ({}, [], (), None)}}},
    "numbers": [0.5, -1e300, float("inf"), True, False, 255, 256, 65535, 65536],
    "texts": ["", "ä€😀", "x" * 300, b"", b"\x00\xff" * 200],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    ("a", 1): {1: 2, 2.5: 3, None: 4},
    "repeated": [["shared"]] * 3,
    "ordered": OrderedDict(a=1, b=2),
    "complex": 1 + 2j,
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_all_binary_protocols_are_what_pickle_reads(protocol: int) -> None:
    content = CONTENT | {"set": {1, 2, "c"} if protocol > 3 else []}
    if protocol == 2:
        content |= {"texts": ["", "ä€😀", "x" * 300]}  # where bytes are a call
    data = pickle.dumps(content, protocol)
    found = load(data)
    assert found == pickle.loads(data)
    assert list(found) == list(content)
    assert found["repeated"][0] is found["repeated"][2]


def test_what_follows_a_pickle_is_left_in_the_file() -> None:
    file = io.BytesIO(pickle.dumps([1], 2) + b"rest")
    assert _Plain(file, 100).load() == [1]
    assert file.read() == b"rest"


@pytest.mark.parametrize("key", ["a", 1, 2.5, None, True, b"a", ("a", 1), 2**31 - 1])
def test_texts_and_numbers_are_keys(key: Any) -> None:
    check_key(key)


@pytest.mark.parametrize("key", [("a", ("b",)), 2**31, (2**61 - 1,), [], tuple(range(17)), object()])
def test_other_keys_are_refused(key: Any) -> None:
    with pytest.raises(ValueError, match="a key that is neither text nor a number"):
        check_key(key)


@pytest.mark.parametrize(
    "data",
    [
        *(
            b".",
            b"0.",
            b"a.",
            b"N\x85s.",
            b"]K\x01u.",
            b"}(K\x01u.",
            b"t.",
            b"(",
            b"K",
            b"h\x00.",
            b"Nb.",
            b"(b.",
        ),
        *(
            b"\x80\x06N.",
            b"N)R.",
            b"(](a.",
            b"](K\x01K\x02ea.",
            b"Xabcd",
            b"\x8c\x05ab.",
            b"C\x02a",
            b"\xff.",
            b"q\x00.",
        ),
        *(
            b"}K\x01K\x02e.",
            b"]K\x01K\x02s.",
            b"ccollections\nOrderedDict\n]R.",
            b"K\x01K\x02\x93.",
            b"cx",
            b"2.",
            b"l.",
        ),
    ],
)
def test_a_malformed_pickle_is_an_error_of_one_kind(data: bytes) -> None:
    with pytest.raises((ValueError, EOFError)):
        load(data)


def test_random_opcodes_are_read_or_refused() -> None:
    rng = random.Random(0)
    known = [opcode for opcode in BoundedUnpickler._OPERATIONS if opcode not in (b"c", b"i", b"Q", b"\x93")]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(5_000):
        data = b"".join(
            rng.choice(known) + (rng.randbytes(1) if rng.random() < 0.3 else b"") for _ in range(rng.randrange(1, 40))
        )
        try:
            load(data + b".")
            outcomes["read"] += 1
        except (ValueError, EOFError):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


_MEASURE = """
import resource, sys, time
from resnet_keras.weights.torch_checkpoint import read_torch
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for path in sys.argv[1:]:
    before, begun, said = peak(), time.process_time(), "read"
    try:
        read_torch(path)
    except ValueError as error:
        said = str(error)
    print(f"{time.process_time() - begun:.2f}", f"{peak() - before:.0f}", said[:300], sep="\t")
"""


def test_every_hostile_pickle_is_refused_in_little_time_and_memory(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.pth" for number in range(len(HOSTILE_PICKLES))]
    for path, make in zip(paths, HOSTILE_PICKLES.values(), strict=True):
        path.write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
    )
    for name, line in zip(HOSTILE_PICKLES, done.stdout.splitlines(), strict=True):
        seconds, megabytes, said = line.split("\t")
        assert said.startswith("Expected a whole checkpoint of PyTorch. Received: "), name
        assert float(seconds) < 2, name  # CPU time; at most 0.8 where nothing else runs
        assert float(megabytes) < 150, name
