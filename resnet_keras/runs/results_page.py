"""A page on trained networks, from the folders of their runs: errors, commands, machines, and curves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.runs.curves import draw_curves
from resnet_keras.runs.results import MEASURES
from resnet_keras.runs.saved_run import SavedRun
from resnet_keras.runs.summary import NOTE, Row, RunSummary

_IMAGES = Path("images", "results")
_DPI = 80
_PACKAGES = {"tensorflow": "TensorFlow", "keras": "Keras", "python": "Python"}
_HEAD = """# Results

Trained networks, from the folders of their runs. `resnet runs RUN ... --page FILE` writes this page."""


def write_results_page(summary: RunSummary, file: str | Path) -> None:
    """Writes a page on the finished runs in Markdown, and their curves to `images/results/` beside it.

    Args:
        summary: Runs, one row for each recipe.
        file: The page.

    Raises:
        ValueError: No run is finished.
    """
    if not summary.rows:
        raise ValueError(f"Expected finished runs for {file}. Received: {len(summary.unfinished)} unfinished ones")
    file = Path(file)
    parts = [_HEAD, summary.table(), NOTE]
    taken: set[str] = set()
    for row in summary.rows:
        picture = _IMAGES / f"{_free(row.name, taken)}.png"
        histories = [run.history for run in row.runs]
        with files.new_file(file.parent / picture) as aside:
            draw_curves(histories, row.name, row.runs[0].validated_on).savefig(aside, dpi=_DPI)
        parts += [*_section(row), f"![Errors and losses of {row.name}]({picture.as_posix()})"]
    files.write_text(file, "\n\n".join(parts) + "\n")


def _section(row: Row) -> Iterator[str]:
    yield f"## {row.name}"
    commands = [f"    {run.command}" for run in row.runs if run.command]
    yield "\n".join(commands) or "Trained in Python, on images that the program brought."
    yield "\n".join([_errors(row), *_cut_short(row), *_machines(row)])


def _errors(row: Row) -> str:
    parts = []
    for name, title in MEASURES[row.kind].items():
        errors = {run.recipe.seed: run.measures[name] for run in row.runs}
        known = [f"{100 * error:.2f} % (seed {seed})" for seed, error in errors.items() if error is not None]
        parts += [f"{title} {', '.join(known)}"] if known else []
    return f"- {'Errors' if row.kind is Evaluation else 'Result'}: {'; '.join(parts)}."


def _cut_short(row: Row) -> Iterator[str]:
    """Yields lines on runs of fewer epochs than their recipe has."""
    first = row.runs[0]
    epochs = first.recipe.schedule.epochs
    if epochs < first.recipe_epochs:
        yield f"- Cut short: {epochs} of the recipe's {first.recipe_epochs} epochs."
    for run in row.runs:
        if 0 < len(run.history) < epochs:
            yield f"- Stopped by a callback after {len(run.history)} of {epochs} epochs: seed {run.recipe.seed}."


def _machines(row: Row) -> Iterator[str]:
    """Yields a line for each machine, with the seeds and times of its runs."""
    groups: dict[str, list[SavedRun]] = {}
    for run in row.runs:
        groups.setdefault(_machine(run.about), []).append(run)
    for machine, runs in groups.items():
        times = [
            f"{'unknown' if run.seconds is None else timedelta(seconds=round(run.seconds))} (seed {run.recipe.seed})"
            for run in runs
        ]
        yield f"- Time of all epochs: {', '.join(times)}, on {machine}."


def _machine(about: dict[str, Any]) -> str:
    """Returns hardware and versions in words, as far as `run.json` has them."""
    cores = about.get("cores")
    hardware = [
        ", ".join(about.get("gpus") or []),
        about.get("processor"),
        f"{cores} {'core' if cores == 1 else 'cores'}" if cores else None,
        about.get("machine", "an unknown machine"),
    ]
    versions = [f"{title} {about[key]}" for key, title in _PACKAGES.items() if key in about]
    return ", ".join(part for part in (*hardware, *versions) if part)


def _free(name: str, taken: set[str]) -> str:
    """Returns a file name for a recipe's name that is not taken yet."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    free = next(each for each in (plain, *(f"{plain}_{i}" for i in range(2, len(taken) + 3))) if each not in taken)
    taken.add(free)
    return free
