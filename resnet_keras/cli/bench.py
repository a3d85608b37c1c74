"""Measures parts of a training, e.g. `resnet-bench input imagenet_resnet50 --data-dir ~/tensorflow_datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from resnet_keras.cli.program import run
from resnet_keras.recipe import Recipe
from resnet_keras.recipes import RECIPES


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe, any field of which a flag overrides, its data, and how long to measure."""

    recipe: Recipe
    data_dir: Path | None = None
    """Where the data lie: TFDS's folder, or a folder of class folders."""
    download: bool = False
    """Let TensorFlow Datasets fetch a set that is missing."""
    seconds: float = 5.0
    """Length of a turn of one stage."""
    turns: int = 3
    """How often each stage has its turn; what is printed are medians."""


_JOBS = tyro.extras.subcommand_type_from_defaults(
    {name: Job(recipe=recipe) for name, recipe in RECIPES.items()},
    {name: f"{recipe.model} on {recipe.dataset}" for name, recipe in RECIPES.items()},
    sort_subcommands=False,
)


def bench(meter: tyro.conf.Positional[Literal["input"]], job: _JOBS) -> None:  # type: ignore[valid-type]
    """Prints how fast a recipe's training images come, without a network, stage by stage, beside a naive pipeline.

    Args:
        meter: What to measure: the input.
        job: Recipe, data and time.
    """
    # Not at the top: `--help` needs no TensorFlow.
    from resnet_keras.input_meter import measure, table, training_images

    options = {field: getattr(job, field) for field in Job.__dataclass_fields__}
    recipe, turns = options["recipe"], options["turns"]
    split = training_images(recipe, data_dir=options["data_dir"], download=options["download"])
    stages = measure(recipe, split, seconds=options["seconds"], turns=turns)
    print(f"{len(split)} images in batches of {recipe.batch_size}, medians over {turns} turns:\n{table(stages)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet-bench`."""
    return run(bench, "resnet-bench", argv)
