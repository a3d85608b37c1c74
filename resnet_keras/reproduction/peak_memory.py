"""Peak memory of a training, measured in a new process."""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.process_memory import peak_memory
from resnet_keras.training.trainer import train

_FILE = "memory.json"
_log = logging.getLogger(__name__)


def train_in_new_process(recipe: Recipe, workdir: str | Path, **arguments: Any) -> Evaluation:
    """Trains in a new process and writes the peak memory of this process into `workdir`.

    The peak includes Python, TensorFlow and the final evaluation, but no memory of accelerators. For a run that was
    interrupted, it is the peak of the last process.

    Args:
        recipe: See `train`.
        workdir: See `train`.
        **arguments: Other arguments of `train`.

    Raises:
        Exception: See `train`.
    """
    # A forked process would begin with the memory of its parent, and with TensorFlow's locks.
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    listener = QueueListener(messages, _ToLogger())
    listener.start()
    try:
        with ProcessPoolExecutor(1, context, _send_messages, (messages, _log.getEffectiveLevel())) as pool:
            return pool.submit(_trained, recipe, workdir, arguments).result()
    finally:
        listener.stop()


def peak_bytes(workdir: str | Path) -> int | None:
    """Returns the peak memory of the process of a run, in bytes; `None` if it was not measured."""
    file = Path(workdir) / _FILE
    if not file.is_file():
        return None
    with files.as_written(file):
        return int(files.read_json(file)["peak_bytes"])


class _ToLogger(logging.Handler):
    """Passes records of another process to this process's logger of the same name."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


def _send_messages(messages: Any, level: int) -> None:
    """Sends the library's log messages, from a level on, to the process that waits for this one."""
    logger = logging.getLogger("resnet_keras")
    logger.addHandler(QueueHandler(messages))
    logger.setLevel(level)


def _trained(recipe: Recipe, workdir: str | Path, arguments: dict[str, Any]) -> Evaluation:
    finished = (Path(workdir) / "evaluation.json").is_file()
    evaluation = train(recipe, workdir, **arguments)
    assert isinstance(evaluation, Evaluation)  # of classifiers, as all experiments
    if not finished:
        files.write_json(Path(workdir) / _FILE, {"peak_bytes": peak_memory()})
    return evaluation
