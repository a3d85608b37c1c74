"""Trains a network by a recipe, e.g. `resnet train cifar10_resnet20 --epochs 5 --data-dir ~/tensorflow_datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

import resnet_keras
from resnet_keras.cli.program import run
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe, any field of which a flag overrides, and where and on what to run it."""

    recipe: Recipe
    workdir: Path
    """Folder of the run; one that was interrupted goes on where it was."""
    data_dir: Path | None = None
    """Where the data lie: TFDS's folder, or a folder of class folders."""
    download: bool = False
    """Let TensorFlow Datasets fetch a set that is missing."""
    cpu_replicas: int | None = None
    """Train on this many logical CPUs, to try out several devices; all visible GPUs if None."""
    skip_broken: bool = False
    """Leave out and count broken images, labels outside the classes and empty classes, instead of stopping."""
    skip_broken_steps: bool = False
    """Leave out and count steps whose loss or result is not finite, instead of stopping."""
    checkpoint_steps: int | None = 1000
    """Steps between two checkpoints amid an epoch; none there if None."""
    steps_per_execution: int = 1
    """Steps that TensorFlow does at once, at most."""
    deterministic: bool = True
    """Keep the order of the images that the seed determines."""
    validate_epochs: int = 1
    """Epochs between two looks at the test images, for the curves."""
    dry_run: bool = False
    """Tell what the run would do, draw its schedule and a batch into the folder, and stop."""


_JOBS = tyro.extras.subcommand_type_from_defaults(
    {name: Job(recipe=recipe, workdir=Path("runs") / name) for name, recipe in RECIPES.items()},
    {
        name: f"{recipe.network.model} on {recipe.data.dataset}, {recipe.schedule.epochs} epochs"
        for name, recipe in RECIPES.items()
    },
    sort_subcommands=False,
)


def train(job: _JOBS) -> None:  # type: ignore[valid-type]
    """Trains a network by a recipe: tf.data, tf.distribute, checkpoints, curves, and a final evaluation.

    Args:
        job: Recipe, folder and devices.
    """
    arguments = {field: getattr(job, field) for field in Job.__dataclass_fields__}
    recipe, workdir = arguments.pop("recipe"), arguments.pop("workdir")
    if arguments.pop("dry_run"):
        reading = {field: arguments[field] for field in ("data_dir", "download", "cpu_replicas", "skip_broken")}
        print(resnet_keras.training.dry_run(recipe, workdir, **reading))
        return
    evaluation = resnet_keras.train(recipe, workdir, **arguments)
    print(f"{evaluation}; see {workdir}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet train`."""
    return run(train, "resnet train", argv, progress="stdout", has_subcommands=True)
