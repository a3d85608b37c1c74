"""Results of runs: a row for each recipe, over its seeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from resnet_keras.data.fingerprint import listed
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.runs.data_record import CHANGES
from resnet_keras.runs.results import MEASURES, Result
from resnet_keras.runs.saved_run import SavedRun, find_runs, nearest, read_run
from resnet_keras.tables import markdown_table

_VERSIONS = ("resnet_keras", "commit", "tensorflow", "keras")
_TAIL = ("test images", "time per run", "images/s")
_UNFINISHED_HEAD = ("unfinished run", "recipe", "seed", "progress", "test error so far, %")
NOTE = (
    "Measures are of the network of the last epoch on the test images: mean ± standard deviation over seeds (n - 1). "
    "Recipes that average each image and its mirror image have both errors; the first is missing where epochs were "
    "validated on other images. Of a run of fewer epochs than its recipe has, both numbers are given. Time is the "
    "mean over runs of the sum over epochs, with their validation and without the final one. Images/s is the median "
    "over the epochs of all runs, of training alone."
)


@dataclass(frozen=True)
class Row:
    """Finished runs of one recipe, each of another seed; as text, a line of a Markdown table.

    Attributes:
        name: The nearest of `RECIPES`, and what differs from it.
        runs: In the order of their seeds; one at least.
    """

    name: str
    runs: tuple[SavedRun, ...]

    def summary(self) -> dict[str, Any]:
        """Returns the row as data: errors as fractions, times in seconds, `None` for unknown values."""
        results = [run.evaluation for run in self.runs if run.evaluation]
        times = [run.seconds for run in self.runs if run.seconds is not None]
        rates = [rate for run in self.runs for rate in run.column("images_per_second")]
        return {
            "recipe": self.name,
            "seeds": [run.recipe.seed for run in self.runs],
            "epochs": self.runs[0].recipe.schedule.epochs,
            "recipe_epochs": self.runs[0].recipe_epochs,
            **self._measures(),
            "mirrored": self.runs[0].recipe.evaluation.test_flip,
            "test_images": sorted({result.images for result in results}),
            "seconds": mean(times) if times else None,
            "images_per_second": median(rates) if rates else None,
            "versions": {key: sorted({str(run.about.get(key)) for run in self.runs}) for key in _VERSIONS},
            "runs": [str(run.path) for run in self.runs],
        }

    @property
    def kind(self) -> type[Result]:
        """Kind of the results."""
        result = self.runs[0].evaluation
        assert result is not None  # the runs are finished
        return type(result)

    def _measures(self) -> dict[str, Any]:
        """Returns mean, standard deviation, and values of each measure; of a classifier, of the final evaluation."""
        names = ("top1_error",) if self.kind is Evaluation else MEASURES[self.kind]
        found: dict[str, Any] = {}
        for name in names:
            values = [getattr(run.evaluation, name) for run in self.runs]
            found |= {f"{name}_mean": mean(values), f"{name}_sd": stdev(values) if len(values) > 1 else None}
            found[f"{name}s"] = values
        return found

    def cells(self) -> tuple[object, ...]:
        """Returns the row of the table."""
        of = self.summary()
        cut = f" of {of['recipe_epochs']}" if of["epochs"] < of["recipe_epochs"] else ""
        return (
            self.name,
            len(self.runs),
            f"{of['epochs']}{cut}",
            *(_percent([run.measures[name] for run in self.runs]) for name in MEASURES[self.kind]),
            " or ".join(f"{images:,}" for images in of["test_images"]),
            "–" if of["seconds"] is None else timedelta(seconds=round(of["seconds"])),
            "–" if of["images_per_second"] is None else f"{of['images_per_second']:,.0f}",
        )


@dataclass(frozen=True)
class RunSummary:
    """Results of runs; as text, Markdown.

    Attributes:
        rows: Of the finished runs, in the order of `RECIPES`.
        unfinished: The runs without a result.
        damaged: Why a run cannot be read, by its folder.
        warnings: What else to know about the rows.
    """

    rows: tuple[Row, ...]
    unfinished: tuple[SavedRun, ...]
    damaged: dict[Path, str]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        parts = []
        if self.rows:
            parts += [self.table(), NOTE]
        if self.unfinished:
            parts += [
                markdown_table(_UNFINISHED_HEAD, map(_unfinished_cells, self.unfinished), text=("recipe", "progress"))
            ]
        if self.damaged:
            parts += ["Damaged, and in no line:", "\n".join(f"- {path}: {why}" for path, why in self.damaged.items())]
        if self.warnings:
            parts += ["Warnings:", "\n".join(f"- {warning}" for warning in self.warnings)]
        return "\n\n".join(parts)

    def table(self) -> str:
        """Returns the rows as a Markdown table, one for each kind of result."""
        return "\n\n".join(
            markdown_table(
                ("recipe", "seeds", "epochs", *(f"{title}, %" for title in MEASURES[kind].values()), *_TAIL),
                [row.cells() for row in self.rows if row.kind is kind],
            )
            for kind in dict.fromkeys(row.kind for row in self.rows)
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as data, for JSON."""
        return {
            "recipes": [row.summary() for row in self.rows],
            "unfinished": [_cells(run) for run in self.unfinished],
            "damaged": {str(path): why for path, why in self.damaged.items()},
            "warnings": list(self.warnings),
        }

    def as_csv(self) -> str:
        """Returns a row for each finished or unfinished run as CSV, for other programs."""
        text = io.StringIO()
        cells = [_cells(run) for run in (*(run for row in self.rows for run in row.runs), *self.unfinished)]
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in cells for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)
        return text.getvalue()


def summarize_runs(sources: Iterable[str | Path]) -> RunSummary:
    """Returns the results of runs, with a row for runs that differ only in the seed.

    Args:
        sources: Folders of runs, or folders that hold some at any depth.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: There is no run.
    """
    groups: list[list[SavedRun]] = []
    unfinished: list[SavedRun] = []
    damaged: dict[Path, str] = {}
    for path in find_runs(sources):
        try:
            run = read_run(path)
        except ValueError as error:
            damaged[path] = str(error)
            continue
        if run.evaluation is None:
            unfinished.append(run)
        elif group := next((group for group in groups if run.repeats(group[0])), None):
            group.append(run)
        else:
            groups.append([run])
    order = list(RECIPES)
    groups.sort(
        key=lambda group: (
            order.index(nearest(group[0].recipe)[0]),
            group[0].recipe.architecture.depth,
            group[0].name,
        )
    )
    warnings: list[str] = []
    rows = tuple(_row(group, warnings) for group in groups)
    for run in (*(run for row in rows for run in row.runs), *unfinished):
        warnings += [
            f"{run.path}: the images changed after step {each['after_step']}: {listed(each['changes'])}"
            for each in run.about.get(CHANGES, [])
        ]
    return RunSummary(rows, tuple(unfinished), damaged, tuple(warnings))


def _percent(errors: list[float | None]) -> str:
    """Returns mean and standard deviation of errors in percent; a dash unless all are known."""
    known = [100 * error for error in errors if error is not None]
    if len(known) < len(errors):
        return "–"
    spread = f" ± {stdev(known):.2f}" if len(known) > 1 else ""
    return f"{mean(known):.2f}{spread}"


def _row(runs: list[SavedRun], warnings: list[str]) -> Row:
    """Returns the row of one recipe's runs; of several with one seed it has the first, with a warning."""
    name = runs[0].name
    by_seed: dict[int, SavedRun] = {}
    for run in runs:
        # A second run with a seed says nothing about the spread over seeds; most often it is a copy.
        if (first := by_seed.setdefault(run.recipe.seed, run)) is not run:
            warnings.append(f"{name}: seed {run.recipe.seed} is in {first.path} and in {run.path}, which is ignored")
    row = Row(name, tuple(by_seed[seed] for seed in sorted(by_seed)))
    if len(row.summary()["test_images"]) > 1:
        warnings.append(f"{name}: not all runs were tested on the same number of images")
    return row


def _cells(run: SavedRun) -> dict[str, Any]:
    """Returns one run as data."""
    result, rates = run.evaluation, run.column("images_per_second")
    return {
        "run": str(run.path),
        "recipe": run.name,
        "seed": run.recipe.seed,
        "progress": "finished" if result else run.progress,
        "epochs_done": len(run.history),
        "epochs": run.recipe.schedule.epochs,
        "top1_error": getattr(result, "top1_error", None),
        "top5_error": getattr(result, "top5_error", None),
        "loss": getattr(result, "loss", None),
        **({} if isinstance(result, Evaluation) else run.measures),
        "test_images": result and result.images,
        "seconds": run.seconds,
        "images_per_second": median(rates) if rates else None,
    }


def _unfinished_cells(run: SavedRun) -> tuple[object, ...]:
    tested = run.column("val_accuracy")
    error = f"{100 * (1 - tested[-1]):.2f}" if tested else "–"
    if overlap := run.column("val_mean_iou"):
        error = f"mean IoU {100 * overlap[-1]:.2f}"
    if found := run.column("val_ap50"):
        error = f"AP50 {100 * found[-1]:.2f}"
    if run.validated_on != "test" and error != "–":
        error = f"{run.validated_on} {error}"
    return run.path, run.name, run.recipe.seed, run.progress, error
