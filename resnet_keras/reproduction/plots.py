"""Plots as in the paper: errors during training (Fig. 1, 4 and 6) and the responses of layers (Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_keras import files
from resnet_keras.reproduction.experiment import training_images
from resnet_keras.reproduction.outcomes import Outcome

_COLORS = ("tab:orange", "tab:blue", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")


def error_curves(outcomes: Sequence[Outcome]) -> Figure | None:
    """Draws training errors (dashed) and test errors (bold) over the steps, in the panels of the variants.

    Lines are means over seeds, shades standard deviations. The training error is the mean during the epoch, on
    augmented images. Returns `None` if no run is finished.
    """
    shown = [outcome for outcome in outcomes if outcome.runs]
    if not shown:
        return None
    panels = list(dict.fromkeys(outcome.variant.panel for outcome in shown))
    figure, all_axes = _figure(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        for color, outcome in zip(_cycle(), [each for each in shown if each.variant.panel == panel], strict=False):
            for column, style in (("accuracy", {"ls": "--", "lw": 1}), ("val_accuracy", {"lw": 2})):
                steps, errors = _errors(outcome, column)
                if len(steps):
                    label = outcome.variant.name if column == "val_accuracy" else None
                    axes.plot(steps, errors.mean(axis=0), color=color, label=label, **style)
                    if len(errors) > 1:
                        middle, spread = errors.mean(axis=0), errors.std(axis=0, ddof=1)
                        axes.fill_between(steps, middle - spread, middle + spread, color=color, alpha=0.15, lw=0)
        axes.set(title=panel, xlabel="steps", ylabel="error, % (dashed: training, bold: test)")
        axes.legend(frameon=False)
    return figure


def response_curves(measured: dict[str, Any]) -> Figure:
    """Draws the standard deviations of the layers' responses, in the order of the layers and by magnitude (Fig. 7).

    Args:
        measured: Measurements of the experiment "responses". Lines are means over seeds.
    """
    figure, (above, below) = _figure(2, rows=2)
    for color, network in zip(_cycle(), measured["networks"], strict=False):
        deviations = np.array([list(run.values()) for run in network["deviations"]])  # (seeds, layers)
        layers = np.arange(1, deviations.shape[1] + 1)
        style = "--" if network["name"].startswith("plain") else "-"
        for axes, values in ((above, deviations), (below, -np.sort(-deviations, axis=1))):
            axes.plot(layers, values.mean(axis=0), style, color=color, lw=1.3, label=network["name"])
    above.set(title="in the order of the layers", xlabel="layer")
    below.set(title="by magnitude", xlabel="layer, sorted")
    for axes in (above, below):
        axes.set(ylabel="standard deviation", ylim=(0, None))
    above.legend(frameon=False, ncols=2)
    return figure


def save_figure(figure: Figure, file: Path) -> None:
    """Writes a figure as PNG."""
    with files.new_file(file) as aside, matplotlib.rc_context({"font.size": 9}):
        figure.savefig(aside, dpi=120)


def _figure(panels: int, rows: int = 1) -> tuple[Figure, list[Axes]]:
    columns = -(-panels // rows)
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(max(4.6 * columns, 6.4), 3.6 * rows), layout="constrained")
        all_axes = list(figure.subplots(rows, columns, squeeze=False, sharey=rows == 1).flat)
    for axes in all_axes:
        axes.grid(alpha=0.3)
    return figure, all_axes


def _cycle() -> list[str]:
    return list(_COLORS) * 10


def _errors(outcome: Outcome, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps at which the histories have a column, and errors in percent: (N,), (seeds, N)."""
    recipe = outcome.variant.recipe
    runs = [each.run for each in outcome.runs.values()]
    columns = [{row["epoch"]: row[column] for row in run.history if column in row} for run in runs]
    epochs = sorted(set.intersection(*(set(each) for each in columns)))
    steps_per_epoch = training_images(recipe) // recipe.data.batch_size
    errors = np.array([[100 * (1 - each[epoch]) for epoch in epochs] for each in columns])
    return np.array(epochs) * steps_per_epoch, errors
