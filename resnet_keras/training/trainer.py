"""Training by a recipe, from its start or from where it was interrupted, to its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from resnet_keras.distributed import multi_worker
from resnet_keras.distributed import strategy as distribution
from resnet_keras.distributed.cluster import cluster
from resnet_keras.evaluation.evaluator import Evaluation
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import RunFolder
from resnet_keras.runs.lock import lock_run
from resnet_keras.training.errors import explain_failures
from resnet_keras.training.inputs import check_batch, prepare_inputs
from resnet_keras.training.loop import LoopOptions, agreed, run_training
from resnet_keras.training.preemption import PreemptionHandler


def train(
    recipe: Recipe,
    workdir: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    cpu_replicas: int | None = None,
    skip_broken: bool = False,
    skip_broken_steps: bool = False,
    checkpoint_steps: int | None = 1000,
    steps_per_execution: int = 1,
    deterministic: bool = True,
    validate_epochs: int = 1,
    log: Callable[[str], None] = print,
) -> Evaluation:
    """Trains one network by a recipe and returns its errors on the test images, after the last epoch.

    Everything that the run leaves lies in `workdir` (see `RunFolder`). The same call again continues a run that was
    interrupted, however it ended, from its last checkpoint, and returns the result of one that is finished. Of one
    device, of several GPUs or of logical CPUs, `batch_size` is what all compute together in a step. On several machines
    (see `cluster`) each makes the same call; the first alone writes to and reads from `workdir`, and all return its
    result.

    Args:
        recipe: What decides the result.
        workdir: Folder of the run, new or begun with the same recipe.
        data_dir: Where the data lie; see `open_split`.
        download: Whether TFDS may fetch a data set that is missing.
        cpu_replicas: Train on this many logical CPUs; see `distribution.create_strategy`.
        skip_broken: Leave out, and tell of, images that do not decode, labels outside the classes and classes without
            images, instead of stopping at them.
        skip_broken_steps: Leave out, and count, steps whose loss or result is not finite, instead of stopping.
        checkpoint_steps: Steps between two checkpoints amid an epoch; none there if `None`. At the end of each epoch
            there always is one.
        steps_per_execution: Steps that TensorFlow does between two looks at it, at most: fewer, where they do not
            divide an epoch.
        deterministic: Keep the order of the images that the seed determines, even where that means waiting.
        validate_epochs: Epochs between two looks at the test images, for the curves. No choice rests on them.
        log: Takes the lines of progress.

    Raises:
        ValueError: Another recipe was begun in `workdir`; the data are broken, too few, or do not fit the recipe; the
            batch does not divide among the replicas.
        FileNotFoundError: The data are missing.
        BlockingIOError: Another process trains in `workdir`.
        FloatingPointError: The loss is no longer a number; the last checkpoint is from before.
        Preempted: A SIGTERM has come; the run is saved.
        MemoryError: The batch does not fit the device's memory.
        OSError: The disk is full or not writable, or images cannot be read any more; the last checkpoint is whole.
        ConnectionError: Another of several machines has ended or cannot be reached.
    """
    if Path(workdir).exists() and not Path(workdir).is_dir():
        raise ValueError(f"Expected a folder as workdir. Received: {workdir}, a file")
    counts = {
        "checkpoint_steps": checkpoint_steps,
        "steps_per_execution": steps_per_execution,
        "validate_epochs": validate_epochs,
    }
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"Expected `{name}` of at least 1. Received: {value}")
    if recipe.weights and Path(recipe.weights).expanduser().exists():
        recipe = replace(recipe, weights=str(Path(recipe.weights).expanduser().resolve()))
    if machines := cluster():
        log(f"worker {machines.index} of {len(machines.workers)} at {machines.address}; waits until all have come")
    devices = distribution.create_strategy(cpu_replicas)
    worker, workers = multi_worker.worker_rank(devices)
    told = log if worker == 0 else _silent
    reading = {"data_dir": data_dir, "download": download, "skip": told if skip_broken else None}
    # The workers' rows of a batch fit together only if all have the same batches.
    deterministic = deterministic or workers > 1
    running = LoopOptions(validate_epochs, checkpoint_steps, steps_per_execution, skip_broken_steps, deterministic)
    notice = PreemptionHandler()
    with (
        notice.awaited(),
        explain_failures(recipe),
        multi_worker.naming_lost_workers(devices),
        multi_worker.own_folder(devices, workdir) as path,
    ):
        return _train(recipe, RunFolder(path), devices, reading, running, notice, told)


def _train(
    recipe: Recipe,
    folder: RunFolder,
    devices: tf.distribute.Strategy | None,
    reading: dict[str, Any],
    running: LoopOptions,
    notice: PreemptionHandler,
    log: Callable[[str], None],
) -> Evaluation:
    _check_devices(recipe, devices, running)
    # In full: a run is evaluated and exported from other folders, too.
    data_dir = reading["data_dir"]
    data = {
        "data_dir": str(Path(data_dir).expanduser().resolve()) if data_dir else None,
        "replicas": distribution.replicas(devices),
    }
    folder.check(recipe)
    if (done := agreed(devices, folder.evaluation())) is not None:
        log(f"{folder.path} is finished")
        return done
    start = prepare_inputs(recipe, reading, log)
    with lock_run(folder.path):
        if (done := agreed(devices, folder.evaluation())) is not None:  # meanwhile, by another process
            return done
        folder.begin(recipe, data)
        return run_training(start, folder, devices, running, notice, log)


def _check_devices(recipe: Recipe, devices: tf.distribute.Strategy | None, running: LoopOptions) -> None:
    check_batch(recipe, distribution.replicas(devices))
    own_steps = {"accumulate": recipe.accumulate > 1, "ema": bool(recipe.ema), "skip": running.skip_broken_steps}
    own_steps |= {"qat": recipe.qat, "distill": recipe.distill}
    if keras.backend.backend() != "tensorflow" and any(own_steps.values()):
        asked = ", ".join(name for name, wanted in own_steps.items() if wanted)
        raise ValueError(f"Expected KERAS_BACKEND=tensorflow for {asked}. Received: {keras.backend.backend()}")
    if multi_worker.spans_workers(devices) and running.steps_per_execution > 1:
        raise ValueError(
            f"Expected 1 step per execution with several machines. Received: {running.steps_per_execution}"
        )


def _silent(line: str) -> None:
    """Takes the progress of a worker that is not the chief: it is the chief's."""
