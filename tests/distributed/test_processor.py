"""The processor: name, cores, instructions."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_keras.distributed import processor
from resnet_keras.distributed.local_workers import worker_environments


def known(content: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the system tell this of its processor; nothing if it is `None`."""
    file = folder / "cpuinfo"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(processor, "_CPU_INFO", file)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC  9654 96-Core Processor\nmodel name\t: other\n", "AMD EPYC 9654"),
        ("Processor : 0\nFeatures : fp asimd\n", "aarch64"),  # Linux on ARM has no model name
    ],
)
def test_the_processor_is_named_as_linux_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: str
) -> None:
    known(content, tmp_path, monkeypatch)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert processor.name().startswith(expected)


def test_the_processor_is_named_as_macos_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(command: tuple[str, ...], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="Apple M2\n")

    monkeypatch.setattr(processor, "_CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", answer)
    assert processor.name() == "Apple M2"
    assert asked == [("sysctl", "-n", "machdep.cpu.brand_string")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512_bf16 avx512f\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", True),
        ("processor\t: 0\n", None),
        (None, None),
    ],
)
def test_instructions_for_bfloat16_are_known_where_linux_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, expected: bool | None
) -> None:
    known(content, tmp_path, monkeypatch)
    assert processor.has_bfloat16() is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("flags\t\t: fpu avx avx2 fma\n", True),
        ("flags\t\t: fpu avx avx2 avx512f\n", True),
        ("flags\t\t: fpu avx avx2 avx512f avx512_vnni\n", False),
        ("flags\t\t: fpu avx avx2 avx_vnni\n", False),
        ("flags\t\t: fpu sse4_2\n", False),
        ("Features\t: fp asimd\n", False),
        (None, False),
    ],
)
def test_processors_on_which_tensorflow_leaves_onednn_off_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, expected: bool
) -> None:
    known(content, tmp_path, monkeypatch)
    assert processor.leaves_onednn_off() is expected


def test_workers_share_the_cores_of_this_process_not_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 8, 9}, raising=False)
    assert processor.cores() == 4
    threads = [(each["OMP_NUM_THREADS"], each["TF_NUM_INTRAOP_THREADS"]) for each in worker_environments(2, {})]
    assert threads == [("2", "2")] * 2
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    assert [each["OMP_NUM_THREADS"] for each in worker_environments(2, {})] == ["32"] * 2


ENABLED = "from tensorflow.python.util import _pywrap_util_port as port; print(port.IsMklEnabled())"
"""TensorFlow has no public name for it."""


def onednn_enabled(code: str, **variables: str) -> bool:
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1] == "True"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="oneDNN is for Linux on x86")
def test_tensorflow_decides_so_and_the_program_turns_it_on() -> None:
    assert onednn_enabled(ENABLED) is not processor.leaves_onednn_off()
    started = f"from resnet_keras.cli import program; program.start_tensorflow(); {ENABLED}"
    assert onednn_enabled(started)
    assert not onednn_enabled(started, TF_ENABLE_ONEDNN_OPTS="0")
