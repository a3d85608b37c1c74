"""Artifacts in processes of their own: described, run and timed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras import files
from resnet_keras.distributed.processor import cores
from resnet_keras.exporting.child_process import ChildProcess

_WARM_UP_CALLS = 3
_LEAST_CALLS, _MOST_CALLS = 5, 1000
_OF_EXPORT = "Export it again, or leave its format out with --formats"

FREE_SIDE = 224
"""Height and width of the noise for an artifact that takes images of any size, as in `artifact_worker.py`."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of a call.

    Attributes:
        threads: Number of threads of the CPU.
        batch: Images per call.
        p50_ms: Median over the calls, of the whole batch, in milliseconds.
        p95_ms: 95th percentile over the calls, in milliseconds.
        calls: Number of calls.
    """

    threads: int
    batch: int
    p50_ms: float
    p95_ms: float
    calls: int


@dataclass(frozen=True)
class Speed:
    """Latencies of an artifact by threads and batch, and the peak memory of the process that ran the last of them.

    `image_shape` is that of the images of noise, height, width and channels in pixels.
    """

    latencies: tuple[Latency, ...]
    peak_memory_bytes: int
    image_shape: tuple[int, ...]


class ArtifactProcess:
    """A process that runs an artifact. See `artifact_worker.py` for the kinds of artifacts."""

    def __init__(self, child: ChildProcess, path: Path, advice: str) -> None:
        self._child, self._path, self._advice = child, path, advice

    def ask(self, command: str, **arguments: Any) -> Any:
        """Returns the answer to a command of `artifact_worker.py`.

        Raises:
            ArtifactError: The artifact does not open, or does not run.
        """
        self._child.send({"command": command, **arguments})
        return self._child.receive("an artifact that runs", self._path, self._advice)

    def limit(self, *, seconds: float, memory: int) -> None:
        """Ends the process where one of its answers takes longer, or, on Linux, where it asks for more memory."""
        self._child.limit(seconds=seconds, memory=memory)

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """Inputs, operators, operators that XNNPACK does not run, and forbidden modules that were imported."""
        return self.ask("describe")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the images that the artifact is timed with."""
        (first, *_) = self.description["inputs"].values()
        return tuple(FREE_SIDE if side is None else side for side in first["shape"][1:])

    @property
    def fixed_batch(self) -> int | None:
        """Images per call, of an artifact that takes no other number of them."""
        (first, *_) = self.description["inputs"].values()
        return first["shape"][0]

    def outputs(self, images: np.ndarray, batch: int = 64, signature: str | None = None) -> dict[str, np.ndarray]:
        """Returns the outputs, each (N, ...), for images (N, H, W, C).

        Args:
            images: Pixels 0–255.
            batch: Images per call.
            signature: A SavedModel's signature for images; that of the process if `None`.
        """
        with files.scratch_folder() as scratch:
            given, returned = scratch / "images.npy", scratch / "outputs.npz"
            np.save(given, images)
            self.ask("run", images=str(given), outputs=str(returned), batch=batch, signature=signature)
            with np.load(returned, allow_pickle=False) as file:
                return dict(file)

    def peak_memory(self) -> int:
        """Returns the largest memory that the process has held so far, with its libraries, in bytes."""
        return self._child.peak_memory()


@contextmanager
def run_artifact(kind: str, path: Path, threads: int, advice: str = _OF_EXPORT) -> Iterator[ArtifactProcess]:
    """Runs an artifact in a process of its own, as long as the context lasts.

    The process imports the artifact's library at once, and opens the artifact at the first command.

    Args:
        kind: `saved_model`, `litert`, `openvino` or `onnx`. After a colon, a SavedModel's signature or OpenVINO's
            precision.
        path: The artifact; it must exist when the first command is given.
        threads: Number of threads.
        advice: The next step where it does not run, for the error.
    """
    with ChildProcess("artifact_worker.py", kind, str(path.resolve()), str(threads)) as child:
        yield ArtifactProcess(child, path, advice)


def measure_latencies(
    artifacts: Sequence[tuple[str, Path]],
    *,
    threads: Sequence[int],
    batches: Sequence[int],
    seconds: float = 1.0,
    turns: int = 1,
    advice: str = _OF_EXPORT,
) -> list[Speed]:
    """Measures artifacts in turns, so that other load of the machine slows all of them alike.

    Args:
        artifacts: Kind and path of each.
        threads: Numbers of threads, one after another.
        batches: Images per call, one after another; an artifact of a fixed number is measured with that.
        seconds: Approximate length of a turn, five calls at least.
        turns: Number of turns of each artifact.
        advice: The next step where one does not run, for the error.

    Returns:
        The speed of each artifact.

    Raises:
        ArtifactError: An artifact does not run.
    """
    found: list[list[Latency]] = [[] for _ in artifacts]
    memory: list[int] = []
    shapes: list[tuple[int, ...]] = []
    for count in threads:
        with ExitStack() as stack:
            processes = [stack.enter_context(run_artifact(kind, path, count, advice)) for kind, path in artifacts]
            for batch in batches:
                times: list[list[float]] = [[] for _ in processes]
                for turn in range(turns):
                    for process, each in zip(processes, times, strict=True):
                        each.extend(_turn(process, batch, seconds, _WARM_UP_CALLS if turn == 0 else 1))
                for process, each, latencies in zip(processes, times, found, strict=True):
                    p50, p95 = map(float, np.percentile(each, [50, 95]))
                    images = process.fixed_batch or batch
                    latencies.append(Latency(threads=count, batch=images, p50_ms=p50, p95_ms=p95, calls=len(each)))
            memory = [process.peak_memory() for process in processes]
            shapes = [process.image_shape for process in processes]
    return [Speed(tuple(latencies), peak, shape) for latencies, peak, shape in zip(found, memory, shapes, strict=True)]


def default_threads() -> tuple[int, ...]:
    """Returns one thread, and as many threads as there are cores."""
    return tuple(sorted({1, cores()}))


def _turn(process: ArtifactProcess, batch: int, seconds: float, warm_up: int) -> list[float]:
    """Returns the milliseconds of the calls of one turn."""
    images = process.fixed_batch or batch
    warm = process.ask("time", batch=images, calls=warm_up)
    calls = max(_LEAST_CALLS, int(1000 * seconds / max(warm[-1], 1e-3)))
    return process.ask("time", batch=images, calls=min(calls, _MOST_CALLS))
