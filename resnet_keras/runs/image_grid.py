"""Pictures of small images, enlarged to be seen."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

DPI = 120
"""Pixels per inch at which the pictures are saved."""

_TILE, _TITLE = 1.5, 0.3  # height of an image and of a title, in inches
_COLUMNS = 8
_LEAST_WIDTH = 4.5  # of a figure in inches, for a title of 65 characters
_TITLE_WIDTH, _TITLE_LINES = 24, 2  # characters and lines over an image


def image_grid(pixels: np.ndarray, titles: Sequence[str], title: str) -> Figure:
    """Draws images with a title each. Small ones are enlarged, so that their pixels can be told apart.

    Args:
        pixels: uint8 (N, H, W, 1 or 3).
        titles: Title of each image; what does not fit into two lines of its width is left out.
        title: Title of the figure.
    """
    columns = min(len(pixels), _COLUMNS)
    rows = math.ceil(len(pixels) / columns)
    is_small = max(pixels.shape[1:3]) <= _TILE * DPI
    with matplotlib.rc_context({"font.size": 7}):
        width, height = max(_TILE * columns, _LEAST_WIDTH), (_TILE + _TITLE) * rows + 2 * _TITLE
        figure = Figure(figsize=(width, height))
        figure.suptitle(title, fontsize=9, parse_math=False, y=1 - 0.2 * _TITLE / height)
        # A fixed layout: to compute one takes a second for 32 images.
        around = {"left": 0.01, "right": 0.99, "bottom": 0.1 / height, "top": 1 - 2 * _TITLE / height}
        grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={**around, "wspace": 0.06, "hspace": 0.25})
        for axes in grid.flat:
            axes.axis("off")
        for axes, image, text in zip(grid.flat, pixels, titles, strict=False):
            axes.imshow(
                image.squeeze(),
                cmap="gray" if image.shape[-1] == 1 else None,
                vmin=0,
                vmax=255,
                interpolation="nearest" if is_small else "antialiased",
            )
            shown = textwrap.wrap(text, _TITLE_WIDTH, max_lines=_TITLE_LINES, placeholder=" ...")
            axes.set_title("\n".join(shown), parse_math=False)
    return figure
