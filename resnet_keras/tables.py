"""Tables in Markdown, aligned so that they read well in a terminal, too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]], text: Collection[object] = ()) -> str:
    """Returns a table in Markdown. Columns have one width each; a `|` in a cell is escaped.

    Args:
        head: Titles of the columns.
        rows: One cell for each column; a line break in a cell becomes a space.
        text: Titles of the columns that are aligned to the left, besides the first. All others hold numbers, and are
            aligned to the right.

    Raises:
        ValueError: A row has more or fewer cells than there are columns.
    """
    lines = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    for line in lines:
        if len(line) != len(head):
            raise ValueError(f"Expected a row of {len(head)} cells. Received: {line}")
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    left = [i == 0 or title in text for i, title in enumerate(head)]
    rule = ["-" * width if is_left else "-" * (width - 1) + ":" for width, is_left in zip(widths, left, strict=True)]
    padded = [
        [
            f"{cell:<{width}}" if is_left else f"{cell:>{width}}"
            for cell, width, is_left in zip(line, widths, left, strict=True)
        ]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
