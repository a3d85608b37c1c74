"""Where an experiment's runs, measurements, plots and document lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.reproduction.experiment import Budget, run_name

GIVEN = "given"
"""In place of a budget, where networks are measured that the user has given."""


class ReproductionFolder:
    """A folder of experiments.

    `runs/BUDGET/RUN` (as `train` leaves them), `measured/WHAT/EXPERIMENT.json` (what is measured of several runs, or of
    networks that the user has given), `plots/` and `REPRODUCTION.md`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def document(self) -> Path:
        """All results, as Markdown."""
        return self.path / "REPRODUCTION.md"

    def run(self, budget: Budget, recipe: Recipe) -> Path:
        """The folder of a run, which experiments of one budget share."""
        return self.path / "runs" / budget / run_name(recipe)

    def plot(self, budget: str, name: str) -> Path:
        """The picture of an experiment."""
        return self.path / "plots" / f"{name}_{budget}.png"

    def write(self, budget: str, name: str, content: dict[str, Any]) -> None:
        """Keeps what was measured for an experiment, in place of what was measured before."""
        files.write_json(self._measured(budget, name), content)

    def read(self, budget: str, name: str) -> dict[str, Any] | None:
        """Returns what was measured for an experiment; `None` if nothing was."""
        file = self._measured(budget, name)
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def _measured(self, budget: str, name: str) -> Path:
        return self.path / "measured" / budget / f"{name}.json"
