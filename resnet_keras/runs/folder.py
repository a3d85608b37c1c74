"""The folder of a run: its recipe, checkpoints, history and result."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.applications.classifier import RUN_MODEL
from resnet_keras.recipes.recipe import PART_OF, Recipe, flatten
from resnet_keras.runs.checkpoints import History
from resnet_keras.runs.curves import draw_curves
from resnet_keras.runs.file_hashes import check_hashes, file_hashes, sha256_of
from resnet_keras.runs.lock import HOLDER_FILE, lock_run, open_folder
from resnet_keras.runs.machine import versions
from resnet_keras.runs.results import Result, read_result
from resnet_keras.weights.pretrained_files import list_pretrained, pretrained_facts
from resnet_keras.weights.sources import SUFFIXES

ARRAYS, BATCHES = "arrays", "tf.data"
"""Data sets of runs on the caller's own images, in memory or in batches: there is nothing to open again."""

RECORD = "data.json"
"""Fingerprint of the images of a run, by their parts."""

_RESULT = "evaluation.json"
_FINISHED = (RUN_MODEL, "history.csv")
_HASHES = "sha256"  # in run.json
_SUFFIXES = (*SUFFIXES, ".weights.h5")


class RunFolder:
    """The folder of one run.

    `recipe.json`, `run.json` (versions, machine), `data.json` (fingerprint of the images), `checkpoints/`,
    `history.csv`, `curves.png`, `tensorboard/`, and at its end `model.keras`, `evaluation.json`, `samples/` and
    `samples.png`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._check_place: Callable[[], None] | None = None

    @property
    def model(self) -> Path:
        """The final network, with its preprocessing and class names."""
        return self.path / RUN_MODEL

    @property
    def samples(self) -> Path:
        """Test images of some classes."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of a run that is not finished."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's logs."""
        return self.path / "tensorboard"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the folder open: inside the context, nothing is written if it has been moved or removed."""
        with open_folder(self.path) as self._check_place:
            try:
                yield
            finally:
                self._check_place = None

    def check_place(self) -> None:
        """Checks inside `held` that the folder is where it was.

        Raises:
            OSError: It was moved or removed; the message says where it is now, as far as the system tells that.
        """
        if self._check_place is not None:
            self._check_place()

    def check(self, recipe: Recipe | Any, own_data: dict[str, Any] | None = None) -> bool:
        """Returns whether the folder holds this run already.

        Args:
            recipe: Recipe of the run, or a program's own dataclass of settings.
            own_data: Identity of the caller's own images, if the run has them.

        Raises:
            ValueError: It holds a run of another recipe, or on other images, that has a checkpoint or a result.
        """
        file = self.path / "recipe.json"
        if not file.is_file():
            return False
        wanted = _flat(recipe) | (own_data or {})
        # Fields that are younger than the run had their defaults.
        content = self._read("recipe.json")
        saved = flatten(content) if isinstance(recipe, Recipe) else content
        there = _defaults(recipe) | saved | self._own_data()
        differing = [key for key in wanted | there if wanted.get(key) != there.get(key)]
        if differing and (self.model.is_file() or any(self.checkpoints.glob("*"))):
            changes = ", ".join(f"{key}={wanted.get(key)} (begun with {there.get(key)})" for key in differing)
            finished = self.model.is_file() and (self.path / "evaluation.json").is_file()
            longer = finished and all(PART_OF.get(key) == "schedule" for key in differing)
            advice = f". To train it on, set `continue_from` to {self.path} and name another `workdir`."
            raise ValueError(
                f"Expected the recipe that {self.path} was begun with, or another folder. Received: {changes}"
                f"{advice if longer else ''}"
            )
        return not differing

    def begin(self, recipe: Recipe | Any, data: dict[str, Any]) -> None:
        """Writes the recipe and `data`, further facts of the run; or checks that the folder holds the same run.

        Raises:
            ValueError: See `check`.
            NotADirectoryError: A file has the name of one of its folders.
        """
        for folder in (self.tensorboard, self.checkpoints):
            if folder.exists() and not folder.is_dir():
                raise NotADirectoryError(f"Expected a folder, or nothing yet. Received: {folder}, a file")
        self._sweep()
        if self.check(recipe, data.get("own_data")):
            return
        files.write_json(self.path / "run.json", {**versions(), **data})
        files.write_json(self.path / "recipe.json", asdict(recipe))

    def recipe(self) -> Recipe:
        """Returns the recipe of the run.

        Raises:
            FileNotFoundError: The folder holds no run.
            ValueError: `recipe.json` is not a recipe.
        """
        with files.as_written(self.path / "recipe.json"):
            return Recipe.from_flat(**flatten(self._read("recipe.json")))

    def data(self) -> dict[str, Any]:
        """Returns versions, machine and source of the data, as they were when the run began."""
        return self._read("run.json")

    def note(self, **facts: Any) -> None:
        """Adds facts to `run.json`, or replaces those of the same names."""
        self.check_place()
        files.write_json(self.path / "run.json", {**self.data(), **facts})

    def _own_data(self) -> dict[str, Any]:
        return (self.data().get("own_data") or {}) if (self.path / "run.json").is_file() else {}

    def evaluation(self) -> Result | None:
        """Returns the result of a finished run; `None` before that."""
        file = self.path / "evaluation.json"
        if not (file.is_file() and self.model.is_file()):
            return None
        with files.as_written(file):
            return read_result(self._read(file.name))

    def check_finished(self) -> None:
        """Checks the files of a finished run against the hashes that it wrote at its end; earlier runs have none.

        Raises:
            ValueError: One has changed since; the message names it.
        """
        if (self.path / "run.json").is_file():
            check_hashes(self.path, (*_FINISHED, _RESULT), self.data().get(_HASHES))

    def tidy(self) -> None:
        """Removes what a finished run does not need, which a process left that was killed at its end.

        A folder in which another process works, or that is not writable, stays as it is.
        """
        if not (self.checkpoints.exists() or (self.path / HOLDER_FILE).exists() or any(self._asides())):
            return
        with contextlib.suppress(OSError), lock_run(self.path):
            self._sweep()
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _asides(self) -> Iterator[Path]:
        """Yields files and folders that a process was writing when it was killed."""
        for folder in (self.path, self.samples):
            yield from folder.glob(f"{files.ASIDE}*")

    def _sweep(self) -> None:
        for folder in (self.path, self.samples):
            files.sweep(folder)

    def finish(self, evaluation: Result, seconds: float | None = None) -> None:
        """Writes the result, with the hashes of the files that it belongs to, and deletes the checkpoints.

        Args:
            evaluation: Errors on the test images.
            seconds: Time of all epochs with their validation, in all processes that continued the run; `run.json` has
                it as `training_seconds`.
        """
        facts: dict[str, Any] = {} if seconds is None else {"training_seconds": round(seconds, 2)}
        result = json.dumps(asdict(evaluation), indent=2) + "\n"
        hashes = {**file_hashes(self.path, _FINISHED), _RESULT: sha256_of(result.encode())}
        self.note(**facts, **{_HASHES: hashes})
        files.write_text(self.path / _RESULT, result)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    @property
    def validated_on(self) -> str:
        """Images that epochs are validated on, "validation" or "test": those of the test where there are no others."""
        try:
            return "validation" if "validation" in files.read_json(self.path / RECORD) else "test"
        except (OSError, ValueError, TypeError):
            return "test"  # of the caller's own images, which have no others, there is no record

    def write_history(self, history: History) -> None:
        """Writes `history.csv`, a line per epoch."""
        self.check_place()
        columns = list(dict.fromkeys(key for row in history for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        files.write_text(self.path / "history.csv", text.getvalue())

    def write_curves(self, history: History) -> None:
        """Draws `curves.png`: error and loss over the epochs."""
        self.check_place()
        figure = draw_curves([history], self._title(history), self.validated_on)
        with files.new_file(self.path / "curves.png") as aside:
            figure.savefig(aside, dpi=120)

    def _title(self, history: History) -> str:
        """Returns the name of the run, its network, and the error, mean IoU, or AP50 of the last validation."""
        file = self.path / "recipe.json"
        recipe = self._read(file.name) if file.is_file() else {}
        network = recipe.get("network")
        parts = [self.path.resolve().name, network.get("model") if isinstance(network, dict) else None]
        images = self.validated_on
        tested = next((row for row in reversed(history) if "val_accuracy" in row), None)
        if tested:
            parts.append(f"{images} error {1 - tested['val_accuracy']:.2%} after epoch {tested['epoch']:.0f}")
        if overlap := next((row for row in reversed(history) if "val_mean_iou" in row), None):
            parts.append(f"{images} mean IoU {overlap['val_mean_iou']:.2%} after epoch {overlap['epoch']:.0f}")
        if found := next((row for row in reversed(history) if "val_ap50" in row), None):
            parts.append(f"{images} AP50 {found['val_ap50']:.2%} after epoch {found['epoch']:.0f}")
        return ", ".join(part for part in parts if part)

    def _read(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.is_file():
            raise FileNotFoundError(f"Expected the folder of a run. Received: {self.path}, without {name}")
        return files.read_json(file)


def name_of_source(source: str | Path) -> str:
    """Returns the name of a source of weights, for what is made of it.

    It is the name of a folder; of a file in a folder of a run or of a hub, that of the folder; of another file, its own
    without what files of weights end in; and of a name or an address of published weights, its last part.

    Example:
        >>> name_of_source("runs/cifar10_lr0.1")
        'cifar10_lr0.1'
        >>> name_of_source("hf://timm/resnet50.a1_in1k")
        'resnet50.a1_in1k'
    """
    path = Path(source)
    if path.is_dir():
        return path.resolve().name
    if not path.is_file():
        return path.name
    # Not the resolved file: a hub's cache has links to files that are called by their hashes.
    folder = path.parent.resolve()
    is_hub = (folder / "config.json").is_file() and path.name.startswith(("model.", "pytorch_model."))
    if (folder / "recipe.json").is_file() or is_hub:
        return folder.name
    suffix = max((each for each in _SUFFIXES if path.name.endswith(each)), key=len, default="")
    return path.name.removesuffix(suffix) or path.name


def knows_dataset(source: str | Path) -> bool:
    """Returns whether a source of weights says which data set it was trained on, one that can be opened again."""
    if str(source) in list_pretrained():
        return True
    is_run = (Path(source) / "recipe.json").is_file()
    return is_run and RunFolder(source).recipe().data.dataset not in (ARRAYS, BATCHES)


def dataset_of(source: str | Path, dataset: str | None, data_dir: str | Path | None) -> tuple[str, str | Path | None]:
    """Returns the data set to use with a source of weights, and its folder: those named, or those of the training.

    Raises:
        ValueError: No data set is named, and `source` is a file, or a run on images that its caller brought.
    """
    if dataset is not None:
        return dataset, data_dir
    if str(source) in list_pretrained():
        return pretrained_facts(str(source)).dataset, data_dir
    if not Path(source).is_dir():
        raise ValueError(f"Expected a data set to use with a file, which does not name its own. Received: {source}")
    folder = RunFolder(source)
    if folder.recipe().data.dataset in (ARRAYS, BATCHES):
        raise ValueError(f"Expected a data set to use with a run on its caller's own images. Received: {source}")
    return folder.recipe().data.dataset, data_dir or folder.data().get("data_dir")


def _flat(settings: Any) -> dict[str, Any]:
    """Returns the fields of a recipe, or of a program's own dataclass, by their names."""
    return settings.flat() if isinstance(settings, Recipe) else asdict(settings)


def _defaults(settings: Any) -> dict[str, Any]:
    if isinstance(settings, Recipe):
        return Recipe.defaults()
    return {field.name: field.default for field in fields(settings) if field.default is not MISSING}
