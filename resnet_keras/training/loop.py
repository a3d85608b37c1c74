"""The training loop: one run, from its last checkpoint or its start to its result."""

from __future__ import annotations

import functools
import logging
import math
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from resnet_keras.distributed import multi_worker
from resnet_keras.distributed import strategy as distribution
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.runs.checkpoints import Checkpoints, History, Progress
from resnet_keras.runs.folder import RunFolder
from resnet_keras.runs.results import Result, read_result
from resnet_keras.training.callbacks import CheckpointWriter, HistoryWriter, ProgressTracker, WorkerSync
from resnet_keras.training.ema import ValidateAverage
from resnet_keras.training.epoch_measures import EpochMeasures
from resnet_keras.training.errors import StallWatchdog
from resnet_keras.training.image_size_phases import phases
from resnet_keras.training.inputs import TrainingInputs
from resnet_keras.training.preemption import PreemptionHandler
from resnet_keras.training.progress import ProgressMessages
from resnet_keras.training.run_warnings import run_warnings
from resnet_keras.training.state import TrainingState, create_state
from resnet_keras.training.task import EpochMeasure
from resnet_keras.training.tasks import task_of
from resnet_keras.training.tensorboard_log import write_start
from resnet_keras.training.user_callbacks import UserCallbacks

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopOptions:
    """Options of a run that do not change its result.

    Attributes:
        validate_epochs: Epochs between two validations.
        checkpoint_steps: Steps between two checkpoints mid-epoch; `None` writes none there.
        steps_per_execution: Steps in one call of TensorFlow, at most.
        skip_broken_steps: Whether steps that are not finite are skipped.
        accept_changed_data: Whether the run resumes on images that have changed.
        deterministic: Whether batches keep the order that the seed determines.
        callbacks: The caller's callbacks.
    """

    validate_epochs: int
    checkpoint_steps: int | None
    steps_per_execution: int
    skip_broken_steps: bool
    accept_changed_data: bool
    deterministic: bool
    callbacks: tuple[keras.callbacks.Callback, ...] = ()


def run_training(
    inputs: TrainingInputs,
    folder: RunFolder,
    strategy: Strategy,
    options: LoopOptions,
    preemption: PreemptionHandler,
    checkpoints: Checkpoints,
) -> Result:
    """Trains from the last checkpoint, or from the start, and returns the result, which `folder` then holds."""
    history = list(inputs.continuation.history) if inputs.continuation else []
    progress, tensors = checkpoints.read() or (Progress(inputs.first_step, history), {})
    progress = Progress(**multi_worker.broadcast(strategy, asdict(progress)))
    before, progress = progress, _in_epochs_of(progress, inputs.steps)
    state = create_state(
        inputs,
        strategy,
        steps_per_execution=_steps_per_execution(options, inputs.steps, progress.step),
        skip_broken_steps=options.skip_broken_steps,
    )
    if tensors:
        state.restore(checkpoints, tensors)
        if progress.step != before.step:
            state.set_step(progress.step - inputs.first_step)
    elif progress.step == inputs.first_step:
        state.initialize(inputs)
    multi_worker.broadcast_variables(strategy, state.variables.values())
    summary = inputs.summary(distribution.replicas(strategy), state.model.count_params())
    resumed = progress.step > inputs.first_step
    _log.info(summary + (_resumed(progress, inputs.steps) if resumed else ""))
    if not resumed:
        if inputs.continuation:
            _log.info(inputs.continuation.summary(inputs.recipe))
        for warning in run_warnings(inputs, distribution.replicas(strategy)):
            _log.warning("warning: %s", warning)
    tracker = ProgressTracker(progress, inputs.recipe, inputs.steps, state.counters, checkpoints)
    measure = task_of(inputs.recipe).epoch_measures(inputs, state.model)
    callbacks = _create_callbacks(tracker, state, folder, strategy, options, preemption, tensors, measure)
    with preemption.deferred(), closing(callbacks.watchdog):
        _fit(inputs, state, folder, strategy, options, tracker, callbacks)
    return _finish(inputs, state, folder, strategy, progress.history)


@dataclass(frozen=True, eq=False)
class _Callbacks:
    """The callbacks of a run, in the order in which Keras calls them."""

    statistics: distribution.AverageStatistics
    measures: EpochMeasures | None
    tracker: ProgressTracker
    writer: CheckpointWriter
    history: HistoryWriter
    messages: ProgressMessages
    average: ValidateAverage | None
    watchdog: StallWatchdog
    tensorboard: keras.callbacks.TensorBoard
    user: UserCallbacks

    def in_fit(self) -> list[keras.callbacks.Callback]:
        """Returns all of them."""
        return [*self.in_evaluate(), self.tensorboard, self.user]

    def in_evaluate(self) -> list[keras.callbacks.Callback]:
        """Returns those that a validation outside `fit` needs."""
        measures, average = ([each] if each else [] for each in (self.measures, self.average))
        first = [self.statistics, *measures, self.tracker]
        return [*first, self.writer, self.history, self.messages, *average, self.watchdog]


def _create_callbacks(
    tracker: ProgressTracker,
    state: TrainingState,
    folder: RunFolder,
    strategy: Strategy,
    options: LoopOptions,
    preemption: PreemptionHandler,
    restored: dict[str, np.ndarray],
    measure: EpochMeasure | None,
) -> _Callbacks:
    statistics = distribution.AverageStatistics(strategy)
    statistics.set_model(state.model)
    together = state.model.steps_per_execution
    sync = None
    if strategy is not None and multi_worker.spans_workers(strategy):
        sync = WorkerSync(statistics.average, functools.partial(multi_worker.all_reduce_any, strategy))
    writer = CheckpointWriter(
        tracker,
        tracker.checkpoints,
        state.variables,
        every=-(-options.checkpoint_steps // together) * together if options.checkpoint_steps else None,
        preemption=preemption,
        sync=sync,
        restored=restored,
    )
    average = ValidateAverage(state.average) if state.average else None
    watchdog, measures = StallWatchdog(), None
    if measure:
        told = (writer, watchdog)
        measures = EpochMeasures(measure, options.validate_epochs, tracker, average, told, strategy)
    return _Callbacks(
        statistics=statistics,
        measures=measures,
        tracker=tracker,
        writer=writer,
        history=HistoryWriter(folder, tracker),
        messages=ProgressMessages(tracker, folder.validated_on),
        average=average,
        watchdog=watchdog,
        tensorboard=keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False, profile_batch=0),
        user=UserCallbacks(options.callbacks, tracker, state.average),
    )


def _fit(
    inputs: TrainingInputs,
    state: TrainingState,
    folder: RunFolder,
    strategy: Strategy,
    options: LoopOptions,
    tracker: ProgressTracker,
    callbacks: _Callbacks,
) -> None:
    """Trains what is left of a run, phase by phase."""
    model, steps = state.model, inputs.steps
    validation = inputs.data.validation(inputs.recipe, inputs.preprocessing, strategy)
    callbacks.user.start(model)
    with inputs.data.explain_errors(), state.training_step(inputs.recipe), multi_worker.patched_fit(model, strategy):
        if tracker.progress.logs:
            _finish_epoch(model, validation, tracker, callbacks, options)
        for phase in phases(inputs.recipe.data, inputs.recipe.schedule.epochs, steps, tracker.progress.step):
            if model.stop_training:
                break
            model.train_function = None  # traced again, as in a run that resumes here: the last bits depend on it
            batches = inputs.data.batches(
                inputs.recipe, inputs.preprocessing, phase, strategy, deterministic=options.deterministic
            )
            if phase.first_step == inputs.first_step:
                write_start(folder.tensorboard, inputs, phase, batches)
            model.fit(
                batches,
                steps_per_epoch=phase.steps,
                initial_epoch=phase.first_step // steps,
                epochs=phase.last_step // steps,
                validation_data=validation,
                validation_freq=options.validate_epochs,
                shuffle=False,  # the batches are shuffled
                callbacks=callbacks.in_fit(),
                verbose=0,
            )
    if model.stop_training:
        epoch = len(tracker.progress.history)
        step = f"step {tracker.done} of epoch {epoch + 1}" if tracker.row is None else f"epoch {epoch}"
        _log.info(f"a callback stopped training after {step}")
    if state.average:
        state.average.assign_to_model()
    callbacks.user.finish()  # what a callback sets at its end is the result


def _finish_epoch(
    model: keras.Model, validation: Any, tracker: ProgressTracker, callbacks: _Callbacks, options: LoopOptions
) -> None:
    """Finishes an epoch whose steps are done and whose validation was interrupted."""
    epoch, logs = len(tracker.progress.history), dict(tracker.progress.logs)
    if validation is not None and (epoch + 1) % options.validate_epochs == 0:
        measures = model.evaluate(validation, callbacks=callbacks.in_evaluate(), return_dict=True, verbose=0)
        logs |= {f"val_{name}": value for name, value in measures.items()}
    for callback in (*callbacks.in_evaluate(), callbacks.user):
        callback.set_model(model)
        callback.on_epoch_end(epoch, logs)


def _finish(
    inputs: TrainingInputs, state: TrainingState, folder: RunFolder, strategy: Strategy, history: History
) -> Result:
    """Writes history, curves, and the trained network, evaluates it, and returns the result on every worker."""
    if multi_worker.worker_rank(strategy)[0]:
        result = broadcast_evaluation(strategy, None)
        assert result is not None
        return result
    if history:  # a run that was killed after its last checkpoint has not written its last row
        folder.write_history(history)
    folder.write_curves(history)
    folder.check_place()
    task = task_of(inputs.recipe)
    task.finished(inputs, state.model).save(folder.model)
    with inputs.data.explain_errors():
        inputs.data.write_samples(folder.samples, inputs.preprocessing)
        distribution.on_one_device()
        # The file is evaluated, not the model in memory: the result is the one that the file gives.
        evaluation = inputs.data.evaluate(task.load(folder.model), inputs.recipe)
    folder.finish(evaluation, sum(row["seconds"] for row in history))
    broadcast_evaluation(strategy, evaluation)
    return evaluation


def _steps_per_execution(options: LoopOptions, steps: int, done: int) -> int:
    """Returns how many steps one call of TensorFlow takes: a number that divides an epoch and the rest of one."""
    divisible = math.gcd(steps, done % steps)
    return next(count for count in range(options.steps_per_execution, 0, -1) if divisible % count == 0)


def _in_epochs_of(progress: Progress, steps: int) -> Progress:
    """Returns the position in epochs of `steps` steps, which may be others since the images have changed.

    An epoch that has begun then begins again.
    """
    if progress.epoch_steps in (None, steps):
        return replace(progress, epoch_steps=steps)
    done = len(progress.history)
    _log.warning(f"an epoch has {steps} steps now, instead of {progress.epoch_steps}: epoch {done + 1} begins again")
    return replace(progress, step=done * steps, seconds=0.0, logs={}, epoch_steps=steps)


def _resumed(progress: Progress, steps: int) -> str:
    """Returns where a run resumes, in words."""
    epochs, step = divmod(progress.step, steps)
    if progress.logs:
        return f", resumed before the validation of epoch {epochs}"
    return f", resumed after step {step} of epoch {epochs + 1}" if step else f", resumed after epoch {epochs}"


def broadcast_evaluation(strategy: Strategy, evaluation: Result | None) -> Result | None:
    """Returns the chief's evaluation on every worker."""
    content = multi_worker.broadcast(strategy, asdict(evaluation) if evaluation else None)
    return read_result(content) if content else None
