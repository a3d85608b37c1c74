"""Measures a recipe's input, or artifacts, e.g. `resnet bench export saved_models/r50/1 --peers`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import tyro

from resnet_keras import files
from resnet_keras.checks.fields import nearest
from resnet_keras.cli.program import fail, run
from resnet_keras.recipes.recipe import Recipe

_NAME = "resnet bench"
_SUBCOMMANDS = {
    "input RECIPE": "Speed of a recipe's training images, without a network.",
    "export PATHS": "Speed of SavedModels, .tflite and .onnx files, also of other projects.",
}


def input_command(chosen: Recipe) -> Callable[..., None]:
    """Returns the command that measures the input of a recipe, whose fields are the defaults of its flags."""

    def measure_input(
        recipe: tyro.conf.OmitArgPrefixes[Recipe] = chosen,
        *,
        data_dir: Path | None = None,
        download: bool = False,
        seconds: float = 5.0,
        turns: int = 3,
    ) -> None:
        """Measures the speed of a recipe's training images, stage by stage, and of a naive pipeline beside them.

        Args:
            recipe: The recipe.
            data_dir: Folder of TensorFlow Datasets, or a folder of class folders.
            download: Let TensorFlow Datasets download a missing data set.
            seconds: Length of a turn of one stage.
            turns: Number of turns of each stage; the medians are printed.
        """
        from resnet_keras.data import input_speed  # not at the top: it loads TensorFlow

        split = input_speed.training_images(recipe.data, data_dir=data_dir, download=download)
        stages = input_speed.measure(
            split,
            input_speed.first_preprocessing(recipe.data, split, recipe.architecture.image_size),
            recipe.augmentation,
            batch_size=recipe.data.batch_size,
            one_hot=recipe.soft_labels,
            seconds=seconds,
            turns=turns,
        )
        size = f"{len(split)} images in batches of {recipe.data.batch_size}"
        print(f"{size}, medians over {turns} turns:\n{input_speed.table(stages)}")

    return measure_input


def measure_exports(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    *,
    peers: bool = False,
    network: Literal["resnet50", "resnet101", "resnet152"] = "resnet50",
    threads: tuple[int, ...] | None = None,
    batches: tuple[int, ...] = (1, 16),
    seconds: float = 2.0,
    turns: int = 3,
) -> None:
    """Measures the speed of artifacts in turns, each in a process of its own.

    Args:
        paths: Folders of SavedModels, .tflite and .onnx files; of an export, all artifacts in its folder.
        peers: Also measure the export of keras.applications, and OpenVINO and ONNX Runtime where installed.
        network: Network of the peers.
        threads: Numbers of threads; one, and as many as there are cores, if None.
        batches: Images per call.
        seconds: Length of a turn.
        turns: Number of turns of each artifact; the medians are printed.
    """
    from resnet_keras.exporting import export_speed  # not at the top: it loads NumPy

    with files.scratch_folder() as scratch:
        mine = export_speed.find_artifacts(paths)
        others = export_speed.export_peers(network, scratch) if peers else []
        speeds = export_speed.measure_speed(
            [*mine, *others], threads=threads, batches=batches, seconds=seconds, turns=turns
        )
    reference = len(mine) if others else 0
    print(f"milliseconds per image, medians over {turns} turns, and the speed relative to the", end=" ")
    print(f"{'peer' if others else 'first'}, {speeds[reference].contender.name}:")
    print(export_speed.speed_table(speeds, reference))
    if len({each.image_shape for each in speeds}) > 1:
        print("Artifacts of images of other sizes do other work, and have no relative speed.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet bench`."""
    command, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if command in ("-h", "--help", "--help-all"):
        lines = [f"  {name:<14}{text}" for name, text in _SUBCOMMANDS.items()]
        print("\n".join([f"usage: {_NAME} {{input,export}} [flags]", "", *lines]))
        return 0
    if command == "export":
        return run(measure_exports, f"{_NAME} export", arguments, progress="stdout")
    if command == "input":
        return _input(arguments)
    return fail(_NAME, f"Expected input or export. Received: {command}.{nearest(command, ('input', 'export'))}")


def _input(arguments: list[str]) -> int:
    from resnet_keras.recipes.catalog import RECIPES

    name, *flags = arguments or ["--help"]
    if name in ("-h", "--help", "--help-all"):
        print(f"usage: {_NAME} input RECIPE [flags]\n\nRecipes: {', '.join(RECIPES)}.")
        print(f"\nFlags of a recipe: {_NAME} input RECIPE --help.")
        return 0
    if name not in RECIPES:
        return fail(f"{_NAME} input", f"Expected a recipe. Received: {name}.{nearest(name, RECIPES)}")
    return run(input_command(RECIPES[name]), f"{_NAME} input {name}", flags, progress="stdout")
