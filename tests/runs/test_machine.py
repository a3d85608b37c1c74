"""Versions and hardware of a run."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from resnet_keras.runs import machine


def test_versions_name_software_and_hardware() -> None:
    found = machine.versions()
    assert {"resnet_keras", "tensorflow", "keras", "python", "commit"} <= found.keys()
    assert found["machine"] == f"{platform.system()} {platform.machine()}"
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)


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
    file = tmp_path / "cpuinfo"
    file.write_text(content)
    monkeypatch.setattr(machine, "_CPU_INFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert machine.processor().startswith(expected)


def test_the_processor_is_named_as_macos_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(command: tuple[str, ...], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="Apple M2\n")

    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", answer)
    assert machine.processor() == "Apple M2"
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
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(machine, "_CPU_INFO", file)
    assert machine.has_bfloat16() is expected
