"""Plots as in the paper: errors during training (Fig. 1, 4 and 6) and the responses of layers (Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from resnet_keras import files
from resnet_keras.reproduction.experiment import training_images
from resnet_keras.reproduction.outcomes import Outcome
from resnet_keras.runs.curves import LEAST_ERROR, log_scale

_STYLES = tuple(
    zip(
        ("tab:orange", "tab:blue", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink"),
        "os^Dv<>",
        strict=True,
    )
)
"""Color and marker of each network of a panel."""

_MARKERS = 12
"""Markers and error bars on a line, at most about this many."""


def error_curves(outcomes: Sequence[Outcome]) -> Figure | None:
    """Draws test errors (above) and training errors (below) over the steps, in the panels of the variants.

    Lines are means over seeds, bars standard deviations (n - 1), moved sideways so that they do not cover each other.
    Axes are logarithmic, and the same in all panels. The training error is the mean during the epoch, on augmented
    images. Returns `None` if no run is finished.
    """
    shown = [outcome for outcome in outcomes if outcome.runs]
    if not shown:
        return None
    panels = list(dict.fromkeys(outcome.variant.panel for outcome in shown))
    figure, grid = _figure(2, len(panels))
    for row, column, quantity in zip(grid, ("val_accuracy", "accuracy"), ("test", "training"), strict=True):
        for axes, panel in zip(row, panels, strict=True):
            own = [outcome for outcome in shown if outcome.variant.panel == panel]
            for i, outcome in enumerate(own):
                _draw_errors(axes, outcome, column, i, len(own))
            axes.set(title=panel, xlabel="step", ylabel=f"{quantity} error, %", xlim=(0, None))
            axes.legend(frameon=False)
    errors = [error for axes in grid.flat for line in axes.lines for error in line.get_ydata()]
    for axes in grid.flat:
        low = log_scale(axes, errors, LEAST_ERROR)
        for line in axes.lines:
            line.set_ydata(np.maximum(line.get_ydata(), low))
    return figure


def response_curves(measured: dict[str, Any]) -> Figure:
    """Draws the standard deviations of the layers' responses, in the order of the layers and by magnitude (Fig. 7).

    Plain and residual networks have panels with axes of their own, which are logarithmic: beside a plain network, whose
    first layers respond strongly, the lines of residual networks would be one.

    Args:
        measured: Measurements of the experiment "responses". Lines are means over seeds.
    """
    panels = list(dict.fromkeys(network["panel"] for network in measured["networks"]))
    figure, grid = _figure(2, len(panels))
    for column, panel in zip(grid.T, panels, strict=True):
        own = [network for network in measured["networks"] if network["panel"] == panel]
        for i, network in enumerate(own):
            deviations = np.array([list(run.values()) for run in network["deviations"]])  # (seeds, layers)
            layers = np.arange(1, deviations.shape[1] + 1)
            for axes, values in zip(column, (deviations, -np.sort(-deviations, axis=1)), strict=True):
                axes.plot(layers, values.mean(axis=0), label=network["name"], **_style(i, len(layers)))
        for axes, order, label in zip(
            column, ("in the order of the layers", "by magnitude"), ("layer", "rank of the layer"), strict=True
        ):
            axes.set(title=f"{panel}, {order}", xlabel=label, ylabel="standard deviation of the response", yscale="log")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(8))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.legend(frameon=False)
    return figure


def save_figure(figure: Figure, file: Path) -> None:
    """Writes a figure as PNG."""
    with files.new_file(file) as aside, matplotlib.rc_context({"font.size": 9}):
        figure.savefig(aside, dpi=120)


def _figure(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Returns a figure and its axes (rows, columns)."""
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(max(4.6 * columns, 6.4), 3.6 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    return figure, grid


def _style(index: int, points: int) -> dict[str, Any]:
    """Returns how the line of a network of a panel is drawn."""
    color, marker = _STYLES[index % len(_STYLES)]
    return {"color": color, "marker": marker, "ms": 4, "lw": 1.3, "markevery": -(-points // _MARKERS)}


def _draw_errors(axes: Axes, outcome: Outcome, column: str, index: int, count: int) -> None:
    """Draws mean and standard deviation of the errors of one of a panel's networks."""
    steps, errors = _errors(outcome, column)
    if not len(steps):
        return
    style, middle = _style(index, len(steps)), errors.mean(axis=0)
    axes.plot(steps, middle, label=outcome.variant.name, **style)
    if len(errors) > 1:
        every = style["markevery"]
        distance = steps[min(every, len(steps)) - 1] / 4
        places = steps + (index - (count - 1) / 2) * distance / count
        bars = {"fmt": "none", "ecolor": style["color"], "elinewidth": 1, "capsize": 2, "errorevery": every}
        axes.errorbar(places, middle, errors.std(axis=0, ddof=1), **bars)


def _errors(outcome: Outcome, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps at which the histories have a column, and errors in percent: (N,), (seeds, N)."""
    recipe = outcome.variant.recipe
    runs = [each.run for each in outcome.runs.values()]
    columns = [{row["epoch"]: row[column] for row in run.history if column in row} for run in runs]
    epochs = sorted(set.intersection(*(set(each) for each in columns)))
    steps_per_epoch = training_images(recipe) // recipe.data.batch_size
    errors = np.array([[100 * (1 - each[epoch]) for epoch in epochs] for each in columns])
    return np.array(epochs) * steps_per_epoch, errors
