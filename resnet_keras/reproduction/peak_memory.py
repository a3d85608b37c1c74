"""The memory that a training takes, measured in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.evaluation.evaluator import Evaluation
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training.trainer import train

_FILE = "memory.json"
_STATUS = Path("/proc/self/status")


def train_apart(recipe: Recipe, workdir: str | Path, **arguments: Any) -> Evaluation:
    """Trains as `train` does, in a new process, and keeps in `workdir` the most memory that this process held.

    That includes Python and TensorFlow, and the final evaluation. Memory of accelerators is not counted. Of a run that
    was interrupted it is the memory of its last process.

    Args:
        recipe: As of `train`.
        workdir: As of `train`.
        **arguments: The others of `train`, without `log`.

    Raises:
        Exception: As of `train`.
    """
    # Not forked: such a process would begin with its parent's memory, and with TensorFlow's locks.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
        return apart.submit(_trained, recipe, workdir, arguments).result()


def peak_bytes(workdir: str | Path) -> int | None:
    """Returns the most memory that the process of a run held; `None` if it was not measured."""
    file = Path(workdir) / _FILE
    return json.loads(file.read_text(encoding="utf-8"))["peak_bytes"] if file.is_file() else None


def _trained(recipe: Recipe, workdir: str | Path, arguments: dict[str, Any]) -> Evaluation:
    finished = (Path(workdir) / "evaluation.json").is_file()
    evaluation = train(recipe, workdir, **arguments)
    if not finished and _STATUS.is_file():  # Linux alone tells; getrusage would count the parent's, too
        found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            files.write_json(Path(workdir) / _FILE, {"peak_bytes": 1024 * int(found[1])})
    return evaluation
