"""Prints the results of runs, a line per recipe, e.g. `resnet runs runs`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

import resnet_keras
from resnet_keras import files
from resnet_keras.cli.program import run


def runs(
    sources: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs"),),
    *,
    csv: Path | None = None,
    page: Path | None = None,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Prints a Markdown table of runs: error over seeds, time, and speed of each recipe; then the unfinished runs.

    Args:
        sources: Run folders, or folders that contain some at any depth; the folder runs by default.
        csv: Write a line for each run to this file.
        page: Write this Markdown page, with commands, machines, and curves; pictures go to images/results beside it.
        json_output: Print JSON.
    """
    table = resnet_keras.runs.summarize_runs(sources)
    if csv is not None:
        files.write_text(csv, table.as_csv())
    if page is not None:
        resnet_keras.runs.write_results_page(table, page)
    print(json.dumps(table.as_dict(), indent=2) if json_output else table)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet runs`."""
    return run(runs, "resnet runs", argv)
