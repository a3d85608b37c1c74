"""Results of the runs of an experiment, read from their folders."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median, stdev

from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.reproduction.experiment import Budget, Experiment, Variant
from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.reproduction.peak_memory import peak_bytes
from resnet_keras.runs.post_training import ten_crop_evaluation, training_evaluation
from resnet_keras.runs.saved_run import SavedRun, read_run


@dataclass(frozen=True)
class MeasuredRun:
    """A finished run.

    Attributes:
        run: Contents of its folder.
        test: Evaluation on the test images.
        training: Evaluation on the training images without augmentation; `None` if not measured.
        ten_crop: Evaluation on ten crops of the test images; `None` if not measured.
        peak_bytes: Peak memory of its process in bytes; `None` if not measured.
    """

    run: SavedRun
    test: Evaluation
    training: Evaluation | None
    ten_crop: Evaluation | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Outcome:
    """Runs of a network of an experiment.

    Attributes:
        variant: The network.
        runs: Finished runs, by seed.
        begun: Unfinished runs.
    """

    variant: Variant
    runs: dict[int, MeasuredRun]
    begun: tuple[SavedRun, ...]

    def errors(self, of: str) -> dict[int, float]:
        """Returns the top-1 errors in percent on "training", "test" or "ten_crop" images, by seed."""
        found = {seed: getattr(run, of) for seed, run in self.runs.items()}
        return {seed: 100 * result.top1_error for seed, result in found.items() if result is not None}

    @property
    def images_per_second(self) -> float | None:
        """Median training speed over the epochs of all runs; `None` if unknown."""
        rates = [rate for each in self.runs.values() for rate in each.run.column("images_per_second")]
        return median(rates) if rates else None


def outcomes(folder: ReproductionFolder, experiment: Experiment, budget: Budget) -> tuple[Outcome, ...]:
    """Returns the runs of each network of an experiment at one budget.

    A run with another recipe is ignored: the experiment has changed since.

    Raises:
        ValueError: A file of a run cannot be read.
    """
    return tuple(_outcome(folder, variant, budget) for variant in experiment.variants[budget])


def mean_and_deviation(values: list[float], digits: int = 2, *, signed: bool = False) -> str:
    """Returns mean and, for several values, standard deviation (n - 1) as text; a dash without values."""
    if not values:
        return "–"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):{'+' if signed else ''}.{digits}f}{spread}"


def _outcome(folder: ReproductionFolder, variant: Variant, budget: Budget) -> Outcome:
    finished, begun = {}, []
    for recipe in variant.recipes:
        path = folder.run(budget, recipe)
        if not (path / "recipe.json").is_file():
            continue
        run = read_run(path)
        if run.recipe != recipe:
            continue
        if not isinstance(run.evaluation, Evaluation):
            begun.append(run)
            continue
        finished[recipe.seed] = MeasuredRun(
            run, run.evaluation, training_evaluation(path), ten_crop_evaluation(path), peak_bytes(path)
        )
    return Outcome(variant, finished, tuple(begun))
