"""Effect of single ideas on a short training on CIFAR-10: `python benchmarks/recipe_ideas.py --data-dir DIR`.

Each idea is a change of the recipe `cifar10_fast`, for the same few epochs at a small size, in training and test. The
table is of the test error after the last epoch, as the mean over seeds; it is printed and written to
`recipe_ideas.md`. A finished run in `--workdir` is not repeated, so that ideas and seeds can be added one by one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from timed_runs import TimedRun, machine, parse, publish, train

import resnet_keras
from resnet_keras.tables import markdown_table

SGD = {"optimizer": "sgd", "peak_lr": 0.2}
IDEAS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast": ("the recipe", {}),
    "sgd": ("SGD instead of Muon, at a rate of 0.2", SGD),
    "sgd_low": ("SGD at a rate of 0.08", SGD | {"peak_lr": 0.08}),
    "sgd_smooth": (
        "SGD, zero-initialized residual branches, label smoothing 0.1",
        SGD | {"zero_init_residual": True, "label_smoothing": 0.1},
    ),
    "kernels_high": ("kernels at a rate of 0.1", {"kernel_rate": 1.0}),
    "kernels_low": ("kernels at a rate of 0.01", {"kernel_rate": 0.1}),
    "momentum": ("momentum 0.6", {"momentum": 0.6}),
    "no_whitening": ("no whitened stem", {"whiten_stem": False}),
    "random_flips": ("random flips instead of alternating ones", {"alternate_flip": False}),
    "less_padding": ("2 pixels of padding instead of 4", {"pad_pixels": 2}),
    "batch_64": ("batches of 64, at the same rate", {"batch_size": 64}),
    "average": ("moving average of the weights, 0.99", {"ema": 0.99}),
    "cosine": ("half a cosine instead of a line, after the warm-up", {"lr_schedule": "cosine"}),
    "smooth": ("label smoothing 0.1", {"label_smoothing": 0.1}),
    "sizes": ("two thirds of the height and width in the first half", {}),
    "teacher": (
        "half of the loss is the distance to a trained teacher, at a temperature of 4",
        {"teacher_share": 0.5, "temperature": 4.0},
    ),
    "teacher_most": (
        "nine tenths of the loss are the distance to a trained teacher, at a temperature of 4",
        {"teacher_share": 0.9, "temperature": 4.0},
    ),
}
"""By a short name: the idea in words, and what it changes; `changes` has what depends on the command line."""
TEACHERS = [idea for idea, (_, changed) in IDEAS.items() if "teacher_share" in changed]
"""Ideas that need a teacher."""


def changes(idea: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the changes that an idea makes."""
    if idea == "sizes":
        return {"train_sizes": (2 * arguments.size // 3, arguments.size)}
    teacher = {"teacher": str(arguments.teacher)} if idea in TEACHERS else {}
    return IDEAS[idea][1] | teacher


def recipe_of(idea: str, seed: int, arguments: argparse.Namespace) -> resnet_keras.Recipe:
    """Returns the recipe of a run."""
    recipe = resnet_keras.RECIPES["cifar10_fast"].replace(
        model=arguments.model,
        precision=arguments.precision,
        image_size=arguments.size,
        epochs=arguments.epochs,
        warmup_epochs=0.1 * arguments.epochs,
        seed=seed,
    )
    return recipe.replace(**changes(idea, arguments))


def report(runs: dict[str, list[TimedRun]], arguments: argparse.Namespace) -> str:
    """Returns the page."""
    rows = []
    for idea, mine in runs.items():
        errors = [100 * run.result.top1_error for run in mine]
        spread = f" ± {stdev(errors):.2f}" if len(errors) > 1 else ""
        seconds = [run.cpu_seconds for run in mine if run.cpu_seconds is not None]
        rows.append(
            [IDEAS[idea][0], str(len(mine)), f"{mean(errors):.2f}{spread}", f"{mean(seconds):.0f}" if seconds else ""]
        )
    size, ideas = arguments.size, " ".join(runs)
    teacher = "" if runs.keys().isdisjoint(TEACHERS) else " --teacher RUN"
    return "\n".join(
        [
            "# Ideas for a recipe, one by one",
            "",
            f"`python benchmarks/recipe_ideas.py --data-dir DIR --model {arguments.model} --epochs {arguments.epochs} "
            f"--size {size} --precision {arguments.precision}{teacher} --ideas {ideas}` {machine()}: "
            f"{arguments.epochs} epochs of CIFAR-10 at {size}x{size} pixels, {arguments.precision}, the test at the "
            "same size, over images and their mirror images, after the last epoch.",
            "",
            markdown_table(["idea", "seeds", "error, %", "CPU s"], rows, text=("idea",)),
            "",
        ]
    )


def main() -> None:
    """Trains, prints, and writes the page."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data-dir", type=Path, help="folder of TFDS data")
    flags.add_argument("--model", default="resnet20")
    flags.add_argument("--epochs", type=int, default=4)
    flags.add_argument("--size", type=int, default=24, help="height and width in pixels")
    flags.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "mixed_bfloat16"),
        help="mixed_bfloat16 where the processor has its instructions",
    )
    flags.add_argument(
        "--ideas", nargs="+", choices=IDEAS, help="all unless given; without --teacher, those without a teacher"
    )
    flags.add_argument("--teacher", help="run or weights of the teacher")
    flags.add_argument("--seeds", type=int, nargs="+", default=[0])
    flags.add_argument("--workdir", type=Path, default=Path("runs") / "recipe_ideas", help="folder of the runs")
    flags.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parse(flags)
    arguments.ideas = arguments.ideas or [idea for idea in IDEAS if arguments.teacher or idea not in TEACHERS]
    if not arguments.teacher and (needing := [idea for idea in arguments.ideas if idea in TEACHERS]):
        flags.error(f"the idea {needing[0]!r} needs --teacher RUN, a folder of a run or a file of weights")
    runs = {
        idea: [
            train(
                recipe_of(idea, seed, arguments),
                arguments.workdir / f"{idea}_{arguments.model}_{arguments.size}_{arguments.epochs}_{seed}",
                data_dir=arguments.data_dir,
                validate_epochs=arguments.epochs,
            )
            for seed in arguments.seeds
        ]
        for idea in arguments.ideas
    }
    publish(report(runs, arguments), arguments.to)


if __name__ == "__main__":
    main()
