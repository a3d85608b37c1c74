"""What a run would do, told before it does: steps, learning rate, images, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from resnet_keras import files
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.training_batches import training_batches
from resnet_keras.distributed import strategy as distribution
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.complexity import multiply_adds, parameters
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import RunFolder
from resnet_keras.training.image_size_phases import phases
from resnet_keras.training.inputs import TrainingInputs, check_batch, precision, prepare_inputs
from resnet_keras.training.model import compile_network
from resnet_keras.training.rematerialization import groups
from resnet_keras.training.schedules import learning_rate_schedule

_SHOWN = 32
_DRAWN_STEPS = 1000


@dataclass(frozen=True)
class RunPlan:
    """What a run would do.

    Attributes:
        summary: Network, images, epochs, steps.
        rates: Learning rate by step: (steps, rates), as lines drawn through them.
        sizes: Epochs and image sizes, phase by phase.
        memory: Bytes of weights, gradients and the optimizer; and of one step's activations on one device.
        multiply_adds: Of the whole run: forward, and twice as many backward.
        files: Pictures that were drawn.
    """

    summary: str
    rates: tuple[np.ndarray, np.ndarray]
    sizes: tuple[tuple[int, int], ...]
    memory: tuple[int, int]
    multiply_adds: float
    files: tuple[Path, ...]

    def __str__(self) -> str:
        """Returns a few lines."""
        steps, rates = self.rates
        peak = int(rates.argmax())
        held, activations = (f"{bytes_ / 2**30:.2f} GiB" for bytes_ in self.memory)
        return "\n".join(
            [
                self.summary,
                f"learning rate: {rates[0]:.3g} at first, {rates[peak]:.3g} at step {steps[peak]:,}, "
                f"{rates[-1]:.3g} at the end, step {steps[-1]:,}",
                "images: " + ", ".join(f"{size}x{size} for {epochs} epochs" for epochs, size in self.sizes),
                f"memory of each device, a guess: {held} of weights, gradients and optimizer, {activations} of "
                "activations",
                f"compute: {self.multiply_adds:.2e} multiply-adds in all",
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
    """Opens the data, builds the network, and returns what `train` would do with the same arguments.

    It trains nothing. Into `workdir` it draws `schedule.png`, the learning rate by step, and `batch.png`, images of the
    first batch as the network will see them.

    Raises:
        ValueError: As of `train`.
        FileNotFoundError: As of `train`.
    """
    devices = distribution.create_strategy(cpu_replicas)
    replicas = distribution.replicas(devices)
    check_batch(recipe, replicas)
    RunFolder(workdir).check(recipe)
    reading = {"data_dir": data_dir, "download": download, "skip": print if skip_broken else None}
    start = prepare_inputs(recipe, reading, print)
    classes = len(start.train_split.class_names)
    largest = max((*recipe.train_sizes, *start.preprocessing.image_size)) if recipe.train_sizes else None
    seen = start.preprocessing.at(largest) if largest else start.preprocessing
    with precision(recipe.precision):
        model = compile_network(
            _of_one_size(recipe), seen, classes, start.steps, weights=start.weights, log=lambda _: None
        )
    parts = list(phases(recipe, start.steps))
    sizes = [part.image_size or seen.image_size[0] for part in parts]
    epochs = [(part.last_step - part.first_step) // start.steps for part in parts]
    relative = [e * (size / seen.image_size[0]) ** 2 for e, size in zip(epochs, sizes, strict=True)]
    plan = RunPlan(
        start.summary(replicas, model.count_params()),
        _rates(recipe, start.steps),
        tuple(zip(epochs, sizes, strict=True)),
        memory(model, recipe, replicas),
        3.0 * multiply_adds(model) * start.steps * recipe.batch_size * sum(relative),
        (Path(workdir) / "schedule.png", Path(workdir) / "batch.png"),
    )
    _draw_schedule(plan, start, plan.files[0])
    first = start.preprocessing.at(sizes[0]) if recipe.train_sizes else start.preprocessing
    _draw_batch(start, first, plan.files[1])
    return plan


def memory(model: keras.Model, recipe: Recipe, replicas: int) -> tuple[int, int]:
    """Returns a guess at the bytes that training needs on each device.

    Of the first number are the weights in float32, their gradients, what the optimizer keeps of each, and averages; of
    the second what the backward pass needs of the forward pass: what goes into each convolution and each batch
    normalization, in the precision of computation; with `rematerialize`, of the largest group of blocks alone, beside
    what goes into each group. A framework needs more for a while, mostly for convolutions.
    """
    copies = 2 + (2 if recipe.optimizer == "lamb" else 1) + bool(recipe.ema)
    if recipe.rematerialize:
        parts, head = groups(model)
        inside = [sum(_kept(piece.layers) for piece in part) for part in parts]
        kept = sum(_bytes(part[0].source) for part in parts) + max(inside) + _kept(head.layers)
    else:
        kept = _kept(flat_layers(model))
    images = recipe.batch_size // (replicas * recipe.accumulate)
    return 4 * copies * parameters(model), kept * images


def _kept(layers: list[keras.layers.Layer]) -> int:
    """Returns the bytes that go into convolutions, batch normalizations and dense layers, of one image."""
    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization, keras.layers.Dense)
    return sum(_bytes(layer.input, layer.compute_dtype) for layer in layers if isinstance(layer, kinds))


def _bytes(tensor: Any, dtype: str | None = None) -> int:
    return math.prod(tensor.shape[1:]) * (4 if (dtype or tensor.dtype) == "float32" else 2)


def _of_one_size(recipe: Recipe) -> Recipe:
    return Recipe(**{**vars(recipe), "train_sizes": ()})


def _rates(recipe: Recipe, steps: int) -> tuple[np.ndarray, np.ndarray]:
    total = recipe.epochs * steps
    schedule = learning_rate_schedule(recipe, steps)
    chosen = np.unique(np.linspace(0, total - 1, min(total, _DRAWN_STEPS)).astype(int))
    return chosen, np.array([float(keras.ops.convert_to_numpy(schedule(int(step)))) for step in chosen])


def _draw_schedule(plan: RunPlan, start: TrainingInputs, file: Path) -> None:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(plan.rates[0] / start.steps, plan.rates[1])
    axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axes.grid(alpha=0.3)
    with files.new_file(file) as aside, matplotlib.rc_context({"font.size": 9}):
        figure.savefig(aside, dpi=120)


def _draw_batch(start: TrainingInputs, preprocessing: Preprocessing, file: Path) -> None:
    """Draws images of the first batch, with their labels, as they are after all augmentation."""
    images, labels = next(iter(training_batches(start.train_split, start.recipe, preprocessing).take(1)))
    shown: Any = np.clip(images[:_SHOWN] * preprocessing.std + preprocessing.mean, 0, 255).astype(np.uint8)
    if preprocessing.channel_order == "bgr":
        shown = shown[..., ::-1]
    columns = min(len(shown), 8)
    figure = Figure(figsize=(1.3 * columns, 1.5 * math.ceil(len(shown) / columns)), layout="constrained")
    grid = np.ravel(figure.subplots(math.ceil(len(shown) / columns), columns, squeeze=False))
    for axes in grid:
        axes.axis("off")
    for axes, image, label in zip(grid, shown, labels.numpy(), strict=False):
        axes.imshow(image.squeeze(), cmap="gray" if image.shape[-1] == 1 else None)
        axes.set_title(_label(label, start.train_split.class_names), fontsize=6)
    with files.new_file(file) as aside:
        figure.savefig(aside, dpi=120)


def _label(label: Any, names: tuple[str, ...]) -> str:
    """Returns the class of an image; of one that has parts of several, or smoothed labels, the two largest."""
    if np.ndim(label) == 0:
        return names[int(label)]
    first, second = np.argsort(label)[::-1][:2]
    largest = f"{names[first]} {label[first]:.0%}"
    return largest if label[second] < 0.05 else f"{largest}\n{names[second]} {label[second]:.0%}"
