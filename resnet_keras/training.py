"""Training by a recipe: compile, fit, checkpoint, resume, evaluate."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from resnet_keras import atomic, distribution
from resnet_keras.broken_images import naming_broken_images, open_whole
from resnet_keras.classifier import Classifier
from resnet_keras.evaluation import Evaluation, evaluate
from resnet_keras.freezing import freeze
from resnet_keras.input_pipeline import (
    evaluation_batches,
    pixel_array,
    preprocessing_of,
    steps_per_epoch,
    training_batches,
)
from resnet_keras.models import build
from resnet_keras.optimizers import optimizer
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.progress import Record
from resnet_keras.recalibration import is_folded, unfold
from resnet_keras.recipes import Recipe
from resnet_keras.run_folder import RunFolder
from resnet_keras.schedules import learning_rate
from resnet_keras.splits import Split, sample
from resnet_keras.weights.checkpoint import HEAD, Checkpoint
from resnet_keras.weights.keras_file import of_model
from resnet_keras.weights.sources import open_checkpoint

_SAMPLES = 10
_UNFOLDING_IMAGES = 512


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
    or of logical CPUs, `batch_size` is what all compute together in a step.

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
    """
    folder = RunFolder(workdir)
    if folder.path.exists() and not folder.path.is_dir():
        raise ValueError(f"Expected a folder as workdir. Received: {folder.path}, a file")
    if recipe.weights and Path(recipe.weights).expanduser().exists():
        recipe = replace(recipe, weights=str(Path(recipe.weights).expanduser().resolve()))
    devices = distribution.strategy(cpu_replicas)
    count = distribution.replicas(devices)
    if recipe.batch_size % count:
        raise ValueError(f"Expected a `batch_size` that {count} replicas can share. Received: {recipe.batch_size}")
    # In full: a run is evaluated and exported from other folders, too.
    data = {"data_dir": str(Path(data_dir).expanduser().resolve()) if data_dir else None, "replicas": count}
    if (folder.path / "recipe.json").is_file():
        folder.begin(recipe, data)
        if (done := folder.evaluation()) is not None:
            log(f"{folder.path} is finished")
            return done
    train_split, test_split = (
        open_whole(recipe.dataset, split, data_dir=data_dir, download=download, skip=log if skip_broken else None)
        for split in ("train", "test")
    )
    if recipe.train_images:
        train_split = sample(train_split, recipe.train_images)
    steps = steps_per_epoch(train_split, recipe.batch_size)
    weights = open_checkpoint(recipe.weights, recipe.model) if recipe.weights else None
    preprocessing = preprocessing_of(recipe, train_split, weights.preprocessing if weights else None)
    if weights and is_folded(weights):
        weights = _unfolded(weights, recipe, train_split, preprocessing)
        log(f"statistics of batch normalisation are restored, which {weights.source} has folded away")
    folder.begin(recipe, data)

    keras.utils.set_random_seed(recipe.seed)
    with _precision(recipe.precision), distribution.scope(devices):
        model = compiled(recipe, preprocessing, len(train_split.class_names), steps, weights=weights, log=log)
    history = folder.restore_checkpoint(model)
    log(
        f"{recipe.model} on {recipe.dataset}: {model.count_params():,} parameters, {len(train_split):,} images, "
        f"{recipe.epochs} epochs of {steps} steps of {recipe.batch_size}, {count} replica{'s' if count > 1 else ''}"
        + (f", continued after epoch {len(history)}" if history else "")
    )
    batches = training_batches(
        train_split, recipe, preprocessing, first_step=len(history) * steps, deterministic=deterministic
    )
    with naming_broken_images(train_split, test_split):
        model.fit(
            batches,
            steps_per_epoch=steps,
            initial_epoch=len(history),
            epochs=recipe.epochs,
            validation_data=evaluation_batches(
                test_split, preprocessing, shared_batch(len(test_split), recipe.batch_size, count)
            ),
            validation_freq=validate_epochs,
            shuffle=False,  # the batches are
            callbacks=[
                distribution.AverageStatistics(devices),
                Record(folder, history, log, recipe, steps),
                keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False, profile_batch=0),
            ],
            verbose=0,
        )
    Classifier(model, preprocessing, train_split.class_names).save(folder.model)
    _write_samples(folder.samples, test_split, preprocessing)
    # Of the file, not of the model at hand: so the result is one that the file gives.
    evaluation = evaluate(Classifier.load(folder.model), test_split, batch_size=recipe.batch_size)
    folder.finish(evaluation)
    return evaluation


def compiled(
    recipe: Recipe,
    preprocessing: Preprocessing,
    classes: int,
    steps: int,
    *,
    weights: Checkpoint | None = None,
    log: Callable[[str], None] = print,
) -> keras.Model:
    """Returns the recipe's network, of logits, with its initial weights, compiled for `steps` steps per epoch."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = build(
            recipe.model,
            input_shape=(*preprocessing.image_size, preprocessing.channels),
            classes=classes,
            classifier_activation=None,
            weights=weights,
            shortcut=recipe.shortcut,
            zero_channels=recipe.zero_channels,
            bottleneck_stride=recipe.bottleneck_stride,
            batch_norm=recipe.batch_norm,
        )
    for warning in said:
        log(str(warning.message))
    if weights and weights.classes != classes:
        # A new head on a trained backbone: of features this large, random logits would shake the backbone at first.
        kernel = model.get_layer(HEAD).kernel
        kernel.assign(keras.ops.zeros_like(kernel))
    if recipe.freeze or recipe.freeze_batch_norms:
        log(str(freeze(model, recipe.freeze, batch_norms=recipe.freeze_batch_norms)))
    model.compile(
        optimizer=optimizer(recipe, learning_rate(recipe, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    model.optimizer.build(model.trainable_variables)  # here, in the scope of a strategy, and before a checkpoint loads
    return model


def _unfolded(weights: Checkpoint, recipe: Recipe, split: Split, preprocessing: Preprocessing) -> Checkpoint:
    """Returns the same network with statistics of batch normalisation, as some training images give them."""
    model = build(
        recipe.model,
        input_shape=(*preprocessing.image_size, preprocessing.channels),
        include_top=False,
        weights=weights,
        shortcut=recipe.shortcut,
        zero_channels=recipe.zero_channels,
        bottleneck_stride=recipe.bottleneck_stride,
    )
    batches = evaluation_batches(sample(split, _UNFOLDING_IMAGES), preprocessing, min(recipe.batch_size, len(split)))
    unfold(model, batches.as_numpy_iterator())
    restored = {**weights.tensors, **of_model(model)}
    return replace(weights, tensors=restored)


def shared_batch(images: int, batch_size: int, replicas: int) -> int:
    """Returns the largest batch, up to `batch_size`, whose last one leaves no replica without an image."""
    return next(b for b in range(batch_size, 0, -1) if images % b == 0 or images % b >= replicas)


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
