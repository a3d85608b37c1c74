"""Whether an artifact computes what its classifier computes, on real images, and what it costs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.exporting.artifact_process import ArtifactProcess, Latency, default_threads, latencies, run_artifact
from resnet_keras.exporting.litert import operators

SAVED_MODEL = "saved_model"

_BATCHES = (1, 8)
_SECONDS = 0.5  # of each latency
_SEEN = 1e-20  # smaller probabilities underflow on their way


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an artifact may lie from its classifier.

    Attributes:
        difference: Largest difference of any probability; `None` for any.
        agreement: Smallest fraction of images on which the most probable class is the same.
    """

    difference: float | None
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was measured on an artifact, loaded again from its file.

    Attributes:
        form: `saved_model`, or a format of LiteRT.
        file: Its place in the version's folder.
        size_bytes: On the disk.
        sha256: Of the file, or of a SavedModel's graph.
        images: Number of test images compared.
        difference: Largest difference of a probability from the classifier's.
        logit_difference: The same of a logit, less what all of an image's have in common (the logarithm of their
            exponentials' sum); `None` where the artifact rounds probabilities to 256ths.
        agreement: Fraction of the images on which both have the same most probable class.
        accuracy: Of the artifact on these images.
        classifier_accuracy: Of the classifier on these images.
        latencies: By threads and images in a call.
        peak_memory_bytes: Of the whole process that ran it, with its libraries.
        input: Type of the pixels.
        operators: How often each stands in the graph.
        undelegated: Operators of a LiteRT file that the interpreter, not XNNPACK, computes.
        faults: Why it is refused; empty if it is not.
    """

    form: str
    file: str
    size_bytes: int
    sha256: str
    images: int
    difference: float
    logit_difference: float | None
    agreement: float
    accuracy: float
    classifier_accuracy: float
    latencies: tuple[Latency, ...]
    peak_memory_bytes: int
    input: str
    operators: dict[str, int]
    undelegated: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def latency_ms(self) -> float:
        """Median of one image on all cores."""
        return next(each.p50_ms for each in reversed(self.latencies) if each.batch == 1)


def verify(
    form: str,
    path: Path,
    pixels: np.ndarray,
    labels: np.ndarray,
    expected: np.ndarray,
    tolerance: Tolerance,
    *,
    batches: Sequence[int] = _BATCHES,
) -> Verification:
    """Loads an artifact, runs it in a process of its own and compares it with its classifier.

    Args:
        form: "saved_model" or a format of LiteRT.
        path: The artifact.
        pixels: Test images, uint8 (N, H, W, C).
        labels: Their classes (N,).
        expected: The classifier's logits (N, classes).
        tolerance: What is refused.
        batches: Images in a call, where it is timed.

    Raises:
        RuntimeError: The artifact does not run.
    """
    kind = "saved_model" if form == SAVED_MODEL else "litert"
    threads = default_threads()
    with run_artifact(kind, path, threads[-1]) as runner:
        about = runner.about
        (pixel_input,) = about["inputs"].values()
        received, logs = _answers(form, path, runner, pixels, runner.only_batch or 64)
        memory = runner.ask("memory")
    (measured,) = latencies([(kind, path)], threads=threads, batches=batches, seconds=_SECONDS)
    true_logs = _log_softmax(expected)
    wanted = np.exp(true_logs)
    difference = float(np.abs(received - wanted).max())
    agreement = float((received.argmax(1) == wanted.argmax(1)).mean())
    used = about["operators"] if form == SAVED_MODEL else operators(path)
    return Verification(
        form=form,
        file=path.name,
        size_bytes=_size(path),
        sha256=hashlib.sha256((path / "saved_model.pb" if path.is_dir() else path).read_bytes()).hexdigest(),
        images=len(pixels),
        difference=difference,
        logit_difference=None if logs is None else float(np.abs(logs - true_logs)[wanted > _SEEN].max()),
        agreement=agreement,
        accuracy=float((received.argmax(1) == labels).mean()),
        classifier_accuracy=float((wanted.argmax(1) == labels).mean()),
        latencies=tuple(measured),
        peak_memory_bytes=memory,
        input=pixel_input["type"],
        operators=used,
        undelegated=tuple(about["undelegated"]),
        faults=tuple(_faults(received, difference, agreement, tolerance, about["strangers"], used)),
    )


def _answers(
    form: str, path: Path, runner: ArtifactProcess, pixels: np.ndarray, batch: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns an artifact's probabilities and, where it tells as much, their logarithms."""
    # What is over, of a file for a batch of several: the last images once more.
    rest = -len(pixels) % batch if form != SAVED_MODEL else 0
    (probabilities,) = runner.outputs(np.concatenate([pixels, pixels[:1].repeat(rest, 0)]), batch).values()
    probabilities = probabilities[: len(pixels)]
    if form == SAVED_MODEL:
        with run_artifact("saved_model:features", path, default_threads()[-1]) as features:
            return probabilities, _log_softmax(features.outputs(pixels)["logits"])
    if form in ("float32", "float16", "dynamic_range"):
        return probabilities, np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return probabilities, None  # a softmax in 256ths has rounded them away


def _faults(
    received: np.ndarray,
    difference: float,
    agreement: float,
    tolerance: Tolerance,
    strangers: list[str],
    used: dict[str, int],
) -> list[str]:
    faults = [f"it needs {name}" for name in strangers]
    custom = [name.removeprefix("custom:") for name in used if name.startswith("custom:")]
    faults.extend(f"it needs {name}, which is no builtin" for name in custom)
    # Written so that NaN, too, is refused.
    if tolerance.difference is not None and not difference <= tolerance.difference:
        faults.append(f"a probability differs by {difference:.2e}, more than {tolerance.difference:.2e}")
    if not agreement >= tolerance.agreement:
        faults.append(f"top-1 agrees on {agreement:.2%} of the images, less than {tolerance.agreement:.2%}")
    if not np.isfinite(received).all():
        faults.append("a probability is not finite")
    return faults


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of a SavedModel's folder without the LiteRT files in it."""
    files: Any = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file() and (file == path or file.suffix != ".tflite"))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
