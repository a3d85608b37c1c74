"""Folder of all experiments: runs, measurements, plots and the document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.reproduction.experiment import Budget, run_name

GIVEN = "given"
"""Stands for the budget where the user gives the networks to measure."""


class ReproductionFolder:
    """A folder of experiments.

    It holds `runs/BUDGET/RUN` (folders of `train`), `measured/BUDGET/EXPERIMENT.json` (measurements of several runs, or
    of networks that the user gives), `plots/` and `REPRODUCTION.md`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def document(self) -> Path:
        """Path of the Markdown document with all results."""
        return self.path / "REPRODUCTION.md"

    def run(self, budget: Budget, recipe: Recipe) -> Path:
        """Returns the folder of a run; experiments of one budget share it."""
        return self.path / "runs" / budget / run_name(recipe)

    def plot(self, budget: str, name: str) -> Path:
        """Returns the path of an experiment's plot."""
        return self.path / "plots" / f"{name}_{budget}.png"

    def write(self, budget: str, name: str, content: dict[str, Any]) -> None:
        """Writes the measurements of an experiment; they replace earlier ones."""
        files.write_json(self._measured(budget, name), content)

    def read(self, budget: str, name: str) -> dict[str, Any] | None:
        """Returns the measurements of an experiment; `None` if there are none."""
        file = self._measured(budget, name)
        return files.read_json(file) if file.is_file() else None

    def _measured(self, budget: str, name: str) -> Path:
        return self.path / "measured" / budget / f"{name}.json"


def file_stamp(path: Path) -> list[Any]:
    """Returns the path, size, and time of a file, or of a run's network, which change when it is replaced."""
    file = path / "model.keras" if path.is_dir() else path
    state = file.stat()
    return [str(file), state.st_size, state.st_mtime_ns]
