"""The plan of a run before it starts: steps, learning rate, images, memory."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_keras import files
from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.data.opening import DataSource
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.distributed import strategy as distribution
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.complexity import multiply_adds, parameters
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import RunFolder
from resnet_keras.runs.image_grid import DPI, image_grid
from resnet_keras.training.image_size_phases import Phase, phases
from resnet_keras.training.inputs import TrainingInputs, check_batch, precision, with_absolute_paths
from resnet_keras.training.rematerialization import groups
from resnet_keras.training.run_warnings import run_warnings
from resnet_keras.training.schedules import learning_rate_schedule
from resnet_keras.training.tasks import task_of

_log = logging.getLogger(__name__)

_DRAWN_IMAGES = 32
_DRAWN_STEPS = 1000
_FIRST_STEP = Phase(first_step=0, last_step=1, steps=1, image_size=None)


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run; as text, a few lines.

    Attributes:
        summary: Network, images, epochs and steps, in a line; in another, the run that is continued.
        rates: Learning rate by step: (steps, rates).
        sizes: Epochs and image size of each phase.
        memory: Estimated bytes on each device: of weights, gradients and optimizer; of the activations of a step.
        multiply_adds: Multiply-adds of the whole run: those of the forward pass, twice as many backward, and those of
            the teacher.
        files: Pictures that were drawn.
        warnings: What looks wrong, in sentences; see `run_warnings`.
        width: Width of the images in pixels, if it is not their height.
    """

    summary: str
    rates: tuple[np.ndarray, np.ndarray]
    sizes: tuple[tuple[int, int], ...]
    memory: tuple[int, int]
    multiply_adds: float
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    width: int | None = None

    def __str__(self) -> str:
        """Returns the lines."""
        steps, rates = self.rates
        peak = int(rates.argmax())
        held, activations = (f"{bytes_ / 2**30:.2f} GiB" for bytes_ in self.memory)
        return "\n".join(
            [
                self.summary,
                f"learning rate: {rates[0]:.3g} at first, {rates[peak]:.3g} at step {steps[peak]:,}, "
                f"{rates[-1]:.3g} at the end, step {steps[-1]:,}",
                "images: "
                + ", ".join(f"{size}x{self.width or size} for {epochs} epochs" for epochs, size in self.sizes),
                f"estimated memory of each device: {held} of weights, gradients and optimizer, {activations} of "
                "activations",
                f"compute: {self.multiply_adds:.2e} multiply-adds in all",
                *(f"warning: {warning}" for warning in self.warnings),
                *(f"see {file}" for file in self.files),
            ]
        )


def dry_run(
    recipe: Recipe,
    workdir: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    cpu_replicas: int | None = None,
    skip_broken: bool = False,
) -> RunPlan:
    """Opens the data, builds the network, and returns the plan of `train` with the same arguments.

    It trains nothing. It writes `schedule.png`, the learning rate by step, and `batch.png`, images of the first batch
    as the network will see them, to `workdir`.

    Args:
        recipe: See `train`.
        workdir: See `train`.
        data_dir: See `train`.
        download: See `train`.
        cpu_replicas: See `train`.
        skip_broken: See `train`.

    Raises:
        ValueError: See `train`.
        FileNotFoundError: See `train`.
    """
    replicas = distribution.replicas(distribution.create_strategy(cpu_replicas))
    check_batch(recipe, replicas)
    recipe = with_absolute_paths(recipe)
    RunFolder(workdir).check(recipe)
    on_corrupt: OnCorrupt = "skip" if skip_broken else "raise"
    source = DataSource(data_dir=data_dir, download=download, on_corrupt=on_corrupt)
    task = task_of(recipe)
    inputs = task.open_inputs(recipe, source, None, replicas=replicas)
    recipe = inputs.recipe
    largest = max((*recipe.data.train_sizes, *inputs.preprocessing.image_size)) if recipe.data.train_sizes else None
    preprocessing = inputs.preprocessing.at(largest) if largest else inputs.preprocessing
    with precision(recipe.optimization.precision):
        model = task.create_network(replace(inputs, recipe=recipe.replace(train_sizes=()), preprocessing=preprocessing))
    teacher = inputs.teacher.model if inputs.teacher else model if recipe.optimization.teacher else None
    held, activations = memory(model, recipe, replicas)
    parts = list(phases(recipe.data, recipe.schedule.epochs, inputs.steps, inputs.first_step))
    sizes = [part.image_size or preprocessing.image_size[0] for part in parts]
    epochs = [(part.last_step - part.first_step) // inputs.steps for part in parts]
    relative = [e * (size / preprocessing.image_size[0]) ** 2 for e, size in zip(epochs, sizes, strict=True)]
    continued = [inputs.continuation.summary(recipe)] if inputs.continuation else []
    plan = RunPlan(
        "\n".join([inputs.summary(replicas, model.count_params()), *continued]),
        _rates(recipe, inputs.steps, inputs.first_step),
        tuple(zip(epochs, sizes, strict=True)),
        (held + (4 * parameters(teacher) if teacher else 0), activations),
        _step_multiply_adds(model, teacher) * inputs.steps * recipe.data.batch_size * sum(relative),
        (Path(workdir) / "schedule.png", Path(workdir) / "batch.png"),
        run_warnings(inputs, replicas),
        None if recipe.data.train_sizes else preprocessing.image_size[1],
    )
    _draw_schedule(plan, inputs, plan.files[0])
    first = inputs.preprocessing.at(sizes[0]) if recipe.data.train_sizes else inputs.preprocessing
    _draw_batch(inputs, first, plan.files[1])
    return plan


def memory(model: keras.Model, recipe: Recipe, replicas: int) -> tuple[int, int]:
    """Returns an estimate of the bytes that training needs on each device.

    The first number counts the float32 weights, their gradients, the optimizer's variables and the moving average. The
    second counts the activations that the backward pass needs: the inputs of convolutions and batch normalizations, in
    the precision of computation; with `rematerialize`, those of the largest group of blocks and the input of each
    group. The framework temporarily needs more, mostly for convolutions.
    """
    copies = 2 + (2 if recipe.optimization.optimizer == "lamb" else 1) + bool(recipe.optimization.ema)
    if recipe.network.rematerialize:
        parts, head = groups(model)
        inside = [sum(_kept(piece.layers) for piece in part) for part in parts]
        kept = sum(_bytes(part[0].source) for part in parts) + max(inside) + _kept(head.layers)
    else:
        kept = _kept(flat_layers(model))
    images = recipe.data.batch_size // (replicas * recipe.optimization.accumulate)
    return 4 * copies * parameters(model), kept * images


def _step_multiply_adds(model: keras.Model, teacher: keras.Model | None) -> float:
    """Returns the multiply-adds of a step for one image, which the teacher gets in the size of the model's input.

    Those of a teacher whose file says no size are left out.
    """
    own = 3.0 * multiply_adds(model)
    if teacher is None or not all(teacher.input_shape[1:3]):
        return own
    pixels, taught = (math.prod(each.input_shape[1:3]) for each in (model, teacher))
    return own + multiply_adds(teacher) * pixels / taught


def _kept(layers: list[keras.layers.Layer]) -> int:
    """Returns the bytes of the inputs of convolutions, batch normalizations and dense layers, for one image."""
    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization, keras.layers.Dense)
    return sum(_bytes(layer.input, layer.compute_dtype) for layer in layers if isinstance(layer, kinds))


def _bytes(tensor: Any, dtype: str | None = None) -> int:
    return math.prod(tensor.shape[1:]) * (4 if (dtype or tensor.dtype) == "float32" else 2)


def _rates(recipe: Recipe, steps: int, first_step: int = 0) -> tuple[np.ndarray, np.ndarray]:
    total = recipe.schedule.epochs * steps
    schedule = learning_rate_schedule(recipe, steps)
    drawn = np.unique(np.linspace(first_step, total - 1, min(total - first_step, _DRAWN_STEPS)).astype(int))
    return drawn, np.array([float(keras.ops.convert_to_numpy(schedule(int(step)))) for step in drawn])


def _draw_schedule(plan: RunPlan, inputs: TrainingInputs, file: Path) -> None:
    recipe = inputs.recipe
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot(plan.rates[0] / inputs.steps, plan.rates[1])
        axes.set(
            title=f"{recipe.network.model}: {recipe.schedule.epochs} epochs of {inputs.steps:,} steps",
            xlabel="epoch",
            ylabel="learning rate",
            xlim=(0, recipe.schedule.epochs),
            ylim=(0, None),
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    with files.new_file(file) as aside:
        figure.savefig(aside, dpi=120)


def _draw_batch(inputs: TrainingInputs, preprocessing: Preprocessing, file: Path) -> None:
    """Draws images of the first batch after augmentation, with their labels."""
    batches = inputs.data.batches(inputs.recipe, preprocessing, _FIRST_STEP, None, deterministic=True)
    pixels, titles = inputs.data.pictures(next(iter(batches)), preprocessing, _DRAWN_IMAGES)
    height, width = pixels.shape[1:3]
    figure = image_grid(pixels, titles, f"first batch as the network sees it: {height}x{width} pixels, augmented")
    with files.new_file(file) as aside:
        figure.savefig(aside, dpi=DPI)
