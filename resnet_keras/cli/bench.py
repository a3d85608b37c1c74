"""Measures a recipe's input or artifacts, or simulates many GPUs, e.g. `resnet bench export saved_models/r50/1`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import tyro

from resnet_keras import files
from resnet_keras.checks.fields import nearest
from resnet_keras.cli.program import fail, run
from resnet_keras.distributed.scaling import GPU_COUNTS, Machine, Workload, first_limit, scaling_table, simulate
from resnet_keras.recipes.recipe import Recipe

_NAME = "resnet bench"
_MACHINE = Machine()
_SUBCOMMANDS = {
    "input RECIPE": "Speed of a recipe's training images, without a network.",
    "export PATHS": "Speed of SavedModels, .tflite and .onnx files, also of other projects.",
    "scaling NETWORK": "Simulation of training on 1 to 256 GPUs, from the speed of one.",
}
_NAMES = tuple(line.split()[0] for line in _SUBCOMMANDS)


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


def simulate_scaling(
    network: tyro.conf.Positional[str],
    *,
    images_per_second: float,
    batch_size: int = 256,
    cpu_milliseconds: float = 5.0,
    image_kilobytes: float = 112.0,
    variation: float = 0.03,
    machine: tyro.conf.OmitArgPrefixes[Machine] = _MACHINE,
) -> None:
    """Simulates training on 1 to 256 GPUs, and names the part that is the first limit.

    Args:
        network: Network, e.g. resnet50.
        images_per_second: Images that one GPU trains on, with its input ready.
        batch_size: Images per step on each GPU.
        cpu_milliseconds: CPU time of one core to decode and augment an image; `resnet bench input` measures it.
        image_kilobytes: Size of an image's file in units of 1,000 bytes; the default is the mean of ImageNet's records.
        variation: Standard deviation of the time of a step on one GPU, as a fraction of the time.
        machine: One of the machines.
    """
    from resnet_keras.networks.complexity import stored_complexity  # not at the top: it loads Keras

    workload = Workload(
        parameters=stored_complexity(network).parameters,
        images_per_second=images_per_second,
        batch_size=batch_size,
        cpu_milliseconds=cpu_milliseconds,
        image_kilobytes=image_kilobytes,
        variation=variation,
    )
    results = [simulate(workload, machine, gpus) for gpus in GPU_COUNTS]
    print(scaling_table(results, workload))
    first = first_limit(results)
    print(
        f"The first limit is {first.limit}, from {first.gpus} GPUs: {first.advice}."
        if first
        else f"Up to {GPU_COUNTS[-1]} GPUs are busy."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet bench`."""
    command, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if command in ("-h", "--help", "--help-all"):
        lines = [f"  {name:<17}{text}" for name, text in _SUBCOMMANDS.items()]
        print("\n".join([f"usage: {_NAME} {{{','.join(_NAMES)}}} [flags]", "", *lines]))
        return 0
    if command == "export":
        return run(measure_exports, f"{_NAME} export", arguments, progress="stdout")
    if command == "input":
        return _input(arguments)
    if command == "scaling":
        return run(simulate_scaling, f"{_NAME} scaling", arguments)
    return fail(_NAME, f"Expected one of {', '.join(_NAMES)}. Received: {command}.{nearest(command, _NAMES)}")


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
