"""Measures parts of a training, or artifacts, e.g. `resnet bench export saved_models/r50/1 --peers`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from resnet_keras.cli.program import run
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe


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
    {name: f"{recipe.network.model} on {recipe.data.dataset}" for name, recipe in RECIPES.items()},
    sort_subcommands=False,
)


@dataclass(frozen=True)
class Input:
    """How fast a recipe's training images come, without a network, stage by stage, beside a naive pipeline."""

    job: _JOBS  # type: ignore[valid-type]


@dataclass(frozen=True)
class Export:
    """How fast artifacts answer, one after another in turns: any SavedModel, .tflite or .onnx, also other people's."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """SavedModels' folders and files; of a folder that resnet export has written, everything in it."""
    peers: bool = False
    """Beside them, keras.applications' own export, and OpenVINO and ONNX Runtime where they are installed."""
    network: Literal["resnet50", "resnet101", "resnet152"] = "resnet50"
    """Of the peers."""
    threads: tuple[int, ...] | None = None
    """Numbers of threads; one, and as many as there are cores, if None."""
    batches: tuple[int, ...] = (1, 16)
    """Images in a call."""
    seconds: float = 2.0
    """Length of a turn."""
    turns: int = 3
    """How often each has its turn; what is printed are medians."""


def bench(
    what: Annotated[Input, tyro.conf.subcommand("input")] | Annotated[Export, tyro.conf.subcommand("export")],
) -> None:
    """Prints speeds.

    Args:
        what: What to measure.
    """
    # Not at the top: `--help` needs no TensorFlow.
    if isinstance(what, Input):
        from resnet_keras.data import input_speed as input_meter

        job: Job = what.job
        recipe = job.recipe
        split = input_meter.training_images(recipe.data, data_dir=job.data_dir, download=job.download)
        stages = input_meter.measure(
            split,
            input_meter.first_preprocessing(recipe.data, split, recipe.architecture.image_size),
            recipe.augmentation,
            batch_size=recipe.data.batch_size,
            one_hot=recipe.soft_labels,
            seconds=job.seconds,
            turns=job.turns,
        )
        size = f"{len(split)} images in batches of {job.recipe.data.batch_size}"
        print(f"{size}, medians over {job.turns} turns:\n{input_meter.table(stages)}")
        return
    from resnet_keras.exporting import export_speed

    with tempfile.TemporaryDirectory() as scratch:
        mine = export_speed.find_artifacts(what.paths)
        others = export_speed.export_peers(what.network, Path(scratch)) if what.peers else []
        speeds = export_speed.measure_speed(
            [*mine, *others], threads=what.threads, batches=what.batches, seconds=what.seconds, turns=what.turns
        )
    reference = len(mine) if others else 0
    print(f"milliseconds per image, medians over {what.turns} turns, and how many times as fast as the", end=" ")
    print(f"{'peer' if others else 'first'}, {speeds[reference].contender.name}:")
    print(export_speed.speed_table(speeds, reference))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet bench`."""
    return run(bench, "resnet bench", argv, progress="stdout", has_subcommands=True)
