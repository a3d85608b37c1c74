"""Artifacts in processes of their own: started, asked, measured."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_RUNNER = Path(__file__).with_name("artifact_worker.py")
_SHOWN = 2000
_WARM_UP = 3
_CALLS, _MOST_CALLS = 5, 1000


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long a call takes.

    Attributes:
        threads: Of the processor.
        batch: Images in a call.
        p50_ms: Median over the calls, of the whole batch.
        p95_ms: Which 95 % of the calls do not exceed.
        calls: How many were timed.
    """

    threads: int
    batch: int
    p50_ms: float
    p95_ms: float
    calls: int


class ArtifactProcess:
    """A process that has opened an artifact; see `artifact_worker.py` for kinds and commands."""

    def __init__(self, process: subprocess.Popen[str], said: Any, path: Path) -> None:
        self._process, self._said, self._path = process, said, path

    def ask(self, do: str, **about: Any) -> Any:
        """Returns the answer to a command.

        Raises:
            RuntimeError: The process has ended; the message ends with what it said.
        """
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **about}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        if line := self._process.stdout.readline():
            return json.loads(line)
        status = self._process.wait()
        self._said.seek(0)
        raise RuntimeError(
            f"Expected an artifact that runs. Received: {self._path}, status {status}:\n{self._said.read()[-_SHOWN:]}"
        )

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """Inputs, operators and what else the artifact tells of itself."""
        return self.ask("about")

    @property
    def only_batch(self) -> int | None:
        """Images in a call of an artifact that takes no other number of them."""
        (first, *_) = self.about["inputs"].values()
        return first["shape"][0]

    def outputs(self, images: np.ndarray, batch: int = 64) -> dict[str, np.ndarray]:
        """Returns the outputs (N, ...) for images (N, H, W, C), in batches."""
        with tempfile.TemporaryDirectory() as scratch:
            given, returned = Path(scratch) / "images.npy", Path(scratch) / "outputs.npz"
            np.save(given, images)
            self.ask("answer", images=str(given), to=str(returned), batch=batch)
            with np.load(returned, allow_pickle=False) as file:
                return dict(file)


@contextmanager
def run_artifact(kind: str, path: Path, threads: int) -> Iterator[ArtifactProcess]:
    """Opens an artifact in a process of its own, as long as the context lasts."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Isolated from the source tree too: it must not find this package by accident.
    command = [sys.executable, "-I", str(_RUNNER), kind, str(path.resolve()), str(threads)]
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        )
        try:
            yield ArtifactProcess(process, said, path)
        finally:
            process.kill()
            process.communicate()


def latencies(
    contenders: Sequence[tuple[str, Path]],
    *,
    threads: Sequence[int],
    batches: Sequence[int],
    seconds: float = 1.0,
    turns: int = 1,
) -> list[list[Latency]]:
    """Measures artifacts side by side, in turns, so that what else the machine does falls on all alike.

    Args:
        contenders: Kind and place of each.
        threads: Numbers of threads, one after another.
        batches: Images in a call, one after another; an artifact of a fixed number is measured with that.
        seconds: About how long each contender's turn lasts, five calls at least.
        turns: How often each has its turn.

    Returns:
        For each contender, a latency for each number of threads and each batch.
    """
    found: list[list[Latency]] = [[] for _ in contenders]
    for count in threads:
        with ExitStack() as stack:
            runners = [stack.enter_context(run_artifact(kind, path, count)) for kind, path in contenders]
            for batch in batches:
                times: list[list[float]] = [[] for _ in runners]
                for turn in range(turns):
                    for runner, each in zip(runners, times, strict=True):
                        images = runner.only_batch or batch
                        warm = runner.ask("time", batch=images, calls=_WARM_UP if turn == 0 else 1)
                        calls = max(_CALLS, int(1000 * seconds / max(warm[-1], 1e-3)))
                        each.extend(runner.ask("time", batch=images, calls=min(calls, _MOST_CALLS)))
                for runner, each, result in zip(runners, times, found, strict=True):
                    p50, p95 = map(float, np.percentile(each, [50, 95]))
                    images = runner.only_batch or batch
                    result.append(Latency(threads=count, batch=images, p50_ms=p50, p95_ms=p95, calls=len(each)))
    return found


def default_threads() -> tuple[int, ...]:
    """Returns one thread, and as many as there are cores."""
    return tuple(sorted({1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1}))
