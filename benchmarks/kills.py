"""Kills a run at each of its calls to the file system, and repeats the same command: `python benchmarks/kills.py`.

A place is a file that is opened for writing, or a file or folder that is renamed, made, removed, or given other
permissions, in the folder of the run. At each place a process ends as by `kill -9`; then the same command runs in
another. What the run shows in the end is compared with an undisturbed one: every weight, the rows of the history, the
result, the pictures, and the names of the files. One process imports TensorFlow, and each run is a fork of it.

With `--signals N`, SIGKILL comes N times at random moments between the calls, seven times in a run.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import h5py

from resnet_keras import cli
from resnet_keras.runs import versions

with contextlib.suppress(AttributeError):  # what a command would import
    import resnet_keras

    resnet_keras.train, resnet_keras.training.dry_run  # noqa: B018

ARGUMENTS = (
    *("digits", "--model", "resnet8", "--train-images", "128", "--epochs", "2", "--batch-size", "64"),
    *("--warmup-steps", "2", "--checkpoint-steps", "1"),
)
KILLED = 137
_KILLS_OF_A_RUN = 7
_CLOCKS = ("seconds", "images_per_second")
_CALLS = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.truncate", "shutil.rmtree")


def in_fork(run: Path, hook: Callable[[str], None] | None = None) -> int:
    """Trains in a fork of this process, and calls `hook` with the name of each place; returns the exit status."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 1
    try:
        with open(run.parent / "log.txt", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        if hook:
            sys.addaudithook(lambda event, arguments: [hook(place) for place in places(run, event, arguments)][:0])
        status = cli.main(["train", *ARGUMENTS, "--workdir", str(run)])
        sys.stdout.flush()
    finally:
        os._exit(status)


def places(run: Path, event: str, arguments: tuple[Any, ...]) -> Iterator[str]:
    """Yields the name of the place that an event of Python's audit is, if it is one."""
    if event == "open":
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else False
        if not writes and not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
    elif event in _CALLS:
        path = arguments[1] if event == "os.rename" else arguments[0]
    else:
        return
    if not isinstance(path, (str, bytes, os.PathLike)):
        return
    path = os.fsdecode(path)
    if not os.path.isabs(path) and event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
        with contextlib.suppress(OSError):  # a folder that `shutil.rmtree` removes by its descriptor
            path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), path)
    if path.startswith(str(run)):
        yield f"{event} {os.path.relpath(path, run)}"


def shown(run: Path) -> dict[str, Any]:
    """Returns what a finished run shows, apart from its clocks and TensorBoard's logs."""
    state = hashlib.sha256()
    with zipfile.ZipFile(run / "model.keras") as archive:
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    file.visititems(
        lambda name, item: state.update(name.encode() + item[()].tobytes()) if isinstance(item, h5py.Dataset) else None
    )
    with (run / "history.csv").open() as lines:
        rows = [{key: value for key, value in row.items() if key not in _CLOCKS} for row in csv.DictReader(lines)]
    names = sorted(
        str(path.relative_to(run))
        for path in run.rglob("*")
        if "tensorboard" not in path.parts and path.name != ".lock"
    )
    pictures = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(run.rglob("*.png"))}
    result = json.loads((run / "evaluation.json").read_text())
    return {"weights": state.hexdigest(), "rows": rows, "result": result, "pictures": pictures, "files": names}


def kill_at(number: int) -> Callable[[str], None]:
    """Returns a hook that ends the process at the place of that number, counted from 1."""
    count = 0

    def hook(place: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            os._exit(KILLED)

    return hook


def killed_at_random(run: Path, whole: dict[str, Any], places: int, kills: int, seed: int) -> dict[str, Any]:
    """Sends SIGKILL at moments after random places until there are so many kills; returns the counts.

    The same command follows each kill, so that a run is killed up to seven times before it may end.
    """
    rng, done, runs = random.Random(seed), 0, 0
    different: list[str] = []
    while done < kills:
        shutil.rmtree(run, ignore_errors=True)
        runs, moments = runs + 1, []
        while len(moments) < _KILLS_OF_A_RUN and done < kills:
            moments.append((rng.randrange(1, places // 2), rng.uniform(0, 0.3)))
            status = in_fork(run, signal_after(*moments[-1]))
            if status != -signal.SIGKILL:  # it has ended before
                break
            done += 1
        status = in_fork(run)
        found = shown(run) if status == 0 else {}
        if changed := [key for key, value in whole.items() if found.get(key) != value]:
            different.append(f"run {runs}, killed at {moments}: status {status}, other {', '.join(changed)}")
        print(f"run {runs}: {done} kills so far", flush=True)
    return {"places": places, "killed": done, "runs": runs, "different": different}


def signal_after(number: int, seconds: float) -> Callable[[str], None]:
    """Returns a hook that sends SIGKILL to the process, some time after the place of that number."""
    count = 0

    def hook(place: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    return hook


def count_places(run: Path) -> list[str]:
    """Trains and returns the names of the places, in their order."""
    file = run.parent / "places.txt"
    file.write_text("")
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        status = in_fork(run, lambda place: os.write(descriptor, f"{place}\n".encode()) and None)
    finally:
        os.close(descriptor)
    if status:
        raise RuntimeError(f"Expected a run that ends with status 0. Received: {status}; see {run.parent / 'log.txt'}")
    return file.read_text().splitlines()


def main() -> None:
    """Kills runs and prints each place whose run showed something else, and the counts in the last line as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after-training", action="store_true", help="only the places after the last checkpoint")
    parser.add_argument("--every", type=int, default=1, help="every so many places")
    parser.add_argument("--signals", type=int, default=0, help="so many times SIGKILL at random moments instead")
    parser.add_argument("--seed", type=int, default=16, help="of these moments")
    parser.add_argument("--to", type=Path, help="write the counts to this page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(os.path.realpath(temporary)) / "run"
        listed = count_places(run)
        whole = shown(run)
        if arguments.signals:
            print(json.dumps(killed_at_random(run, whole, len(listed), arguments.signals, arguments.seed)))
            return
        last = max(i for i, place in enumerate(listed) if place.startswith("os.rename checkpoints/step_"))
        start = Path(temporary) / "start"
        shutil.rmtree(run)
        numbers = range(1, len(listed) + 1, arguments.every)
        if arguments.after_training:
            # The place after the last checkpoint: it is complete, and nothing else has happened since.
            assert in_fork(run, kill_at(last + 2)) == KILLED
            shutil.copytree(run, start)
            listed = count_places(run)
            assert shown(run) == whole
            numbers = range(1, len(listed) + 1, arguments.every)
        different: list[str] = []
        for number in numbers:
            shutil.rmtree(run, ignore_errors=True)
            if arguments.after_training:
                shutil.copytree(start, run)
            first, again = in_fork(run, kill_at(number)), in_fork(run)
            found = shown(run) if first == KILLED and again == 0 else {}
            changed = [key for key, value in whole.items() if found.get(key) != value]
            if changed:
                different.append(listed[number - 1])
                line = f"{number} {listed[number - 1]}: statuses {first} and {again}, other {', '.join(changed)}"
                print(line, flush=True)
    counts = {"places": len(listed), "killed": len(numbers), "different": different}
    if arguments.to:
        arguments.to.write_text(page(counts, after_training=arguments.after_training), encoding="utf-8")
    print(json.dumps(counts))


def page(counts: dict[str, Any], *, after_training: bool) -> str:
    """Returns the counts as a page in Markdown."""
    made = {key: value for key, value in versions().items() if key in ("tensorflow", "keras", "commit")}
    when = "after the last checkpoint of a run" if after_training else "of a run"
    different = "; ".join(counts["different"]) or "none"
    return (
        "# Kills\n\n"
        f"`python benchmarks/kills.py{' --after-training' * after_training}`, "
        + ", ".join(f"{key} {value}" for key, value in made.items())
        + "\n\nA run is killed at a call to the file system, and the same command runs again.\n\n"
        "| | |\n|---|---|\n"
        f"| calls {when} | {counts['places']} |\n"
        f"| killed there | {counts['killed']} |\n"
        f"| of these, runs that show something else than an undisturbed one | {different} |\n"
    )


if __name__ == "__main__":
    main()
