"""Training input beside other libraries: `python input_peers.py --photos DIR [--torch PYTHON] [--dali PYTHON]`.

All read the same photographs by torchvision's recipe: a random crop of 8 to 100 % of the area, 224x224 pixels, bilinear
with antialiasing, mirrored at random, normalized, in batches of 32, by as many threads or workers as there are cores.
Each loader is a process of its own, and they take turns; ours is there twice, to show how far equals differ. `PYTHON`
is an interpreter with PyTorch and torchvision, or with `nvidia-dali-cuda120`, whose operators for CPUs need no GPU.
Nothing else should run. The table is printed and written to `input_peers.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from resnet_keras.distributed import cores
from resnet_keras.tables import markdown_table

BATCH = 32
NAMES = {
    "ours": "`imagenet_torchvision`",
    "ours_again": "the same, again",
    "torchvision_pillow": "torchvision, decoded by Pillow",
    "torchvision": "torchvision, decoded by itself",
    "dali": "NVIDIA DALI",
}


def ours(photos: Path) -> Iterator[Any]:
    """Yields batches of this package."""
    from resnet_keras.data import input_speed, training_batches
    from resnet_keras.recipes import RECIPES

    recipe = RECIPES["imagenet_torchvision"].replace(dataset="folder")
    split = input_speed.training_images(recipe.data, data_dir=photos)
    preprocessing = input_speed.first_preprocessing(recipe.data, split, recipe.architecture.image_size)
    yield from training_batches(split, preprocessing, recipe.augmentation, batch_size=BATCH, epochs=10**6)


def answer(photos: Path) -> None:
    """Reads batches of this package, as many as each line of the input says."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be read as an answer
    batches = ours(photos)
    for line in sys.stdin:
        for _ in range(int(line)):
            next(batches)
        print(file=answers)


class Loader:
    """A process that reads batches when it is asked to."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _cpu_seconds(self) -> float:
        process = psutil.Process(self._process.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    def read(self, batches: int) -> tuple[float, float]:
        """Returns the seconds and the CPU seconds that so many batches take."""
        assert self._process.stdin is not None and self._process.stdout is not None
        start, used = time.perf_counter(), self._cpu_seconds()
        self._process.stdin.write(f"{batches}\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise SystemExit(f"{' '.join(self._process.args)} has ended")  # type: ignore[arg-type]
        return time.perf_counter() - start, self._cpu_seconds() - used

    def pause(self) -> None:
        """Stops the process and its workers, which read ahead, until the next turn."""
        for each in self._all():
            each.suspend()

    def resume(self) -> None:
        """Lets them go on."""
        for each in self._all():
            each.resume()

    def _all(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]


def measured(commands: dict[str, list[str]], rounds: int, batches: int) -> list[list[str]]:
    """Returns the rows of the table."""
    loaders = {name: Loader(command) for name, command in commands.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for turn in range(rounds + 1):
        for name, loader in loaders.items():
            if turn:
                loader.resume()
            loader.read(4)  # what was read ahead, and the start of the workers
            times = loader.read(batches)
            loader.pause()
            if turn:
                found[name].append(times)
    for loader in loaders.values():
        loader.resume()
    rows = []
    images = BATCH * batches
    for name, turns in found.items():
        rates = [mine[0] / its[0] for mine, its in zip(found["ours"], turns, strict=True)]
        cpu = [its[1] / mine[1] for mine, its in zip(found["ours"], turns, strict=True)]
        rows.append(
            [
                NAMES[name],
                f"{images / median(turn[0] for turn in turns):.0f}",
                f"{1000 * median(turn[1] for turn in turns) / images:.2f}",
                f"{median(rates):.2f}x",
                f"{median(cpu):.2f}x",
            ]
        )
    return rows


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of class folders with photographs")
    parser.add_argument("--torch", help="interpreter with PyTorch and torchvision")
    parser.add_argument("--dali", help="interpreter with nvidia-dali-cuda120")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=32, help="batches in a turn")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    if arguments.answer:
        answer(arguments.photos)
        return
    photos, count = str(arguments.photos), str(cores())
    mine = [sys.executable, __file__, "--photos", photos, "--answer"]
    loaders = str(Path(__file__).with_name("input_loaders.py"))
    commands = {"ours": mine, "ours_again": mine}
    if arguments.torch:
        for name in ("torchvision_pillow", "torchvision"):
            commands[name] = [arguments.torch, loaders, name, photos, count]
    if arguments.dali:
        commands["dali"] = [arguments.dali, loaders, "dali", photos, count]
    page = "\n\n".join(
        [
            "# Training input beside other libraries",
            f"Written by `python benchmarks/input_peers.py` on {count} CPU cores ({platform.machine()}): random crops "
            f"of photographs, 224x224 pixels, batches of {BATCH}; medians of {arguments.rounds} turns of "
            f"{arguments.batches} batches. Ratios are to the first row, of the same turn.",
            markdown_table(
                ["loader", "images/s", "CPU ms per image", "speed", "CPU time"],
                measured(commands, arguments.rounds, arguments.batches),
                text=("loader",),
            ),
        ]
    )
    print(page)
    arguments.to.write_text(f"{page}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
