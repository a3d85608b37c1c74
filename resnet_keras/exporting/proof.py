"""Whether an artefact computes what its classifier computes, on real images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.exporting.litert import LiteRTModel, operators

SAVED_MODEL = "saved_model"

_RUNNER = Path(__file__).with_name("saved_model_runner.py")
_TIMED = 30


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an artefact may lie from its classifier.

    Attributes:
        difference: Largest difference of any probability; `None` for any.
        agreement: Smallest fraction of images on which the most probable class is the same.
    """

    difference: float | None
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was measured on an artefact, loaded again from its file.

    Attributes:
        form: `saved_model`, or a format of LiteRT.
        file: Its place in the version's folder.
        size_bytes: On the disk.
        images: Number of test images compared.
        difference: Largest difference of a probability from the classifier's.
        agreement: Fraction of the images on which both have the same most probable class.
        accuracy: Of the artefact on these images.
        classifier_accuracy: Of the classifier on these images.
        latency_ms: Median over single images, on all cores of this machine.
        input: Type of the pixels.
        operators: How often each stands in the graph.
        faults: Why it is refused; empty if it is not.
    """

    form: str
    file: str
    size_bytes: int
    images: int
    difference: float
    agreement: float
    accuracy: float
    classifier_accuracy: float
    latency_ms: float
    input: str
    operators: dict[str, int]
    faults: tuple[str, ...]


def prove(
    form: str, path: Path, pixels: np.ndarray, labels: np.ndarray, expected: np.ndarray, tolerance: Tolerance
) -> Proof:
    """Loads an artefact, runs it and compares it with its classifier.

    Args:
        form: "saved_model" or a format of LiteRT.
        path: The artefact.
        pixels: Test images, uint8 (N, H, W, C).
        labels: Their classes (N,).
        expected: The classifier's probabilities (N, classes).
        tolerance: What is refused.
    """
    run = _run_saved_model if form == SAVED_MODEL else _run_litert
    received, about = run(path, pixels)
    difference = float(np.abs(received - expected).max())
    agreement = float((received.argmax(1) == expected.argmax(1)).mean())
    faults = [*about["faults"]]
    # Written so that NaN, too, is refused.
    if tolerance.difference is not None and not difference <= tolerance.difference:
        faults.append(f"a probability differs by {difference:.2e}, more than {tolerance.difference:.2e}")
    if not agreement >= tolerance.agreement:
        faults.append(f"top-1 agrees on {agreement:.2%} of the images, less than {tolerance.agreement:.2%}")
    if not np.isfinite(received).all():
        faults.append("a probability is not finite")
    return Proof(
        form=form,
        file=path.name,
        size_bytes=_size(path),
        images=len(pixels),
        difference=difference,
        agreement=agreement,
        accuracy=float((received.argmax(1) == labels).mean()),
        classifier_accuracy=float((expected.argmax(1) == labels).mean()),
        latency_ms=about["latency_ms"],
        input=about["input"],
        operators=about["operators"],
        faults=tuple(faults),
    )


def _run_saved_model(path: Path, pixels: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        given, returned = Path(scratch) / "pixels.npy", Path(scratch) / "probabilities.npy"
        np.save(given, pixels)
        # Isolated from the source tree too: it must not find this package by accident.
        command = [sys.executable, "-I", str(_RUNNER), str(path.resolve()), str(given), str(returned)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
        if done.returncode != 0:
            raise RuntimeError(f"Expected a SavedModel that TensorFlow alone can run. Received:\n{done.stderr[-2000:]}")
        about = json.loads(done.stdout.splitlines()[-1])
        probabilities = np.load(returned, allow_pickle=False)
    faults = ["it ran where this package was loaded"] if about["package_loaded"] else []
    return probabilities, {**about, "input": about["input"]["type"], "faults": faults}


def _run_litert(path: Path, pixels: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    model = LiteRTModel(path, threads=os.cpu_count() or 1)
    used = operators(path)
    faults = [
        f"it needs {name.removeprefix('custom:')}, which is no builtin" for name in used if name.startswith("custom:")
    ]
    about = {"latency_ms": _latency_ms(lambda: model(pixels[:1])), "input": model.input_type, "operators": used}
    return model(pixels), {**about, "faults": faults}


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of a SavedModel's folder without the LiteRT files in it."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file() and (file == path or file.suffix != ".tflite"))


def _latency_ms(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(_TIMED + 5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[5:]))
