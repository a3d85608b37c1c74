"""One run: its network is fitted phase by phase, and its result evaluated."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.broken_images import explain_broken_images
from resnet_keras.data.evaluation_batches import pixel_array, validation_batches
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.data.splits import Split
from resnet_keras.data.training_batches import training_batches
from resnet_keras.distributed import multi_worker
from resnet_keras.distributed import strategy as distribution
from resnet_keras.distributed.sharding import own_rows, training_part, validation_part
from resnet_keras.evaluation.evaluator import Evaluation, evaluate
from resnet_keras.evaluation.views import Views
from resnet_keras.layers.keras_internals import patch_methods
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.checkpoints import Checkpoints, Progress, training_variables
from resnet_keras.runs.folder import RunFolder
from resnet_keras.surgery.quantization import calibrate
from resnet_keras.training.callbacks import Record, Together
from resnet_keras.training.ema import ValidateAverage, WeightAverage
from resnet_keras.training.errors import StallWatchdog
from resnet_keras.training.image_size_phases import phases
from resnet_keras.training.inputs import TrainingInputs, precision
from resnet_keras.training.model import build_network, build_teacher, compile_network
from resnet_keras.training.preemption import PreemptionHandler
from resnet_keras.training.rematerialization import rematerialize
from resnet_keras.training.train_step import SkipNonFiniteSteps, accumulate_gradients, distill_from
from resnet_keras.training.whitening import whiten

_SAMPLES = 10
_CALIBRATION_BATCH = 100
_SKIPS = "skips"


@dataclass(frozen=True)
class LoopOptions:
    """How a run goes on, which its result does not depend on."""

    validate_epochs: int
    checkpoint_steps: int | None
    steps_per_execution: int
    skip_broken_steps: bool
    deterministic: bool


def run_training(
    start: TrainingInputs,
    folder: RunFolder,
    devices: tf.distribute.Strategy | None,
    running: LoopOptions,
    notice: PreemptionHandler,
    log: Callable[[str], None],
) -> Evaluation:
    """Trains from the last checkpoint on, or from the beginning, and returns the result, which `folder` then holds."""
    recipe = start.recipe
    steps, preprocessing, classes = start.steps, start.preprocessing, start.train_split.class_names
    checkpoints = Checkpoints(folder.checkpoints, distribution.replica_values(devices))
    progress, restored = checkpoints.read(log) or (Progress(), {})
    progress = Progress(**json.loads(multi_worker.broadcast(devices, json.dumps(asdict(progress)).encode())))
    at_once = _divisor(running.steps_per_execution, steps, progress.step)
    keras.utils.set_random_seed(recipe.seed)
    with precision(recipe.precision), distribution.scope(devices):
        model = compile_network(
            recipe, preprocessing, len(classes), steps, weights=start.weights, steps_per_execution=at_once, log=log
        )
        answers = build_teacher(recipe, preprocessing, len(classes), start.weights)
        average = WeightAverage(model, recipe.ema) if recipe.ema else None
        skips = SkipNonFiniteSteps(model, average.variables if average else ()) if running.skip_broken_steps else None
    variables = training_variables(model, average.variables if average else ())
    if skips:
        variables[_SKIPS] = skips.count
    statistics = distribution.AverageStatistics(devices)
    statistics.set_model(model)
    if restored:
        # Steps may be left out from any checkpoint on.
        checkpoints.restore(restored, {k: v for k, v in variables.items() if k != _SKIPS or f"{k}#0" in restored})
    elif (recipe.whiten or recipe.qat) and not progress.step:
        images = start.some_images()
        if recipe.whiten:
            whiten(model, images, recipe.seed)
        if recipe.qat:
            calibrate(model, np.array_split(images, -(-len(images) // _CALIBRATION_BATCH)))
        if average:
            average.begin()
    multi_worker.broadcast_variables(devices, variables.values())
    log(start.summary(distribution.replicas(devices), model.count_params()) + _continued(progress, steps))

    record = Record(
        folder,
        checkpoints,
        variables,
        progress,
        recipe,
        steps,
        every=-(-running.checkpoint_steps // at_once) * at_once if running.checkpoint_steps else None,
        notice=notice,
        together=Together(statistics.average, functools.partial(multi_worker.all_reduce_any, devices))
        if multi_worker.spans_workers(devices)
        else None,
        log=log,
    )
    record.restored = restored
    record.counters = {"skipped": skips.count} if skips else {}
    watch = StallWatchdog(log)
    callbacks = [
        statistics,
        record,
        *([ValidateAverage(average)] if average else ()),
        watch,
        keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False, profile_batch=0),
    ]

    def of_test(split: Split, size: int) -> tf.data.Dataset:
        return validation_batches(split, recipe, preprocessing, size)

    validation = None
    if distribution.can_share(len(start.test_split)):
        validation = validation_part(devices, start.test_split, of_test, recipe.batch_size)
    else:
        log(f"no validation before the end: JAX's devices cannot share {len(start.test_split):,} test images equally")
    with (
        explain_broken_images(start.train_split, start.test_split),
        _stepping(model, recipe, answers, average, skips),
        multi_worker.patched_fit(model, devices),
        notice.looked_at(),
        closing(watch),
    ):
        if progress.logs:
            _validate(model, validation, record, [call for call in callbacks[:3] if call is not record], running)
        for phase in phases(recipe, steps, progress.step):
            size = phase.image_size
            model.train_function = None  # traced anew, as in a run that goes on from here: else its last bits differ
            batches = training_batches(
                start.train_split,
                recipe,
                preprocessing.at(size) if size else preprocessing,
                first_step=phase.first_step,
                last_step=phase.last_step,
                deterministic=running.deterministic,
                rows=own_rows(devices, recipe.batch_size),
            )
            model.fit(
                training_part(devices, batches, recipe.batch_size),
                steps_per_epoch=phase.steps,
                initial_epoch=phase.first_step // steps,
                epochs=phase.last_step // steps,
                validation_data=validation,
                validation_freq=running.validate_epochs,
                shuffle=False,  # the batches are
                callbacks=callbacks,
                verbose=0,
            )
    if average:
        average.give()
    if multi_worker.worker_rank(devices)[0]:
        result = agreed(devices, None)
        assert result is not None
        return result
    Classifier(_final(model, recipe, preprocessing, len(classes)), preprocessing, classes).save(folder.model)
    _write_samples(folder.samples, start.test_split, preprocessing)
    distribution.on_one_device()
    # Of the file, not of the model at hand: so the result is one that the file gives.
    evaluation = evaluate(
        Classifier.load(folder.model),
        start.test_split,
        views=Views(flip=recipe.test_flip),
        batch_size=recipe.batch_size,
    )
    folder.finish(evaluation)
    agreed(devices, evaluation)
    return evaluation


def _divisor(steps_per_execution: int, steps: int, done: int) -> int:
    """Returns how many steps to take at once, so that neither an epoch nor what is left of one ends between them."""
    together = math.gcd(steps, done % steps)
    return next(count for count in range(steps_per_execution, 0, -1) if together % count == 0)


def _continued(progress: Progress, steps: int) -> str:
    if not progress.step:
        return ""
    epochs, amid = divmod(progress.step, steps)
    if progress.logs:
        return f", continued before the validation of epoch {epochs}"
    return f", continued after step {amid} of epoch {epochs + 1}" if amid else f", continued after epoch {epochs}"


@contextmanager
def _stepping(
    model: keras.Model,
    recipe: Recipe,
    answers: keras.Model | None,
    average: WeightAverage | None,
    skips: SkipNonFiniteSteps | None,
) -> Iterator[None]:
    """Makes the model's training step what the recipe asks for; Keras's own stays what it is where that will do."""
    step = accumulate_gradients(model, recipe.accumulate) if recipe.accumulate > 1 else model.train_step
    step = distill_from(answers, step) if answers else step
    step = average.after(step) if average else step
    step = skips.guarding(step) if skips else step
    with ExitStack() as stack:
        if recipe.rematerialize:
            stack.enter_context(rematerialize(model))
        if step != model.train_step:
            stack.enter_context(patch_methods(model, train_step=step))
        yield


def _validate(model: keras.Model, validation: Any, record: Record, others: list[Any], running: LoopOptions) -> None:
    """Ends an epoch whose steps are done, and whose validation was interrupted."""
    epoch = len(record.progress.history)
    logs = dict(record.progress.logs)
    if validation is not None and (epoch + 1) % running.validate_epochs == 0:
        found = model.evaluate(validation, callbacks=[*others, record], return_dict=True, verbose=0)
        logs |= {f"val_{name}": value for name, value in found.items()}
    for callback in (*others, record):
        callback.set_model(model)
        callback.on_epoch_end(epoch, logs)


def _final(model: keras.Model, recipe: Recipe, preprocessing: Preprocessing, classes: int) -> keras.Model:
    """Returns the network for images of one size, which it is exported for."""
    if not recipe.train_sizes:
        return model
    with precision(recipe.precision):
        final = build_network(recipe, preprocessing, classes)
    final.set_weights(model.get_weights())
    return final


def _write_samples(folder: Path, split: Split, preprocessing: Preprocessing) -> None:
    """Writes a test image of each of the first classes, as the network sees it, before normalization."""
    pixels, labels = pixel_array(stratified_sample(split, 100 * _SAMPLES), preprocessing)
    for index, name in enumerate(split.class_names[:_SAMPLES]):
        found = np.flatnonzero(labels == index)
        if found.size:
            safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
            with files.new_file(folder / f"{safe}.png") as aside:
                aside.write_bytes(tf.io.encode_png(pixels[found[0]]).numpy())


def agreed(devices: tf.distribute.Strategy | None, evaluation: Evaluation | None) -> Evaluation | None:
    """Returns the chief's evaluation on every worker."""
    found = json.loads(multi_worker.broadcast(devices, json.dumps(asdict(evaluation) if evaluation else None).encode()))
    return Evaluation(**found) if found else None
