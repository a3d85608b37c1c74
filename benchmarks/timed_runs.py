"""What benchmarks that train share: runs of a recipe with their CPU seconds, and the words of their pages."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program `resnet` does, before TensorFlow is imported

import resnet_keras
from resnet_keras.distributed import cores
from resnet_keras.runs import versions

PICTURES = 3


@dataclass(frozen=True)
class TimedRun:
    """A finished run: its folder, its result, and the CPU seconds and seconds of its training and evaluation."""

    folder: Path
    result: Any
    cpu_seconds: float | None
    seconds: float | None

    @property
    def times(self) -> list[str]:
        """Both times as cells of a table; empty if the run was finished in another process that was interrupted."""
        return ["" if value is None else f"{value:.0f}" for value in (self.cpu_seconds, self.seconds)]


def train(recipe: resnet_keras.Recipe, folder: Path, **options: Any) -> TimedRun:
    """Trains by a recipe, or returns the run that is finished in the folder."""
    noted, begun = folder.with_name(f"{folder.name}.times.json"), folder.exists()
    start, cpu = time.perf_counter(), time.process_time()
    result = resnet_keras.train(recipe, folder, **options)
    if not begun:
        noted.write_text(json.dumps([time.process_time() - cpu, time.perf_counter() - start]), encoding="utf-8")
    times = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else [None, None]
    return TimedRun(folder, result, *times)


def parser(description: str | None, data: str, page: Path) -> argparse.ArgumentParser:
    """Returns a parser with the flags of both."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(data, type=Path)
    made.add_argument("weights", type=Path)
    made.add_argument("--seeds", type=int, nargs="+", default=[0])
    made.add_argument("--workdir", type=Path, default=Path("runs") / page.stem, help="folder of the runs")
    made.add_argument("--pictures", type=Path, help="folder of pictures")
    made.add_argument("--to", type=Path, default=page.with_suffix(".md"))
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Returns the arguments, and lets the runs say on standard error how far they are."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("resnet_keras").setLevel(logging.INFO)
    return made.parse_args()


def machine() -> str:
    """Returns the cores and the versions in words."""
    found = versions()
    packages = ", ".join(f"{name} {found[name]}" for name in ("tensorflow", "keras"))
    return f"on {cores()} CPU cores ({platform.machine()}), {packages}"


def percent(value: float | None, digits: int = 1) -> str:
    """Returns a fraction in percent; an empty cell for `None`."""
    return "" if value is None else f"{100 * value:.{digits}f}"


def publish(page: str, to: Path) -> None:
    """Prints a page and writes it."""
    print(page)
    to.write_text(page, encoding="utf-8")
