"""Anchors: the boxes at every place of feature maps that a region proposal network scores and moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Returns the anchors of one place, around 0: float32 (len(ratios) * len(sizes), 4), sizes varying fastest.

    An anchor of size s and ratio r has the area s² and r times its width as height. Edges are rounded to whole pixels,
    halves to even ones, as in torchvision's `AnchorGenerator` (arXiv:1506.01497, section 3.1.1).

    Args:
        sizes: Square roots of the areas, in pixels.
        ratios: Heights per width.
    """
    heights = np.sqrt(np.asarray(ratios, np.float32))
    widths = np.float32(1) / heights
    width, height = (np.outer(side, np.asarray(sizes, np.float32)).ravel() for side in (widths, heights))
    return np.round(np.stack([-width, -height, width, height], axis=1) / 2).astype(np.float32)


def grid_anchors(image_size: tuple[Any, Any], map_size: tuple[Any, Any], cell: np.ndarray) -> Any:
    """Returns the anchors of a feature map, row by row, all of a place together: float32 (h * w * len(cell), 4).

    The first place is the image's upper left corner, not the middle of a cell; a step is the image's size divided by
    the map's, rounded down.

    Args:
        image_size: Height and width of the image in pixels, padding included; numbers, or scalar tensors.
        map_size: Height and width of the feature map, likewise.
        cell: Anchors of one place, from `cell_anchors`.

    Returns:
        A NumPy array if all sizes are numbers, else a tensor.
    """
    if all(isinstance(side, int) for side in (*image_size, *map_size)):
        arange, stack, grid = np.arange, np.stack, np.meshgrid
    else:
        arange, stack, grid = ops.arange, ops.stack, ops.meshgrid
    rows, columns = (arange(count) * (side // count) for side, count in zip(image_size, map_size, strict=True))
    y, x = grid(rows, columns, indexing="ij")
    places = stack([x, y, x, y], axis=-1)
    if isinstance(places, np.ndarray):
        return (places.reshape(-1, 1, 4).astype(np.float32) + cell).reshape(-1, 4)
    return ops.reshape(ops.cast(ops.reshape(places, (-1, 1, 4)), "float32") + cell, (-1, 4))


def anchors_at(index: Any, image_size: tuple[Any, Any], map_size: tuple[Any, Any], cell: np.ndarray) -> Any:
    """Returns the anchors at places of the list that `grid_anchors` returns, computed alone: (...) -> (..., 4).

    LiteRT's quantization of weights would round a table of all anchors that is read by index.

    Args:
        index: Places in the list, int32.
        image_size: See `grid_anchors`.
        map_size: See `grid_anchors`.
        cell: See `grid_anchors`.
    """
    place, kind = ops.floor_divide(index, len(cell)), ops.mod(index, len(cell))
    row, column = ops.floor_divide(place, map_size[1]), ops.mod(place, map_size[1])
    y, x = (
        ops.cast(each * (side // count), "float32")
        for each, side, count in zip((row, column), image_size, map_size, strict=True)
    )
    return ops.stack([x, y, x, y], axis=-1) + ops.take(ops.convert_to_tensor(cell), kind, axis=0)


def level_anchors(
    image_size: tuple[Any, Any],
    map_sizes: Sequence[tuple[Any, Any]],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
) -> list[Any]:
    """Returns the anchors of each of several feature maps, the finest first; see `grid_anchors`.

    Args:
        image_size: Height and width of the image in pixels, padding included.
        map_sizes: Height and width of each map.
        sizes: Sizes of the anchors of each map.
        ratios: Heights per width, of all maps.
    """
    return [
        grid_anchors(image_size, map_size, cell_anchors(own, ratios))
        for map_size, own in zip(map_sizes, sizes, strict=True)
    ]


def spatial_size(tensor: Any) -> tuple[Any, Any]:
    """Returns height and width of images or maps (N, h, w, C): numbers if they are known, else scalar tensors."""
    height, width = keras.ops.shape(tensor)[1:3]
    return height, width
