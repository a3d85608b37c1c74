"""Training by a recipe: compile, fit, checkpoint, resume, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras import atomic, distribution, multi_worker
from resnet_keras.broken_images import naming_broken_images, open_whole
from resnet_keras.classifier import Classifier
from resnet_keras.cluster import cluster
from resnet_keras.compilation import compiled, unfolded
from resnet_keras.evaluation import Evaluation, evaluate
from resnet_keras.input_pipeline import (
    pixel_array,
    preprocessing_of,
    steps_per_epoch,
    training_batches,
    validation_batches,
)
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.progress import Record
from resnet_keras.recalibration import is_folded
from resnet_keras.recipes import Recipe
from resnet_keras.run_folder import RunFolder
from resnet_keras.splits import Split, sample
from resnet_keras.weights.sources import open_checkpoint
from resnet_keras.worker_batches import own_rows, training_part, validation_part

_SAMPLES = 10


def train(
    recipe: Recipe,
    workdir: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    cpu_replicas: int | None = None,
    skip_broken: bool = False,
    deterministic: bool = True,
    validate_epochs: int = 1,
    log: Callable[[str], None] = print,
) -> Evaluation:
    """Trains one network by a recipe and returns its errors on the test images, after the last epoch.

    Everything that the run leaves lies in `workdir` (see `RunFolder`). The same call again continues a run that was
    interrupted, from its last epoch, and returns the result of one that is finished. Of one device, of several GPUs
    or of logical CPUs, `batch_size` is what all compute together in a step. On several machines (see `cluster`) each
    makes the same call; the first alone writes to and reads from `workdir`, and all return its result.

    Args:
        recipe: What decides the result.
        workdir: Folder of the run, new or begun with the same recipe.
        data_dir: Where the data lie; see `open_split`.
        download: Whether TFDS may fetch a data set that is missing.
        cpu_replicas: Train on this many logical CPUs; see `distribution.strategy`.
        skip_broken: Leave out, and tell of, images that do not decode, labels outside the classes and classes without
            images, instead of stopping at them.
        deterministic: Keep the order of the images that the seed determines, even where that means waiting.
        validate_epochs: Epochs between two looks at the test images, for the curves. No choice rests on them.
        log: Takes the lines of progress.

    Raises:
        ValueError: Another recipe was begun in `workdir`; the data are broken, too few, or do not fit the recipe; the
            batch does not divide among the replicas.
        FileNotFoundError: The data are missing.
        FloatingPointError: The loss is no longer a number; the last checkpoint is from before.
        ConnectionError: Another of several machines has ended or cannot be reached.
    """
    if Path(workdir).exists() and not Path(workdir).is_dir():
        raise ValueError(f"Expected a folder as workdir. Received: {workdir}, a file")
    if recipe.weights and Path(recipe.weights).expanduser().exists():
        recipe = replace(recipe, weights=str(Path(recipe.weights).expanduser().resolve()))
    if machines := cluster():
        log(f"worker {machines.index} of {len(machines.workers)} at {machines.address}; waits until all have come")
    devices = distribution.strategy(cpu_replicas)
    worker, workers = multi_worker.place(devices)
    told = log if worker == 0 else _silent
    reading = {"data_dir": data_dir, "download": download, "skip": told if skip_broken else None}
    # The workers' rows of a batch fit together only if all have the same batches.
    deterministic = deterministic or workers > 1
    with multi_worker.naming_lost_workers(devices), multi_worker.own_folder(devices, workdir) as path:
        return _train(recipe, RunFolder(path), devices, reading, deterministic, validate_epochs, told)


def _train(
    recipe: Recipe,
    folder: RunFolder,
    devices: tf.distribute.Strategy | None,
    reading: dict[str, Any],
    deterministic: bool,
    validate_epochs: int,
    log: Callable[[str], None],
) -> Evaluation:
    count = distribution.replicas(devices)
    if recipe.batch_size % count:
        raise ValueError(f"Expected a `batch_size` that {count} replicas can share. Received: {recipe.batch_size}")
    # In full: a run is evaluated and exported from other folders, too.
    data_dir = reading["data_dir"]
    data = {"data_dir": str(Path(data_dir).expanduser().resolve()) if data_dir else None, "replicas": count}
    if (folder.path / "recipe.json").is_file():
        folder.begin(recipe, data)
    if (done := _agreed(devices, folder.evaluation())) is not None:
        log(f"{folder.path} is finished")
        return done
    train_split, test_split = (open_whole(recipe.dataset, split, **reading) for split in ("train", "test"))
    if recipe.train_images:
        train_split = sample(train_split, recipe.train_images)
    steps = steps_per_epoch(train_split, recipe.batch_size)
    weights = open_checkpoint(recipe.weights, recipe.model) if recipe.weights else None
    preprocessing = preprocessing_of(recipe, train_split, weights.preprocessing if weights else None)
    if weights and is_folded(weights):
        weights = unfolded(weights, recipe, train_split, preprocessing)
        log(f"statistics of batch normalisation are restored, which {weights.source} has folded away")
    folder.begin(recipe, data)

    keras.utils.set_random_seed(recipe.seed)
    with _precision(recipe.precision), distribution.scope(devices):
        model = compiled(recipe, preprocessing, len(train_split.class_names), steps, weights=weights, log=log)
    history = json.loads(multi_worker.share(devices, json.dumps(folder.restore_checkpoint(model)).encode()))
    multi_worker.share_state(devices, model)
    log(
        f"{recipe.model} on {recipe.dataset}: {model.count_params():,} parameters, {len(train_split):,} images, "
        f"{recipe.epochs} epochs of {steps} steps of {recipe.batch_size}, {count} replica{'s' if count > 1 else ''}"
        + (f", continued after epoch {len(history)}" if history else "")
    )
    batches = training_batches(
        train_split,
        recipe,
        preprocessing,
        first_step=len(history) * steps,
        deterministic=deterministic,
        rows=own_rows(devices, recipe.batch_size),
    )

    def of_test(split: Split, size: int) -> tf.data.Dataset:
        return validation_batches(split, recipe, preprocessing, size)

    with naming_broken_images(train_split, test_split), multi_worker.mended(model, devices):
        model.fit(
            training_part(devices, batches, recipe.batch_size),
            steps_per_epoch=steps,
            initial_epoch=len(history),
            epochs=recipe.epochs,
            validation_data=validation_part(devices, test_split, of_test, recipe.batch_size),
            validation_freq=validate_epochs,
            shuffle=False,  # the batches are
            callbacks=[
                distribution.AverageStatistics(devices),
                Record(folder, history, log, recipe, steps),
                keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False, profile_batch=0),
            ],
            verbose=0,
        )
    if multi_worker.place(devices)[0]:
        result = _agreed(devices, None)
        assert result is not None
        return result
    Classifier(model, preprocessing, train_split.class_names).save(folder.model)
    _write_samples(folder.samples, test_split, preprocessing)
    # Of the file, not of the model at hand: so the result is one that the file gives.
    evaluation = evaluate(Classifier.load(folder.model), test_split, batch_size=recipe.batch_size)
    folder.finish(evaluation)
    _agreed(devices, evaluation)
    return evaluation


def _agreed(devices: tf.distribute.Strategy | None, evaluation: Evaluation | None) -> Evaluation | None:
    """Returns the chief's evaluation on every worker."""
    found = json.loads(multi_worker.share(devices, json.dumps(asdict(evaluation) if evaluation else None).encode()))
    return Evaluation(**found) if found else None


def _silent(line: str) -> None:
    """Takes the progress of a worker that is not the chief: it is the chief's."""


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _write_samples(folder: Path, split: Split, preprocessing: Preprocessing) -> None:
    """Writes a test image of each of the first classes, as the network sees it, before normalisation."""
    pixels, labels = pixel_array(sample(split, 100 * _SAMPLES), preprocessing)
    for index, name in enumerate(split.class_names[:_SAMPLES]):
        found = np.flatnonzero(labels == index)
        if found.size:
            safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
            with atomic.new_file(folder / f"{safe}.png") as aside:
                aside.write_bytes(tf.io.encode_png(pixels[found[0]]).numpy())
