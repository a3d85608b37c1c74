"""Trains a network by a recipe, e.g. `resnet train cifar10 --model resnet56 --data-dir ~/tensorflow_datasets`."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resnet_keras
from resnet_keras.checks.fields import nearest
from resnet_keras.cli.flags import flags_of, naming_flags
from resnet_keras.cli.program import fail, run
from resnet_keras.networks.catalog import architecture, network_name
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.recipes.settings import Head

NAME = "resnet train"

EVERYDAY = (
    *("model", "data-dir", "workdir", "weights", "epochs", "batch-size", "peak-lr", "precision", "seed"),
    *("continue-from", "train-images", "download", "dry-run"),
)
"""Flags of the short help."""

SEGMENTATION = (
    *("model", "head", "data-dir", "workdir", "weights", "crop-size", "ignored-label", "epochs", "batch-size"),
    *("peak-lr", "precision", "seed", "continue-from", "dry-run"),
)
"""Those of recipes of segmentation."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Run: where and on what it is computed."""

    workdir: Path | None = None
    """Folder of the run, resumed if it was interrupted; runs/<recipe>_<model> if None."""
    data_dir: Path | None = None
    """Folder of the data: that of TensorFlow Datasets, or of images by class, with masks, or with boxes."""
    download: bool = False
    """Let TensorFlow Datasets download a missing set."""
    cpu_replicas: int | None = None
    """Train on this many logical CPUs, to test several devices; on all visible GPUs if None."""
    skip_broken: bool = False
    """Skip broken images, labels outside the classes and empty classes with a warning, instead of stopping."""
    skip_broken_steps: bool = False
    """Skip and count steps whose loss or result is not finite, instead of stopping."""
    accept_changed_data: bool = False
    """Resume although the images have changed since the run began, and note that in the run."""
    checkpoint_steps: int | None = 1000
    """Steps between two checkpoints within an epoch; none if None."""
    steps_per_execution: int = 1
    """Maximum number of steps in one call of TensorFlow."""
    deterministic: bool = True
    """Keep the order of the images that the seed determines."""
    validate_epochs: int = 1
    """Epochs between two validations on the test images."""
    dry_run: bool = False
    """Print what the run would do, draw its schedule and a batch into the folder, and stop."""


def train(name: str, recipe: Recipe, options: RunOptions) -> None:
    """Trains the recipe called `name`, or prints its plan, and prints the result."""
    arguments = dataclasses.asdict(options)
    workdir = arguments.pop("workdir") or Path("runs") / f"{name}_{recipe.network.model}"
    if arguments.pop("dry_run"):
        source = {field: arguments[field] for field in ("data_dir", "download", "cpu_replicas", "skip_broken")}
        plan = resnet_keras.training.dry_run(recipe, workdir, **source)
        print(naming_flags(str(plan), flags_of(_described(name))))
        return
    evaluation = resnet_keras.train(recipe, workdir, **arguments)
    print(f"{evaluation}; see {workdir}")


def recipes_help() -> str:
    """Returns the help of the command without a recipe."""
    lines = [
        f"usage: {NAME} RECIPE [flags]",
        "",
        "Trains a network by a recipe; the same command resumes a run.",
        "",
        "  recipe                   network           data set      epochs",
    ]
    for name, recipe in RECIPES.items():
        row = f"  {name:<25}{recipe.network.model:<18}{recipe.data.dataset:<14}{recipe.schedule.epochs:>6}"
        lines.append(row)
    return "\n".join([*lines, "", f"Flags: {NAME} RECIPE --help. Sources and errors: resnet recipes."])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet train`."""
    name, *flags = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "--help-all"):
        print(recipes_help())
        return 0
    if name not in RECIPES:
        return fail(NAME, f"Expected a recipe; `resnet recipes` lists them. Received: {name}.{_advice(name)}")
    described, called = _described(name), _called(name)
    shown = SEGMENTATION if RECIPES[name].task == "segmentation" else EVERYDAY
    return run(described, f"{NAME} {name}", flags, sections={"Flags": shown}, progress="stdout", parsed=called)


def _advice(name: str) -> str:
    """Returns what was meant by the name of a recipe that does not exist."""
    if name.startswith("-"):
        return f" Name one before the flags: {NAME} cifar10 {name} ..."
    if name in typing.get_args(Head):
        return f" That is a head: {NAME} segmentation --head {name}"
    try:
        network = network_name(name)
    except ValueError:
        return nearest(name, RECIPES, 3)
    recipe = "cifar10" if architecture(network).stem == "cifar" else "imagenet"
    return f" That is a network: {NAME} {recipe} --model {network}"


def _described(name: str) -> Callable[..., None]:
    """Returns a function whose signature has the flags of a recipe in parts, for the help."""

    def described(recipe: Recipe = RECIPES[name], options: RunOptions = RunOptions()) -> None: ...

    recipe = RECIPES[name]
    described.__doc__ = (
        f"Trains {recipe.network.title}, or another network, on {recipe.data.dataset} for {recipe.schedule.epochs} "
        "epochs. The same command resumes a run."
    )
    return described


def _called(name: str) -> Callable[..., None]:
    """Returns a function with a parameter for each flag, which tyro parses.

    The parts of the recipe check their values themselves: their errors are one line, as those of the library are.
    """
    values = RECIPES[name].flat()
    kinds = [type(getattr(RECIPES[name], part.name)) for part in dataclasses.fields(Recipe)]
    hints = {key: hint for kind in (*kinds, RunOptions, Recipe) for key, hint in _hints(kind).items()}
    defaults = values | dataclasses.asdict(RunOptions())

    def called(**flags: Any) -> None:
        options = RunOptions(**{field.name: flags.pop(field.name) for field in dataclasses.fields(RunOptions)})
        changes = {key: value for key, value in flags.items() if value != values[key]}
        train(name, RECIPES[name].replace(**changes), options)

    called.__annotations__ = {key: hints[key] for key in defaults}
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=hints[key])
            for key, value in defaults.items()
        ]
    )
    return called


def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
