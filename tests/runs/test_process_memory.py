"""Peak memory: of this process and of another."""

import os
import subprocess
import sys

import numpy as np

from resnet_keras.runs.process_memory import peak_memory


def test_the_peak_of_this_process_includes_what_was_freed() -> None:
    before = peak_memory()
    np.ones(before // 8)  # as much again, freed at once
    assert peak_memory() > 1.5 * before
    assert peak_memory(os.getpid()) == peak_memory()


def test_another_process_is_measured_from_outside() -> None:
    program = "import sys; x = bytearray(200_000_000); print(len(x), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "200000000\n"
        assert 2e8 < peak_memory(process.pid) < 4e8
        process.stdin.close()
