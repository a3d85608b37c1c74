"""Speed of artifacts, of this package and of others, side by side in one run."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_keras.checks.extras import expect_installed, packages_of
from resnet_keras.exporting.artifact_process import Latency, default_threads, measure_latencies
from resnet_keras.tables import markdown_table

PEERS = ("resnet50", "resnet101", "resnet152")
"""Networks that `keras.applications` has as well."""

_log = logging.getLogger(__name__)
_KINDS = {".tflite": "litert", ".onnx": "onnx"}
_RUNTIMES = {"litert": ("export", "LiteRT", "ai_edge_litert"), "onnx": ("onnx", "ONNX Runtime", "onnxruntime")}
_ADVICE = "Leave it out; what is measured is a whole file of one input, images, or a SavedModel with `serving_default`"


@dataclass(frozen=True)
class Contender:
    """An artifact to measure.

    Attributes:
        name: Name in the table.
        kind: Kind; see `artifact_worker.py`.
        path: File, or folder of a SavedModel.
    """

    name: str
    kind: str
    path: Path


@dataclass(frozen=True)
class ArtifactSpeed:
    """Measurements of an artifact: its size, its peak memory, its latencies by threads and batch, and on which images.

    `image_shape` is height, width and channels in pixels.
    """

    contender: Contender
    size_bytes: int
    peak_memory_bytes: int
    latencies: tuple[Latency, ...]
    image_shape: tuple[int, ...]


def find_artifacts(paths: Sequence[str | Path]) -> list[Contender]:
    """Returns the artifacts at some paths: SavedModels, `.tflite` and `.onnx` files, and those in folders.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A path is no artifact and has none in it.
    """
    found: list[Contender] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"Expected a SavedModel's folder, a .tflite or an .onnx file. Received: {path}")
        inside = [path] if path.is_file() else [file for kind in _KINDS for file in sorted(path.glob(f"*{kind}"))]
        single = [Contender(str(file), _KINDS[file.suffix], file) for file in inside if file.suffix in _KINDS]
        whole = [Contender(str(path), "saved_model", path)] if (path / "saved_model.pb").is_file() else []
        if not single and not whole:
            raise ValueError(f"Expected a SavedModel's folder, a .tflite or an .onnx file. Received: {path}, none")
        found.extend((*whole, *single))
    return found


def export_peers(network: str, folder: Path) -> list[Contender]:
    """Exports a network of `keras.applications` with `model.export`, for TensorFlow, OpenVINO and ONNX Runtime.

    A runtime that is not installed is skipped, with a warning.

    Args:
        network: One of `PEERS`.
        folder: Folder for the files.

    Raises:
        ValueError: `keras.applications` has no such network.
    """
    if network not in PEERS:
        raise ValueError(f"Expected a network that keras.applications has, {', '.join(PEERS)}. Received: {network}")
    import keras

    model = getattr(keras.applications, network.replace("resnet", "ResNet"))(weights=None)
    model(keras.ops.zeros((1, *model.input_shape[1:])))  # Keras exports to ONNX only a model that has been called
    saved_model, onnx = folder / "saved_model", folder / "model.onnx"
    model.export(saved_model, verbose=False)
    found = [Contender(f"keras.applications {network}, model.export", "saved_model", saved_model)]
    if importlib.util.find_spec("openvino"):
        for precision in ("f32", "bf16"):
            found.append(Contender(f"the same in OpenVINO, {precision}", f"openvino:{precision}", saved_model))
    else:
        _log.warning("OpenVINO is not installed and not measured: pip install openvino")
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tf2onnx"):
        model.export(onnx, format="onnx", verbose=False)
        found.append(Contender("the same in ONNX Runtime", "onnx", onnx))
    else:
        _log.warning("ONNX Runtime is not installed and not measured: pip install %s", " ".join(packages_of("onnx")))
    return found


def measure_speed(
    contenders: Sequence[Contender],
    *,
    threads: Sequence[int] | None = None,
    batches: Sequence[int] = (1, 16),
    seconds: float = 2.0,
    turns: int = 3,
) -> list[ArtifactSpeed]:
    """Measures artifacts in turns, each in a process of its own, on images of noise.

    Args:
        contenders: The artifacts.
        threads: Numbers of threads; one, and as many as there are cores, if `None`.
        batches: Images per call; an artifact of a fixed number is measured with that.
        seconds: Length of a turn.
        turns: Number of turns of each artifact.

    Returns:
        The measurements of each artifact.

    Raises:
        ValueError: There is no artifact, a number is below 1, or `seconds` is not above 0 and finite.
        ArtifactError: An artifact does not run.
        MissingExtra: The library of one is not installed.
    """
    if not contenders:
        raise ValueError("Expected at least one artifact. Received: none")
    for name, values in (("threads", threads or (1,)), ("batches", batches), ("turns", (turns,))):
        if not values or min(values) < 1:
            raise ValueError(f"Expected `{name}` of at least 1. Received: {values}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"Expected `seconds` above 0, a finite number. Received: {seconds}")
    for kind in dict.fromkeys(each.kind for each in contenders):
        if kind in _RUNTIMES:
            expect_installed(*_RUNTIMES[kind])
    artifacts = [(each.kind, each.path) for each in contenders]
    speeds = measure_latencies(
        artifacts, threads=threads or default_threads(), batches=batches, seconds=seconds, turns=turns, advice=_ADVICE
    )
    return [
        ArtifactSpeed(each, _size(each.path), speed.peak_memory_bytes, speed.latencies, speed.image_shape)
        for each, speed in zip(contenders, speeds, strict=True)
    ]


def speed_table(speeds: Sequence[ArtifactSpeed], reference: int = 0) -> str:
    """Returns a table in Markdown: milliseconds per image, and the speed relative to one of the artifacts.

    An artifact of images of another shape has no relative speed, and one of another batch has its own in its cells.

    Args:
        speeds: Measurements from `measure_speed`.
        reference: Index of the artifact that the others are compared with.
    """
    columns = [(each.threads, each.batch) for each in speeds[reference].latencies]
    heads = [f"{threads} thread{'s' * (threads > 1)}, batch {batch}" for threads, batch in columns]
    rows = []
    for each in speeds:
        is_comparable = each.image_shape == speeds[reference].image_shape
        cells = [
            _cell(here, other, is_comparable)
            for here, other in zip(each.latencies, speeds[reference].latencies, strict=True)
        ]
        sizes = (f"{each.size_bytes / 1e6:.2f}", f"{each.peak_memory_bytes / 1e6:.0f}")
        shape = "x".join(map(str, each.image_shape))
        rows.append((each.contender.name, shape, *sizes, *cells))
    return markdown_table(("artifact", "images", "MB", "memory, MB", *heads), rows)


def _cell(here: Latency, other: Latency, is_comparable: bool) -> str:
    """Returns milliseconds per image, the speed relative to another artifact, and the 95th percentile."""
    mine, theirs = here.p50_ms / here.batch, other.p50_ms / other.batch
    batch = [f"batch {here.batch}"] if here.batch != other.batch else []
    ratio = [f"{theirs / mine:.2f}x"] if is_comparable else []
    return f"{mine:.3g} ({', '.join([*batch, *ratio, f'p95 {here.p95_ms / here.batch:.3g}'])})"


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    files = [path / "saved_model.pb", *(path / "variables").glob("*")]
    return sum(file.stat().st_size for file in files)
