"""Which classes are taken for which: per-class accuracy and the confusion matrix, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from resnet_keras import files
from resnet_keras.evaluation.evaluator import SplitPredictions

_NAMED_CLASSES = 40


def confusion_matrix(answers: SplitPredictions) -> np.ndarray:
    """Returns how many images of each class (rows) were taken for each (columns): int64 (classes, classes)."""
    classes = len(answers.class_names)
    places = answers.labels.astype(np.int64) * classes + answers.predicted
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def class_table(answers: SplitPredictions) -> list[dict[str, Any]]:
    """Returns a row for each class: its images, the fractions right and in the top 5, and what it is taken for most."""
    matrix = confusion_matrix(answers)
    rows = []
    for index, name in enumerate(answers.class_names):
        own = answers.ranks[answers.labels == index]
        wrong = np.where(np.arange(len(matrix)) == index, 0, matrix[index])
        other = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "images": len(own),
                "top1_accuracy": float((own < 1).mean()) if len(own) else None,
                "top5_accuracy": float((own < 5).mean()) if len(own) else None,
                "mostly_taken_for": answers.class_names[other] if wrong[other] else None,
                "times": int(wrong[other]),
            }
        )
    return rows


def write_details(answers: SplitPredictions, folder: str | Path) -> None:
    """Writes `evaluation.json`, `classes.csv`, `confusion.csv` and `confusion.png` into `folder`."""
    folder = Path(folder)
    matrix = confusion_matrix(answers)
    table = class_table(answers)
    files.write_json(folder / "evaluation.json", asdict(answers.evaluation))
    _write_csv(folder / "classes.csv", list(table[0]), (row.values() for row in table))
    rows = ([name, *counts] for name, counts in zip(answers.class_names, matrix.tolist(), strict=True))
    _write_csv(folder / "confusion.csv", ["class", *answers.class_names], rows)
    with files.new_file(folder / "confusion.png") as aside:
        _draw(matrix, answers.class_names).savefig(aside, dpi=120)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def _draw(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Draws each row as parts of its class; of few classes with names and counts."""
    few = len(names) <= _NAMED_CLASSES
    side = max(4.0, 0.42 * len(names) + 1.5) if few else 9.0
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        parts = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        picture = axes.imshow(100 * parts, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        figure.colorbar(picture, ax=axes, label="per cent of the class", shrink=0.8)
        axes.set(xlabel="taken for", ylabel="class")
        if few:
            axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
            axes.set_yticks(range(len(names)), names, parse_math=False)
            for row, column in zip(*np.nonzero(matrix), strict=True):
                color = "white" if parts[row, column] > 0.5 else "black"
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color, fontsize=7)
    return figure
