"""A run's folder belongs to one process, and to none when that one is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnet_keras.runs.lock import lock_run

HOLDER = """
import sys, time
from pathlib import Path
from resnet_keras.runs.lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the folder `run`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_by_the_name_of_the_first(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    for _ in range(2):  # being refused leaves the name of the first
        with (
            pytest.raises(BlockingIOError, match=rf"no other run in .*run\. Received: process {holder.pid} on \S+$"),
            lock_run(tmp_path / "run"),
        ):
            pass
    with lock_run(tmp_path / "other"):
        pass


def test_a_folder_is_free_after_its_process_was_killed(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock_run(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock_holder").read_text().startswith(f"process {os.getpid()} on ")


def test_a_process_refuses_itself_until_the_context_ends(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with lock_run(folder):
        assert folder.is_dir()
        with pytest.raises(BlockingIOError, match=f"Received: process {os.getpid()} on "), lock_run(folder):
            pass
        with pytest.raises(BlockingIOError), lock_run(folder):  # being refused frees nothing
            pass
    with pytest.raises(KeyError), lock_run(folder):
        raise KeyError
    with lock_run(folder):
        pass


def test_what_cannot_be_a_folder_raises(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    for folder in (file, file / "run"):
        with pytest.raises(OSError, match="file"), lock_run(folder):
            pass
    assert file.read_text() == "no folder"
