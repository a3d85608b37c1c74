"""How fast artifacts are, ours and others', side by side in one run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_keras.exporting.artifact_process import Latency, default_threads, latencies, run_artifact

PEERS = ("resnet50", "resnet101", "resnet152")
"""Networks that `keras.applications` has as well."""

_KINDS = {".tflite": "litert", ".onnx": "onnx"}


@dataclass(frozen=True)
class Contender:
    """An artifact to measure.

    Attributes:
        name: What the table calls it.
        kind: See `artifact_worker.py`.
        path: Where it lies.
    """

    name: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Measured:
    """What was measured on a contender: its size and memory, and its latencies by threads and batch."""

    contender: Contender
    size_bytes: int
    peak_memory_bytes: int
    latencies: tuple[Latency, ...]


def contenders(paths: Sequence[str | Path]) -> list[Contender]:
    """Returns the artifacts at some places: SavedModels, `.tflite` and `.onnx` files, or folders that hold such.

    Raises:
        FileNotFoundError: There is nothing at a place.
        ValueError: What lies there is no artifact.
    """
    found: list[Contender] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"Expected a SavedModel's folder, a .tflite or an .onnx file. Received: {path}")
        inside = [path] if path.is_file() else [file for kind in _KINDS for file in sorted(path.glob(f"*{kind}"))]
        files = [Contender(str(file), _KINDS[file.suffix], file) for file in inside if file.suffix in _KINDS]
        whole = [Contender(str(path), "saved_model", path)] if (path / "saved_model.pb").is_file() else []
        if not files and not whole:
            raise ValueError(f"Expected a SavedModel's folder, a .tflite or an .onnx file. Received: {path}, none")
        found.extend((*whole, *files))
    return found


def peers(network: str, folder: Path, log: Callable[[str], None] = print) -> list[Contender]:
    """Exports a network of `keras.applications` as Keras does, for TensorFlow and whatever else is installed.

    Args:
        network: One of `PEERS`.
        folder: Where to.
        log: Takes what is missing.

    Raises:
        ValueError: `keras.applications` has no such network.
    """
    if network not in PEERS:
        raise ValueError(f"Expected a network that keras.applications has, {', '.join(PEERS)}. Received: {network}")
    import keras

    model = getattr(keras.applications, network.replace("resnet", "ResNet"))(weights=None)
    model(keras.ops.zeros((1, *model.input_shape[1:])))  # Keras exports to ONNX only what has been called
    saved_model, onnx = folder / "saved_model", folder / "model.onnx"
    model.export(saved_model, verbose=False)
    found = [Contender(f"keras.applications {network}, model.export", "saved_model", saved_model)]
    if importlib.util.find_spec("openvino"):
        for precision in ("f32", "bf16"):
            found.append(Contender(f"the same in OpenVINO, {precision}", f"openvino:{precision}", saved_model))
    else:
        log("no OpenVINO: pip install openvino")
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tf2onnx"):
        model.export(onnx, format="onnx", verbose=False)
        found.append(Contender("the same in ONNX Runtime", "onnx", onnx))
    else:
        log("no ONNX Runtime: pip install onnxruntime tf2onnx")
    return found


def measure(
    measured: Sequence[Contender],
    *,
    threads: Sequence[int] | None = None,
    batches: Sequence[int] = (1, 16),
    seconds: float = 2.0,
    turns: int = 3,
) -> list[Measured]:
    """Measures artifacts in turns, each in a process of its own, on images of noise.

    Args:
        measured: The artifacts.
        threads: Numbers of threads; one, and as many as there are cores, if `None`.
        batches: Images in a call; an artifact of a fixed number is measured with that.
        seconds: Length of a turn.
        turns: Of each.

    Raises:
        ValueError: There is no artifact, or a number below 1.
        RuntimeError: An artifact does not run.
    """
    if not measured:
        raise ValueError("Expected at least one artifact. Received: none")
    for name, values in (("threads", threads or (1,)), ("batches", batches), ("turns", (turns,))):
        if not values or min(values) < 1:
            raise ValueError(f"Expected `{name}` of at least 1. Received: {values}")
    pairs = [(each.kind, each.path) for each in measured]
    times = latencies(pairs, threads=threads or default_threads(), batches=batches, seconds=seconds, turns=turns)
    return [
        Measured(each, _size(each), _memory(each, batches), tuple(found))
        for each, found in zip(measured, times, strict=True)
    ]


def table(measured: Sequence[Measured], against: int = 0) -> str:
    """Returns a table in Markdown: milliseconds per image, and how many times as fast as one of the contenders.

    Args:
        measured: See `measure`.
        against: Which of them the others are compared with.
    """
    kinds = [(each.threads, each.batch) for each in measured[0].latencies]
    heads = [f"{threads} thread{'s' * (threads > 1)}, batch {batch}" for threads, batch in kinds]
    lines = ["| artifact | MB | memory, MB | " + " | ".join(heads) + " |", "|---|---:|---:|" + "---:|" * len(kinds)]
    for each in measured:
        cells = [
            f"{here.p50_ms / here.batch:.2f} ({other.p50_ms / here.p50_ms:.2f}x, p95 {here.p95_ms / here.batch:.2f})"
            for here, other in zip(each.latencies, measured[against].latencies, strict=True)
        ]
        sizes = f"{each.size_bytes / 1e6:.2f} | {each.peak_memory_bytes / 1e6:.0f}"
        lines.append(f"| {each.contender.name} | {sizes} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _size(contender: Contender) -> int:
    path = contender.path
    if path.is_file():
        return path.stat().st_size
    files = [path / "saved_model.pb", *(path / "variables").glob("*")]
    return sum(file.stat().st_size for file in files)


def _memory(contender: Contender, batches: Sequence[int]) -> int:
    """Returns the most memory that a process takes to open an artifact and to run the largest batch."""
    with run_artifact(contender.kind, contender.path, default_threads()[-1]) as runner:
        runner.ask("time", batch=runner.only_batch or max(batches), calls=2)
        return runner.ask("memory")
