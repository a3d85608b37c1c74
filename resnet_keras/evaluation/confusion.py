"""Per-class accuracy and the confusion matrix, as CSV and PNG files."""

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
from resnet_keras.evaluation.predictions import SplitPredictions

_NAMED_CLASSES = 40


def confusion_matrix(predictions: SplitPredictions) -> np.ndarray:
    """Returns the number of images by true class (rows) and predicted class (columns): int64 (classes, classes)."""
    classes = len(predictions.class_names)
    cells = predictions.labels.astype(np.int64) * classes + predictions.predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def class_table(predictions: SplitPredictions) -> list[dict[str, Any]]:
    """Returns a row for each class: images, accuracy, precision, recall, F1, and the class it is mostly taken for.

    Recall is the top-1 accuracy. Values that have no meaning are `None`: of a class without images; precision, of a
    class that is never predicted; top-5 accuracy, of five classes or fewer. F1 is 0 where precision has no meaning.

    Of a network for several labels per image, a row has the number of images and the average precision.
    """
    if predictions.scores is not None:
        precisions = predictions.average_precisions
        counts = predictions.labels.sum(axis=0).astype(int).tolist()
        names = predictions.class_names
        return [
            {"class": name, "images": count, "average_precision": precision}
            for name, count, precision in zip(names, counts, precisions, strict=True)
        ]
    matrix = confusion_matrix(predictions)
    predicted = matrix.sum(axis=0)
    rows = []
    for index, name in enumerate(predictions.class_names):
        own = predictions.ranks[predictions.labels == index]
        wrong = np.where(np.arange(len(matrix)) == index, 0, matrix[index])
        other = int(wrong.argmax())
        right = int(matrix[index, index])
        recall = right / len(own) if len(own) else None
        rows.append(
            {
                "class": name,
                "images": len(own),
                "top1_accuracy": recall,
                "top5_accuracy": float((own < 5).mean()) if len(own) and len(matrix) > 5 else None,
                "precision": right / int(predicted[index]) if predicted[index] else None,
                "recall": recall,
                "f1": 2 * right / (len(own) + int(predicted[index])) if len(own) else None,
                "mostly_taken_for": predictions.class_names[other] if wrong[other] else None,
                "times": int(wrong[other]),
            }
        )
    return rows


def write_details(predictions: SplitPredictions, folder: str | Path) -> None:
    """Writes `evaluation.json`, `classes.csv`, `confusion.csv` and `confusion.png` into `folder`.

    Of a network for several labels per image, the first two.
    """
    folder = Path(folder)
    table = class_table(predictions)
    files.write_json(folder / "evaluation.json", asdict(predictions.evaluation))
    _write_csv(folder / "classes.csv", list(table[0]), (row.values() for row in table))
    if predictions.scores is not None:
        return
    matrix = confusion_matrix(predictions)
    rows = ([name, *counts] for name, counts in zip(predictions.class_names, matrix.tolist(), strict=True))
    _write_csv(folder / "confusion.csv", ["class", *predictions.class_names], rows)
    with files.new_file(folder / "confusion.png") as aside:
        draw_confusion(predictions).savefig(aside, dpi=120)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def draw_confusion(predictions: SplitPredictions) -> Figure:
    """Draws the confusion matrix with rows in percent of their class; with few classes, names and counts are shown."""
    matrix, names, result = confusion_matrix(predictions), predictions.class_names, predictions.evaluation
    few = len(names) <= _NAMED_CLASSES
    side = max(4.0, 0.42 * len(names) + 1.5) if few else 9.0
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        parts = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        picture = axes.imshow(100 * parts, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        figure.colorbar(picture, ax=axes, label="images of the true class, %", shrink=0.8)
        axes.set(
            xlabel="predicted class",
            ylabel="true class",
            title=f"accuracy {1 - result.top1_error:.2%} on {result.images:,} images",
        )
        if few:
            axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
            axes.set_yticks(range(len(names)), names, parse_math=False)
            for row, column in zip(*np.nonzero(matrix), strict=True):
                color = "white" if parts[row, column] > 0.5 else "black"
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color, fontsize=7)
    return figure
