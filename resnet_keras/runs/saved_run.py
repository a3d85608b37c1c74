"""Reading runs from their folders: recipe, epochs, result; also those of other versions of the package."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import PART_OF, Recipe, flatten
from resnet_keras.runs.folder import ARRAYS, BATCHES, RunFolder
from resnet_keras.runs.results import MEASURES, Result
from resnet_keras.segmentation.measures import SegmentationResult


@dataclass(frozen=True)
class SavedRun:
    """A run, read from its folder.

    Attributes:
        path: The folder.
        recipe: Of the run; a field that is younger than the run has its default.
        unknown: Fields of `recipe.json` that `Recipe` has not.
        about: Versions, machine and data, as in `run.json`; empty without it.
        history: A row per epoch, as in `history.csv`.
        evaluation: The result; `None` of an unfinished run.
        validated_on: Images that epochs were validated on, "test" or "validation".
    """

    path: Path
    recipe: Recipe
    unknown: dict[str, Any]
    about: dict[str, Any]
    history: list[dict[str, float]]
    evaluation: Result | None
    validated_on: str = "test"

    @property
    def name(self) -> str:
        """The nearest of `RECIPES`, the network, and the fields that differ, except the seed."""
        name, differing = nearest(self.recipe)
        return ", ".join(
            [
                f"{name} {self.recipe.network.model}",
                *(f"{key}={_shown(value)}" for key, value in (differing | self._apart).items()),
            ]
        )

    @property
    def seconds(self) -> float | None:
        """Time of all epochs with their validation, in all processes of the run; `None` if some are missing."""
        if self.evaluation and "training_seconds" in self.about:
            return float(self.about["training_seconds"])
        column = self.column("seconds")
        return sum(column) if len(column) == self.recipe.schedule.epochs else None

    @property
    def command(self) -> str | None:
        """Command that trains it again, with its flags; `None` if its caller brought the images."""
        name, differing = nearest(self.recipe)
        if self.recipe.data.dataset in (ARRAYS, BATCHES):
            return None
        changes = {"model": self.recipe.network.model, **differing, "seed": self.recipe.seed}
        default = RECIPES[name].flat()
        flags = [_flag(key, _shown(value)) for key, value in changes.items() if value != default[key]]
        source = ["--data-dir DIR"] if self.about.get("data_dir") else []
        return " ".join(["resnet train", name, *flags, *source, f"--workdir runs/{self.path.resolve().name}"])

    @property
    def recipe_epochs(self) -> int:
        """Epochs of the nearest of `RECIPES`."""
        return RECIPES[nearest(self.recipe)[0]].schedule.epochs

    @property
    def top1_error(self) -> float | None:
        """Error of a classifier on the test images alone after the last epoch; `None` if it was not measured."""
        if not isinstance(self.evaluation, Evaluation):
            return None
        if not self.recipe.evaluation.test_flip:
            return self.evaluation.top1_error
        is_known = self.history and self.validated_on == "test"
        accuracy = self.history[-1].get("val_accuracy") if is_known else None
        return None if accuracy is None else 1 - accuracy

    @property
    def mirrored_top1_error(self) -> float | None:
        """Error of the mean over each test image and its mirror image; `None` if it was not measured."""
        if not isinstance(self.evaluation, Evaluation) or not self.recipe.evaluation.test_flip:
            return None
        return self.evaluation.top1_error

    @property
    def measures(self) -> dict[str, float | None]:
        """The measures of the result by the names in `MEASURES`; `None` for one that was not taken."""
        if self.evaluation is None:
            return {}
        if isinstance(self.evaluation, Evaluation):
            return {"top1_error": self.top1_error, "mirrored_top1_error": self.mirrored_top1_error}
        return {name: getattr(self.evaluation, name) for name in MEASURES[type(self.evaluation)]}

    @property
    def progress(self) -> str:
        """Progress of an unfinished run, in words."""
        folder = RunFolder(self.path)
        lost = (self.path / "evaluation.json").is_file() and not folder.model.is_file()
        missing = f", {folder.model.name} is lost" if lost else ""
        return f"epoch {len(self.history)} of {self.recipe.schedule.epochs}{missing}"

    def column(self, name: str) -> list[float]:
        """Returns a column of the history, for the epochs that have it."""
        return [row[name] for row in self.history if name in row]

    def repeats(self, other: SavedRun) -> bool:
        """Returns whether both are runs of one recipe, whatever their seeds."""
        return self.recipe.replace(seed=other.recipe.seed) == other.recipe and self._apart == other._apart

    @property
    def _apart(self) -> dict[str, Any]:
        # A set of TFDS is the same in any folder; the images of "folder" are known by their folder alone.
        place = {"data_dir": self.about.get("data_dir")} if self.recipe.data.dataset == "folder" else {}
        # The caller's own arrays are known by their checksum.
        own = {"train_data": str(self.about["own_data"].get("train_data"))[:8]} if "own_data" in self.about else {}
        # Batch normalization and the speed depend on how many devices share a batch.
        count = self.about.get("replicas")
        shared = {"replicas": count} if isinstance(count, int) and count > 1 else {}
        return place | own | shared | {f"{key} (unknown)": value for key, value in self.unknown.items()}


def nearest(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """Returns the name in `RECIPES` with the fewest other values, and the fields that differ, except network and seed.

    Among equals, one of the same data set comes first, then one whose default network it is.
    """
    own = recipe.flat()

    def differing(other: Recipe) -> dict[str, Any]:
        others = other.flat()
        return {name: value for name, value in own.items() if name not in ("model", "seed") and value != others[name]}

    found = {name: differing(other) for name, other in RECIPES.items()}
    return min(
        found.items(),
        key=lambda item: (len(item[1]), "dataset" in item[1], RECIPES[item[0]].network.model != own["model"]),
    )


def find_runs(sources: Iterable[str | Path]) -> list[Path]:
    """Returns the folders of runs among `sources` and in them, at any depth, each once.

    Files are ignored, so that `runs/*` may include some, and so are hidden folders, which hold unfinished files.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: There is no run.
    """
    roots = [Path(source) for source in sources]
    for root in roots:
        if not root.exists():
            raise FileNotFoundError(f"Expected folders of runs. Received: {root}, which does not exist")
    seen: set[Path] = set()
    found = [path for root in roots for path in _search(root, seen)]
    if not found:
        raise ValueError(
            f"Expected folders of runs, each with its recipe.json. Received: {', '.join(map(str, roots)) or 'none'}"
        )
    return found


def read_run(path: str | Path) -> SavedRun:
    """Reads the folder of a run.

    Raises:
        ValueError: A file of it cannot be read, or is not as a run writes it.
    """
    folder = RunFolder(path)
    with _reading("recipe.json"):
        content = flatten(files.parse_json((folder.path / "recipe.json").read_text(encoding="utf-8")))
        unknown = {key: value for key, value in sorted(content.items()) if key not in PART_OF}
        recipe = Recipe.from_flat(**{key: value for key, value in content.items() if key in PART_OF})
    with _reading("run.json"):
        about = dict(folder.data()) if (folder.path / "run.json").is_file() else {}
    with _reading("history.csv"):
        history = _history(folder.path / "history.csv")
    with _reading("evaluation.json"):
        evaluation = folder.evaluation()
        if isinstance(evaluation, Evaluation) and not 0 <= evaluation.top1_error <= 1:
            raise ValueError(f"a top-1 error of {evaluation.top1_error}")
        if isinstance(evaluation, SegmentationResult) and not 0 <= evaluation.mean_iou <= 1:
            raise ValueError(f"a mean IoU of {evaluation.mean_iou}")
    if evaluation:
        folder.check_finished()
    return SavedRun(folder.path, recipe, unknown, about, history, evaluation, folder.validated_on)


@contextmanager
def _reading(file: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"Expected {file} as a run writes it. Received: {error}") from error


def _search(folder: Path, seen: set[Path]) -> Iterator[Path]:
    if not folder.is_dir() or folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    if (folder / "recipe.json").is_file():
        yield folder
    for child in sorted(folder.iterdir()):
        if not child.name.startswith("."):
            yield from _search(child, seen)


def _history(file: Path) -> list[dict[str, float]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [{key: _number(value) for key, value in row.items() if value != ""} for row in csv.DictReader(lines)]


def _number(text: str) -> float:
    # A run that continues another writes its rows again: an epoch stays a whole number.
    return int(text) if text.isascii() and text.isdecimal() else float(text)


def _flag(name: str, value: Any) -> str:
    """Returns a field of a recipe as a flag of the program."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([f"--{flag}", *map(str, values)])


def _shown(value: Any) -> Any:
    """Returns a value for a table: of an absolute path, its name."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
