"""Runs that faults are injected into, and the rows of the table of faults."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

from resnet_keras.applications import Classifier

SHORT = ("--epochs", "2", "--batch-size", "32", "--warmup-steps", "4", "--checkpoint-steps", "10", "--ema", "0.9")
DIGITS = ("digits", *SHORT)
PLACES: list[Path] = []
"""Folders of this machine, which are removed from the table."""

PROGRAM = Path(__file__).resolve().parents[1] / "train.py"


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    fault: str
    happened: str
    again: str
    lost: str

    def __str__(self) -> str:
        """Returns the row in Markdown."""
        return f"| {self.fault} | {self.happened} | {self.again} | {self.lost} |"


class Training:
    """A run of `resnet train` in a process of its own, and its output."""

    def __init__(self, workdir: Path, arguments: Sequence[str], **options: object) -> None:
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the process)
        command = [sys.executable, str(PROGRAM), *arguments, "--workdir", str(workdir)]
        self.workdir = workdir
        self.process = subprocess.Popen(command, stdout=self.said, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload]

    def until_checkpoint(self, step: int) -> Training:
        """Waits until the run has written the checkpoint of a step, or a later one."""
        while self.process.poll() is None:
            found = [int(path.name[5:]) for path in (self.workdir / "checkpoints").glob("step_*")]
            if max(found, default=0) >= step:
                break
            time.sleep(0.02)
        return self

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Sends the signal, if any; waits for the process and returns its status and last line."""
        if number is not None:
            self.process.send_signal(number)
        self.process.wait()
        self.said.seek(0)
        lines = [line.strip() for line in self.said.read().splitlines() if line.strip()]
        return self.process.returncode, lines[-1] if lines else ""

    def resumed(self) -> str:
        """Returns where the run resumed."""
        self.said.seek(0)
        line = next((line for line in self.said.read().splitlines() if "replica" in line), "")
        return line.partition(", resumed ")[2].strip() or "from the beginning"


def same(one: Path, other: Path) -> bool:
    """Returns whether two runs ended with the same weights, bit for bit."""
    weights = (Classifier.load(run).model.get_weights() for run in (one, other))
    return all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def outcome(ended: tuple[int, str]) -> str:
    """Returns status and message for the table."""
    status, line = ended
    message = line.removeprefix("resnet train: ").replace("|", "/")
    for place in (*PLACES, Path.cwd()):
        message = message.replace(str(place), "")
    message = message.replace(socket.gethostname(), "HOST")
    return f"status {status}: {message}" if status >= 0 else f"ended by signal {-status}"


def again(
    run: Path, whole: Path, arguments: Sequence[str], fault: str, ended: tuple[int, str], work: str, flag: str = ""
) -> Row:
    """Repeats the same command, perhaps with a flag, and returns the row of the fault."""
    second = Training(run, [*arguments, *flag.split()])
    finished = second.end()
    if finished[0]:
        return Row(fault, outcome(ended), outcome(finished), "**the run**")
    verdict = "nothing" if same(run, whole) else "**other weights**"
    how = f"with `{flag}`: " if flag else ""
    return Row(fault, outcome(ended), f"{how}resumed {second.resumed()} and finished", f"{verdict}; {work}")


def images(root: Path) -> None:
    """Writes a small data set of JPEG images."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 64), ("test", 8)):
        for name, level in (("dark", 60), ("light", 190)):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = rng.normal(level, 30, (40, 40, 3)).clip(0, 255).astype(np.uint8)
                (folder / f"{i}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())


def with_images(root: Path) -> tuple[str, ...]:
    """Returns the arguments of a run on the small data set."""
    size = ("--image-size", "32", "--flip", "--dataset", "folder", "--data-dir")
    return ("cifar10", *size, str(root), "--epochs", "6", "--batch-size", "8", "--checkpoint-steps", "4")
