"""The state of a run: its network and everything else that training changes and a checkpoint holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import keras
import numpy as np

from resnet_keras.distributed import strategy as distribution
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.layers.keras_internals import patch_methods
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.checkpoints import Checkpoints, training_variables
from resnet_keras.surgery.cloning import transfer
from resnet_keras.surgery.linear_probe import fit_head
from resnet_keras.surgery.quantization import calibrate
from resnet_keras.training.continuation import Continuation
from resnet_keras.training.distillation import distill_from
from resnet_keras.training.ema import WeightAverage
from resnet_keras.training.inputs import TrainingInputs, precision
from resnet_keras.training.model import restore_folded_statistics
from resnet_keras.training.rematerialization import rematerialize
from resnet_keras.training.tasks import task_of
from resnet_keras.training.teacher import build_teacher
from resnet_keras.training.train_step import SkipNonFiniteSteps, accumulate_gradients
from resnet_keras.training.whitening import whiten

_log = logging.getLogger(__name__)

_SAMPLE_IMAGES = 2_000
_CALIBRATION_BATCH = 100
_HEAD_BATCH = 32
_SKIPS = "skips"


@dataclass(frozen=True, eq=False)
class TrainingState:
    """The network in training and what belongs to it.

    Attributes:
        model: The network, compiled.
        teacher: Frozen network to distill from, if the recipe does.
        average: Moving average of the weights, if the recipe has one.
        skips: Guard that skips steps that are not finite, if it is asked for.
    """

    model: keras.Model
    teacher: keras.Model | None
    average: WeightAverage | None
    skips: SkipNonFiniteSteps | None

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """The variables that a checkpoint holds, by name."""
        named = training_variables(self.model, self.average.variables if self.average else ())
        return named | {_SKIPS: self.skips.count} if self.skips else named

    @property
    def counters(self) -> dict[str, keras.Variable]:
        """Variables whose values become columns of the history, by name."""
        return {"skipped": self.skips.count} if self.skips else {}

    def restore(self, checkpoints: Checkpoints, tensors: Mapping[str, np.ndarray]) -> None:
        """Restores the variables from a checkpoint's tensors.

        A checkpoint without a count of skipped steps is fine: a run may start to skip them at any checkpoint.
        """
        variables = self.variables
        if f"{_SKIPS}#0" not in tensors:
            variables.pop(_SKIPS, None)
        checkpoints.restore(tensors, variables)

    def set_step(self, step: int) -> None:
        """Sets the optimizer's count of steps, which the learning rate depends on."""
        optimizer = self.model.optimizer
        getattr(optimizer, "inner_optimizer", optimizer).iterations.assign(step)

    def initialize(self, inputs: TrainingInputs) -> None:
        """Initializes what depends on the images, at the start of a run: classifier, stem, ranges of fake quantization.

        A run that continues another takes its network. The moving average then starts from the network as it is.
        """
        recipe = inputs.recipe
        if inputs.continuation:
            self._continue(inputs.continuation)
            return
        if inputs.fits_head:
            batches = inputs.data.sample_batches(_SAMPLE_IMAGES, _HEAD_BATCH, inputs.preprocessing)
            count = fit_head(self.model, batches, mirrored=recipe.augmentation.flip)
            _log.info(f"the classifier is fitted to the features of {count:,} training images")
            if self.average:
                self.average.reset()
        if not (recipe.network.whiten_stem or recipe.network.quantization_aware):
            return
        images = inputs.data.images(_SAMPLE_IMAGES, inputs.preprocessing)
        if recipe.network.whiten_stem:
            whiten(self.model, images, recipe.seed)
        if recipe.network.quantization_aware:
            calibrate(self.model, np.array_split(images, -(-len(images) // _CALIBRATION_BATCH)))
        if self.average:
            self.average.reset()

    def _continue(self, continuation: Continuation) -> None:
        new = transfer(continuation.trained.model, self.model)
        if new:  # the auxiliary head of segmentation
            _log.info(f"layers that {continuation.source} does not have begin as in a new run: {', '.join(new)}")
        if self.average:
            self.average.reset()
        if self.skips and continuation.history:
            self.skips.count.assign(int(continuation.history[-1].get(next(iter(self.counters)), 0)))

    @contextmanager
    def training_step(self, recipe: Recipe) -> Iterator[None]:
        """Gives the model the recipe's training step inside the context; Keras's own where it is enough."""
        model = self.model
        step = (
            accumulate_gradients(model, recipe.optimization.accumulate)
            if recipe.optimization.accumulate > 1
            else model.train_step
        )
        step = distill_from(self.teacher, step) if self.teacher else step
        step = self.average.after(step) if self.average else step
        step = self.skips.guard(step) if self.skips else step
        with ExitStack() as stack:
            if recipe.network.rematerialize:
                stack.enter_context(rematerialize(model))
            if step != model.train_step:
                stack.enter_context(patch_methods(model, train_step=step))
            yield


def create_state(
    inputs: TrainingInputs, strategy: Strategy, *, steps_per_execution: int, skip_broken_steps: bool
) -> TrainingState:
    """Returns the state at the start of a run, before `TrainingState.initialize`."""
    recipe, weights = inputs.recipe, inputs.weights
    trains_norms = not recipe.network.freeze_batch_norms and not inputs.continuation
    if weights and trains_norms and weights.has_folded_statistics:
        weights = restore_folded_statistics(weights, recipe, inputs.data, inputs.preprocessing)
    keras.utils.set_random_seed(recipe.seed)
    with precision(recipe.optimization.precision), distribution.scope(strategy):
        model = task_of(recipe).create_network(
            replace(inputs, weights=weights), steps_per_execution=steps_per_execution
        )
        teacher = build_teacher(recipe, inputs.data.class_names, inputs.preprocessing, weights, inputs.teacher)
        average = WeightAverage(model, recipe.optimization.ema) if recipe.optimization.ema else None
        others = average.variables if average else ()
        skips = SkipNonFiniteSteps(model, others) if skip_broken_steps else None
    return TrainingState(model, teacher, average, skips)
