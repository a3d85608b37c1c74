"""Verification of artifacts: each is run on real images and compared with its classifier."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.applications.outputs import log_probabilities, log_softmax
from resnet_keras.exporting.artifact_process import ArtifactProcess, Latency, default_threads, run_artifact
from resnet_keras.exporting.formats import FORMATS, Format
from resnet_keras.exporting.litert import operators
from resnet_keras.exporting.onnx_file import onnx_operators
from resnet_keras.exporting.options import allowed_changes
from resnet_keras.exporting.reference import Reference, images_per_call
from resnet_keras.runs.file_hashes import artifact_digest

_log = logging.getLogger(__name__)

_SLOW_SECONDS, _LEAST_IMAGES = 120.0, 16
_LEAST_PROBABILITY = 1e-20  # smaller ones underflow in float32 on their way through the softmax


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Allowed deviation of an artifact from its classifier.

    Attributes:
        difference: Largest difference of any probability; `None` for any.
        agreement: Smallest fraction of images with the same most probable class.
    """

    difference: float | None
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Measurements of an artifact that was loaded from its file.

    Attributes:
        format: A key of `FORMATS`.
        file: Path of the artifact in the folder of its version.
        size_bytes: Size on the disk.
        sha256: Digest of the file, or of a SavedModel's graph and variables.
        images: Number of test images.
        difference: Largest difference of a probability from the classifier's.
        logit_difference: Largest difference of a logit from the classifier's, both less the logarithm of the sum of
            the image's exponentials; `None` for formats that round probabilities to multiples of 1/256. Of a
            SavedModel, those of `features` for the first 16 images, which it computes as it does the probabilities.
        agreement: Fraction of the images on which both have the same most probable class.
        accuracy: Accuracy of the artifact on these images; `None` without labels.
        classifier_accuracy: Accuracy of the classifier on these images; `None` without labels.
        peak_memory_bytes: Peak memory of the process that ran it, with its libraries.
        input: Type of the pixels.
        operators: Number of each operator in the graph.
        undelegated: Operators of a LiteRT file that the interpreter runs itself, without XNNPACK.
        tolerance: Allowed deviation.
        failures: Reasons for which the artifact is refused; empty if it passed.
        latencies: Latencies by threads and batch; empty if they were not measured.
    """

    format: Format
    file: str
    size_bytes: int
    sha256: str
    images: int
    difference: float
    logit_difference: float | None
    agreement: float
    accuracy: float | None
    classifier_accuracy: float | None
    peak_memory_bytes: int
    input: str
    operators: dict[str, int]
    undelegated: tuple[str, ...]
    tolerance: Tolerance
    failures: tuple[str, ...]
    latencies: tuple[Latency, ...] = ()

    @property
    def latency_ms(self) -> float | None:
        """Median latency of one image on all cores, in milliseconds; `None` if it was not measured."""
        return next((each.p50_ms for each in reversed(self.latencies) if each.batch == 1), None)

    def __str__(self) -> str:
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.2%}"
        latency = "" if self.latency_ms is None else f" {self.latency_ms:7.2f} ms,"
        return (
            f"{self.format:13} {self.size_bytes / 1e6:7.2f} MB,{latency} largest difference {self.difference:.1e}, "
            f"top-1 agreement {self.agreement:.2%}{accuracy}, "
            + ("passed" if not self.failures else "REFUSED: " + "; ".join(self.failures))
        )


@contextmanager
def verifying_process(name: Format, path: Path) -> Iterator[ArtifactProcess]:
    """Runs an artifact in a process of its own, which imports its library while the artifact is written."""
    with run_artifact(FORMATS[name].runtime, path, default_threads()[-1]) as process:
        yield process


def verify(
    name: Format,
    path: Path,
    reference: Reference,
    tolerance: Tolerance,
    process: ArtifactProcess | None = None,
) -> Verification:
    """Runs an artifact in a process without this package, and compares it with its classifier.

    Args:
        name: The format, a key of `FORMATS`.
        path: The artifact.
        reference: Test images, and the classifier's logits for them.
        tolerance: Allowed deviation.
        process: A process from `verifying_process`; started here if `None`.

    Returns:
        The measurements, and the failures if the artifact is outside its tolerance.

    Raises:
        ArtifactError: The artifact does not run.
    """
    with verifying_process(name, path) if process is None else nullcontext(process) as running:
        description = running.description
        if FORMATS[name].slow:
            reference = _within_time(name, running, reference)
        pixels, labels = reference.pixels, reference.labels
        outputs = _outputs(running, pixels)
        memory = running.peak_memory()
        probabilities = outputs.get("probabilities", next(iter(outputs.values())))
        log_probabilities = _log_probabilities(name, running, pixels, outputs, probabilities)
    expected_logs = log_softmax(reference.logits)
    wanted = np.exp(expected_logs)
    difference = float(np.abs(probabilities - wanted).max())
    changes = probabilities.argmax(1) != wanted.argmax(1)
    logit_difference = None
    if log_probabilities is not None:
        count = len(log_probabilities)
        differences = np.abs(log_probabilities - expected_logs[:count])
        logit_difference = float(differences[wanted[:count] > _LEAST_PROBABILITY].max())
    (pixel_input,) = description["inputs"].values()
    counted = {"litert": operators, "onnx": onnx_operators}.get(FORMATS[name].runtime)
    used = description["operators"] if counted is None else counted(path)
    return Verification(
        format=name,
        file="." if path.is_dir() else path.name,
        size_bytes=_size(path),
        sha256=artifact_digest(path),
        images=len(pixels),
        difference=difference,
        logit_difference=logit_difference,
        agreement=float(1 - changes.mean()),
        accuracy=None if labels is None else float((probabilities.argmax(1) == labels).mean()),
        classifier_accuracy=None if labels is None else float((wanted.argmax(1) == labels).mean()),
        peak_memory_bytes=memory,
        input=pixel_input["type"],
        operators=used,
        undelegated=tuple(description["undelegated"]),
        tolerance=tolerance,
        failures=(
            *_foreign_parts(description["forbidden_modules"], used),
            *_deviations(probabilities, difference, changes, tolerance),
        ),
    )


def _within_time(name: Format, process: ArtifactProcess, reference: Reference) -> Reference:
    """Returns the first images of a reference, no more than a slow artifact computes in two minutes; logs its speed."""
    first = reference.pixels[:1]
    _outputs(process, first)  # the first call allocates memory
    start = time.monotonic()
    _outputs(process, first)
    seconds = (time.monotonic() - start) / (process.fixed_batch or 1)
    count = min(len(reference.pixels), max(_LEAST_IMAGES, int(_SLOW_SECONDS / seconds)))
    _log.warning(
        f"{name} takes {1000 * seconds:,.0f} ms an image, as XNNPACK has no kernels for it; it is verified on {count} "
        "images"
    )
    return reference.first(count)


def _outputs(process: ArtifactProcess, pixels: np.ndarray) -> dict[str, np.ndarray]:
    batch = process.fixed_batch or images_per_call(pixels)
    # A file for a fixed batch gets the first image again until the last batch is full.
    missing = -len(pixels) % batch if process.fixed_batch else 0
    found = process.outputs(np.concatenate([pixels, pixels[:1].repeat(missing, 0)]), batch)
    return {name: values[: len(pixels)] for name, values in found.items()}


def _log_probabilities(
    name: Format,
    process: ArtifactProcess,
    pixels: np.ndarray,
    outputs: dict[str, np.ndarray],
    probabilities: np.ndarray,
) -> np.ndarray | None:
    if FORMATS[name].runtime == "saved_model":
        first = pixels[:_LEAST_IMAGES]  # all signatures call one network, which has seen all images
        return log_softmax(process.outputs(first, images_per_call(pixels), signature="features")["logits"])
    if "logits" in outputs:
        return log_softmax(outputs["logits"])
    if FORMATS[name].integer:
        return None  # the softmax has rounded them to multiples of 1/256
    return log_probabilities(probabilities)


def _foreign_parts(modules: Sequence[str], used: dict[str, int]) -> list[str]:
    custom = [name.removeprefix("custom:") for name in used if name.startswith("custom:")]
    return [f"it imports {name}" for name in modules] + [f"it has the custom operator {name}" for name in custom]


def _deviations(
    probabilities: np.ndarray, difference: float, changes: np.ndarray, tolerance: Tolerance
) -> Iterator[str]:
    # Written so that NaN is refused, too.
    if tolerance.difference is not None and not difference <= tolerance.difference:
        yield f"a probability differs by {difference:.2e}, more than {tolerance.difference:.2e}"
    allowed = allowed_changes(tolerance.agreement, len(changes))
    if changes.sum() > allowed:
        yield (
            f"top-1 agrees on {1 - changes.mean():.2%} of the images, less than {tolerance.agreement:.2%}: it differs "
            f"on {changes.sum():,} of {len(changes):,}, and may on {allowed:,}"
        )
    if not np.isfinite(probabilities).all():
        yield "a probability is not finite"


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of a SavedModel's folder without the files of other formats in it."""
    files: Any = [path] if path.is_file() else path.rglob("*")
    others = (".tflite", ".onnx")
    return sum(file.stat().st_size for file in files if file.is_file() and (file == path or file.suffix not in others))
