"""Runs of experiments as they would be on the disk, of errors that are given, for tests of what is made of them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from resnet_keras import files
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.reproduction.catalog import EXPERIMENTS
from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.reproduction.paper_results import PAPER_NETWORKS
from resnet_keras.runs.folder import RunFolder

MULTIPLY_ADDS = 1_000_000_000
DEGRADATION = EXPERIMENTS["degradation"]
THREE_SEEDS = replace(
    DEGRADATION,
    variants={**DEGRADATION.variants, "smoke": tuple(replace(v, seeds=3) for v in DEGRADATION.variants["smoke"])},
)
"""Degradation with three seeds at the smoke budget."""


def evaluation(error: float) -> Evaluation:
    return Evaluation(images=100, top1_error=error, top5_error=None, loss=1.0)


def write_run(
    folder: ReproductionFolder,
    recipe: Recipe,
    *,
    training: float | None = 0.1,
    test: float | None = 0.2,
    budget: str = "smoke",
    rate: float = 500.0,
) -> RunFolder:
    """Writes a run whose accuracy in training is 0.5, 0.55, 0.6 ... by epoch; without `test`, an unfinished one."""
    run = RunFolder(folder.run(budget, recipe))  # type: ignore[arg-type]
    run.begin(recipe, {"data_dir": None, "replicas": 1})
    rows = [
        {"epoch": i + 1, "loss": 3.0 - i, "accuracy": 0.5 + i / 20, "images_per_second": rate, "seconds": 4.0}
        for i in range(recipe.schedule.epochs)
    ]
    rows[-1]["val_accuracy"] = 0.25
    run.write_history(rows)
    if test is not None:
        run.model.write_bytes(b"")
        run.finish(evaluation(test))
    if training is not None:
        files.write_json(run.path / "training_evaluation.json", asdict(evaluation(training)))
    return run


def write_networks(folder: ReproductionFolder) -> None:
    """Writes what networks cost, so that none need be built: a milliard multiply-adds, a million parameters."""
    networks = [
        {"name": name, "layers": 7, "parameters": 1_000_000, "multiply_adds": MULTIPLY_ADDS} for name in PAPER_NETWORKS
    ]
    folder.write("full", "networks", {"networks": networks})


def three_seeds(path: Path) -> ReproductionFolder:
    """Runs of plain-20 with training errors of 10, 12 and 17 %, of plain-56 with 30 and 35 %; no others."""
    folder = ReproductionFolder(path)
    shallow, deep, *_ = THREE_SEEDS.variants["smoke"]
    for recipe, error in zip(shallow.recipes, (0.10, 0.12, 0.17), strict=True):
        write_run(folder, recipe, training=error, test=error + 0.05)
    for recipe, error in zip(deep.recipes, (0.30, 0.35), strict=False):
        write_run(folder, recipe, training=error, test=0.5)
    return folder
