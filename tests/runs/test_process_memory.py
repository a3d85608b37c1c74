"""Peak memory: of this process and of another."""

import subprocess
import sys

from resnet_keras.runs.process_memory import peak_memory

ITSELF = """
import os
import numpy as np
from resnet_keras.runs.process_memory import peak_memory

before = peak_memory()
np.ones(before // 8)  # as much again, freed at once
assert peak_memory() > 1.5 * before, (before, peak_memory())
assert peak_memory(os.getpid()) == peak_memory()
"""
"""Run in a process of its own, as little memory is quick to double."""


def test_the_peak_of_this_process_includes_what_was_freed() -> None:
    ran = subprocess.run([sys.executable, "-c", ITSELF], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_another_process_is_measured_from_outside() -> None:
    program = "import sys; x = bytearray(200_000_000); print(len(x), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "200000000\n"
        assert 2e8 < peak_memory(process.pid) < 4e8
        process.stdin.close()
