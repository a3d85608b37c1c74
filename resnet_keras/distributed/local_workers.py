"""Several workers on one machine, to try out training on several machines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any

from resnet_keras.distributed.child_command import ending_with_parent
from resnet_keras.distributed.processor import cores

END_SECONDS = 60.0
"""After a worker has failed, the others have this time to end by themselves and to print why."""

_KILL_SECONDS = 10.0  # a process inside TensorFlow handles signals late, or not at all
_SAVE_SECONDS = (
    20.0  # after a signal, which must not be followed by another: a second one ends a run before it is saved
)


def run_workers(command: Sequence[str], count: int, *, out: IO[str] | None = None) -> int:
    """Runs a command as `count` workers with a TF_CONFIG each, over loopback; returns the first failure's status.

    They share the cores of the CPU. For several GPUs on one machine, one process is better. Each line of a worker's
    output is printed after the worker's number. SIGINT, SIGTERM, SIGHUP, and SIGUSR1 are forwarded to all; on Windows,
    which cannot forward them, all are ended. If one worker fails, the others have `END_SECONDS` to end, too. A worker
    that a signal ended has the status 128 plus the signal's number, as in a shell.
    On Linux, the workers get a SIGTERM if this process is killed.

    Raises:
        ValueError: There is no command, or `count` is below 1.
        FileNotFoundError: There is no such command.
    """
    if count < 1 or not command:
        raise ValueError(f"Expected at least 1 worker and a command. Received: {count}, {' '.join(command) or 'none'}")
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"Expected a command that can be run. Received: {command[0]}")
    workers: list[subprocess.Popen[str]] = []
    signaled: list[float] = []

    def forward(number: int, frame: Any) -> None:
        signaled.append(time.monotonic())
        for worker in workers:
            if worker.poll() is None:
                if sys.platform == "win32":
                    worker.terminate()
                else:
                    worker.send_signal(number)

    lock = threading.Lock()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
            for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
                if signal.getsignal(number) is signal.SIG_IGN:  # as by `nohup`
                    continue
                stack.callback(signal.signal, number, signal.signal(number, forward))
        for i, environment in enumerate(worker_environments(count)):
            worker = subprocess.Popen(
                ending_with_parent(command, signal.SIGTERM),  # which saves a run
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            workers.append(worker)
            stack.callback(worker.kill)
            reader = threading.Thread(
                target=_forward_lines, args=(f"[{i}] ", worker, out or sys.stdout, lock), daemon=True
            )
            reader.start()
            stack.callback(reader.join, timeout=5)
        return _wait(workers, signaled)


def worker_environments(count: int, base: Mapping[str, str] = os.environ) -> list[dict[str, str]]:
    """Returns an environment for each of `count` workers, with free ports of loopback and a share of the cores."""
    with ExitStack() as stack:  # open at the same time, so that all ports differ
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    threads = str(max(1, cores() // count))
    return [
        {
            "TF_NUM_INTRAOP_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "PYTHONUNBUFFERED": "1",
            **base,
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}),
        }
        for index in range(count)
    ]


def _wait(workers: Sequence[subprocess.Popen[str]], signaled: Sequence[float]) -> int:
    """Waits for all; returns the first failure's status, or 0."""
    first, deadline, end = 0, float("inf"), subprocess.Popen.terminate
    while None in [worker.poll() for worker in workers]:
        time.sleep(0.1)
        failed = [worker.returncode for worker in workers if worker.returncode]
        if failed and not first:
            first, deadline = failed[0], time.monotonic() + END_SECONDS
        if signaled and end is subprocess.Popen.terminate:
            deadline, end = min(deadline, signaled[0] + _SAVE_SECONDS), subprocess.Popen.kill
        if time.monotonic() > deadline:
            for worker in workers:
                end(worker)
            deadline, end = time.monotonic() + _KILL_SECONDS, subprocess.Popen.kill
    first = first or next((worker.returncode for worker in workers if worker.returncode), 0)
    return first if first >= 0 else 128 - first


def _forward_lines(prefix: str, worker: subprocess.Popen[str], out: IO[str], lock: threading.Lock) -> None:
    assert worker.stdout is not None
    with worker.stdout:
        for line in worker.stdout:
            with lock:
                out.write(prefix + line.rstrip("\n") + "\n")
                out.flush()
