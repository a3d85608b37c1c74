"""What the runs of an experiment came to, as their folders tell."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median, stdev

from resnet_keras.evaluation.evaluator import Evaluation
from resnet_keras.reproduction.experiment import Budget, Experiment, Variant
from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.reproduction.peak_memory import peak_bytes
from resnet_keras.runs.post_training import ten_crop_evaluation, training_evaluation
from resnet_keras.runs.saved_run import SavedRun, read_run


@dataclass(frozen=True)
class MeasuredRun:
    """A finished run.

    Attributes:
        run: What its folder tells.
        test: The finished network on the test images.
        training: The finished network on its training images, without augmentation; `None` if not measured.
        ten_crop: On ten crops of the test images; `None` if not measured.
        peak_bytes: Most memory that its process held; `None` if not measured.
    """

    run: SavedRun
    test: Evaluation
    training: Evaluation | None
    ten_crop: Evaluation | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Outcome:
    """What became of a network of an experiment.

    Attributes:
        variant: The network.
        runs: The finished runs, by seed.
        begun: Runs that are not finished.
    """

    variant: Variant
    runs: dict[int, MeasuredRun]
    begun: tuple[SavedRun, ...]

    def errors(self, of: str) -> dict[int, float]:
        """Returns by seed the top-1 errors, in per cent, of "training", "test" or "ten_crop" images."""
        found = {seed: getattr(run, of) for seed, run in self.runs.items()}
        return {seed: 100 * result.top1_error for seed, result in found.items() if result is not None}

    @property
    def images_per_second(self) -> float | None:
        """The median over the epochs of all runs, of training alone."""
        rates = [rate for each in self.runs.values() for rate in each.run.column("images_per_second")]
        return median(rates) if rates else None


def outcomes(folder: ReproductionFolder, experiment: Experiment, budget: Budget) -> tuple[Outcome, ...]:
    """Returns what became of each network of an experiment on one budget.

    A folder with a run of another recipe counts as no run: it was written for an experiment that was another one then.

    Raises:
        ValueError: A file of a run cannot be read.
    """
    return tuple(_outcome(folder, variant, budget) for variant in experiment.variants[budget])


def mean_and_deviation(values: list[float], digits: int = 2, *, signed: bool = False) -> str:
    """Returns a mean, and of several values the standard deviation (n - 1), as text; a dash if there are none."""
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
        if run.evaluation is None:
            begun.append(run)
            continue
        finished[recipe.seed] = MeasuredRun(
            run, run.evaluation, training_evaluation(path), ten_crop_evaluation(path), peak_bytes(path)
        )
    return Outcome(variant, finished, tuple(begun))
