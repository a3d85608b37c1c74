"""Curves of runs: error and loss over the epochs, as in the paper's Fig. 6."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from resnet_keras.runs.checkpoints import History

LEAST_ERROR = 0.01
"""Errors below this many percent are drawn as zeros."""

_LEAST_LOSS = 1e-4
_TITLE_WIDTH = 95  # characters in a line, which is as wide as the figure
_STEPS = (1.0, 2.0, 5.0)
_MOST_TICKS = 16
_NARROW = 8  # ratio of the limits below which 1, 2, 5 would be too few ticks
_LINES = (("", "--", "tab:gray"), ("val_", "-", "tab:blue"))


def draw_curves(histories: Sequence[History], title: str, validated_on: str = "test") -> Figure:
    """Draws the errors and losses of one run, or of several seeds of a recipe, over the epochs.

    Both axes are logarithmic, so that an error of 8 % and one of 0.5 % can be read. The training error is the mean
    during the epoch, on augmented images. Zeros are drawn at the lower end of the axis, which is then labeled 0. Runs
    of segmentation have their mean IoU instead of the error, and those of detection AP50, on a linear axis.

    Args:
        histories: Rows by epoch of each run. Validation may be missing in some epochs, or in all.
        title: Title of the figure.
        validated_on: Images of validation, for the legend: "test" or "validation".
    """
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        figure.suptitle(textwrap.fill(title, _TITLE_WIDTH), parse_math=False)
        drawn: list[tuple[str, float | None, str]] = [
            ("accuracy", LEAST_ERROR, "error, %"),
            ("loss", _LEAST_LOSS, "loss, nats"),
        ]
        names = {name for history in histories for row in history for name in row}
        if "mean_iou" in names:
            drawn[0] = ("mean_iou", None, "mean IoU, %")
        elif "val_ap50" in names:
            drawn = [("ap50", None, "AP50, %"), ("loss", _LEAST_LOSS, "loss")]
        elif names and "accuracy" not in names:
            drawn = [("loss", _LEAST_LOSS, "loss")]  # of a detector without validation
        for axes, (quantity, least, label) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            _draw(axes, histories, quantity, least, ("training", validated_on))
            axes.set(xlabel="epoch", ylabel=label)
    return figure


def _draw(axes: Axes, histories: Sequence[History], quantity: str, least: float | None, names: tuple[str, str]) -> None:
    lines = []
    for (prefix, style, color), who in zip(_LINES, names, strict=True):
        name = prefix + quantity
        drawn = [[(row["epoch"], row[name]) for row in history if name in row] for history in histories]
        for points in filter(None, drawn):
            epochs, values = zip(*points, strict=True)
            if quantity != "loss":
                values = tuple(100 * (1 - value if quantity == "accuracy" else value) for value in values)
            lines.append((epochs, values, style, color, who))
    finite = [value for _, values, *_ in lines for value in values if math.isfinite(value)]
    low = 0.0 if least is None else log_scale(axes, finite, least)
    if least is None:
        axes.set(ylim=(0, 100))
    labels: set[str] = set()
    for epochs, values, style, color, who in lines:
        label = None if who in labels else who
        labels.add(who)
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, [max(v, low) for v in values], style, color=color, label=label, marker=marker, lw=1.2, ms=4)
    last = max((epochs[-1] for epochs, *_ in lines), default=1)
    axes.set(xlim=(0, last))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if labels:
        axes.legend(frameon=False)


def log_scale(axes: Axes, values: Sequence[float], least: float) -> float:
    """Gives a plot a logarithmic axis for positive values, with plain numbers as ticks; returns its lower end.

    Values below `least`, which cannot be shown, are for the caller to draw at the lower end; it is then labeled 0.
    """
    low, high = _limits(values, least)
    has_zeros = min(values, default=low) < low
    axes.set(yscale="log", ylim=(low, high))
    if high < _NARROW * low:
        axes.yaxis.set_major_locator(MaxNLocator(8))
    else:
        axes.set_yticks([low, *_ticks(low, high)[1:]])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if has_zeros and value == low else f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    return low


def _limits(values: Sequence[float], least: float) -> tuple[float, float]:
    """Returns the round numbers, 1, 2, 5, 10 ..., around positive values; with values below `least`, a step lower."""
    positive = [value for value in values if value >= least] or [1.0]
    low, high = _round(min(positive), down=True), _round(max(positive), down=False)
    if min(values, default=1.0) < least:
        low = _round(low / 2, down=True)
    return (low, high) if low < high else (low, 2 * low)


def _round(value: float, *, down: bool) -> float:
    """Returns the next of 1, 2, 5, 10 ... below or above a positive number, or the number itself."""
    power = 10.0 ** math.floor(math.log10(value))
    steps = [step * power for step in (*_STEPS, 10.0)]
    tolerance = 1e-9 * value
    if down:
        return max(step for step in steps if step <= value + tolerance)
    return min(step for step in steps if step >= value - tolerance)


def _ticks(low: float, high: float) -> list[float]:
    """Returns 1, 2, 5, 10 ... from `low` to `high`; powers of ten alone if those are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in (_STEPS, (1.0,)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if 0.999 * low <= tick <= 1.001 * high]
        if len(ticks) <= _MOST_TICKS:
            break
    return ticks
