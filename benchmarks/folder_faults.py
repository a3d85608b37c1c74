"""Faults of what stands around a run: its images, its checkpoints, its folder, and its exports."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from fault_runs import DIGITS, PROGRAM, Row, Training, again, images, outcome, with_images
from PIL import Image

EXPORT = PROGRAM.with_name("export.py")
UNCHANGED = "with the images of before: "


def changed_images(run: Path, whole: Path) -> list[Row]:
    """Images that change between two commands of a run."""
    data, undisturbed = run.parent / "images", run.parent / "images_whole"
    images(data)
    arguments = with_images(data)
    Training(undisturbed, arguments).end()
    Training(run, arguments).until_checkpoint(20).end(signal.SIGKILL)
    kept = shutil.copytree(data, run.parent / "kept")
    accepted = shutil.copytree(run, run.parent / "accepted")
    changes: dict[str, Callable[[Path], object]] = {
        "an image is added": lambda root: shutil.copy(root / "train/dark/1.jpg", root / "train/dark/01.jpg"),
        "an image is repainted": lambda root: Image.new("RGB", (40, 40)).save(root / "train/light/3.jpg"),
        "two classes are swapped": swap,
        "a class is renamed": lambda root: rename(root, "dark", "night"),
        "half of the images are removed": halve,
    }
    ended = {}
    for name, change in changes.items():
        shutil.rmtree(data)
        shutil.copytree(kept, data)
        change(data)
        ended[name] = Training(run, arguments).end()
    second = Training(accepted, (*arguments, "--accept-changed-data"))
    status, line = second.end()
    with (accepted / "history.csv").open() as file:
        epochs = [row["epoch"] for row in csv.DictReader(file)]
    happened = f"status {status}" + (f": {line}" if status else f": resumed {second.resumed()}, {len(epochs)} epochs")
    shutil.rmtree(data)
    kept.rename(data)
    row = again(run, undisturbed, arguments, "", (0, ""), "the work since the last checkpoint")
    rows = [Row(name, outcome(each), UNCHANGED + row.again, row.lost) for name, each in ended.items()]
    return [*rows, Row("the same, `--accept-changed-data`", happened, "not needed", "noted in `run.json`")]


def halve(root: Path) -> None:
    """Removes every second image."""
    for path in sorted((root / "train").rglob("*.jpg"))[::2]:
        path.unlink()


def rename(root: Path, old: str, new: str) -> None:
    """Renames the folders of a class."""
    for part in ("train", "test"):
        (root / part / old).rename(root / part / new)


def swap(root: Path) -> None:
    """Swaps the images of two classes."""
    for old, new in (("dark", "_"), ("light", "dark"), ("_", "light")):
        rename(root, old, new)


def mixed_checkpoints(run: Path, whole: Path) -> list[Row]:
    """A checkpoint of a run with another seed, and a lost recipe."""
    other, seed = run.parent / "other", ("--seed", "1")
    Training(run, DIGITS).until_checkpoint(20).end(signal.SIGKILL)
    Training(other, (*DIGITS, *seed)).until_checkpoint(10).end(signal.SIGKILL)
    strange = run / "checkpoints" / "step_000000099"
    shutil.copytree(max((other / "checkpoints").glob("step_*")), strange)
    mixed = Training(run, DIGITS).end()
    shutil.rmtree(strange)
    (run / "recipe.json").unlink()
    lost = Training(run, (*DIGITS, *seed)).end()
    row = again(run, whole, DIGITS, "a checkpoint of another run", mixed, "the work since the last checkpoint")
    repeated = f"with the settings of before: {row.again}"
    return [
        Row(row.fault, row.happened, f"without it: {row.again}", row.lost),
        Row("recipe.json is lost, the command has another seed", outcome(lost), repeated, row.lost),
    ]


def moved(run: Path, whole: Path) -> Row:
    """The folder of a run is moved while it runs."""
    first, place = Training(run, DIGITS).until_checkpoint(10), run.parent / "elsewhere"
    run.rename(place)
    ended = first.end()
    work = "the work since the last checkpoint" if not run.exists() else "**a folder at the old place**"
    return again(place, whole, DIGITS, "the run's folder is moved", ended, work)


def exports(run: Path, whole: Path) -> list[Row]:
    """Two exports at once, and an export that is killed."""
    home, scratch = run.parent / "exports" / "net", run.parent / "scratch"
    scratch.mkdir()
    command = [sys.executable, str(EXPORT), str(whole), "--to", str(home.parent), "--name", "net"]
    command += ["--formats", "saved_model", "float32", "--test-images", "60"]
    environment = {**os.environ, "TMPDIR": str(scratch)}

    def start() -> psutil.Popen:
        return psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    statuses = [process.wait() for process in (start(), start())]
    there = sorted(path.name for path in home.iterdir())
    together = f"statuses {statuses}; in the folder: {', '.join(there)}"
    orphans = left = kills = 0
    for seconds in (0.0, 0.5, 1.0, 2.0):  # after its first temporary folder
        process = start()
        while process.poll() is None and not any(home.glob(".aside-*")):
            time.sleep(0.02)
        time.sleep(seconds)
        children = process.children(recursive=True)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        left += len(list(home.glob(".aside-*"))) + len(list(scratch.iterdir()))
        time.sleep(1)
        orphans += sum(is_alive(child) for child in children)
    status = start().wait()
    after = sorted(path.name for path in (*home.iterdir(), *scratch.iterdir()))
    killed = f"{kills} kills: {orphans} children left, {left} temporary folders left"
    swept = f"status {status}; in the folders: {', '.join(after)}"
    return [
        Row("two exports at once", together, "not needed", "nothing" if statuses == [0, 0] else "**an export**"),
        Row("kill -9 of an export", killed, swept, "nothing; the export"),
    ]


def is_alive(process: psutil.Process) -> bool:
    """Returns whether a process runs and is not only waited for."""
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
