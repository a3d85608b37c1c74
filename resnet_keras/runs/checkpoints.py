"""Checkpoints of a run: everything that it needs to resume as if it had never stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load, save

from resnet_keras import files

_log = logging.getLogger(__name__)

History = list[dict[str, float]]
Copies = Callable[[keras.Variable], Sequence]
"""Returns the copies of a variable, one for each replica of this process."""

_KEPT = 2


@dataclass
class Progress:
    """The position of a run.

    Attributes:
        step: Steps of the run that are done.
        history: A row for each epoch that has ended, with its validation.
        seconds: Time spent on the steps of an epoch that has not ended.
        logs: Loss and metrics of an epoch whose steps are done and whose validation is not; empty otherwise.
        epoch_steps: Steps in an epoch; `None` in checkpoints of earlier versions.
    """

    step: int = 0
    history: History = field(default_factory=list)
    seconds: float = 0.0
    logs: dict[str, float] = field(default_factory=dict)
    epoch_steps: int | None = None


def training_variables(model: keras.Model, others: Iterable[keras.Variable] = ()) -> dict[str, keras.Variable]:
    """Returns every variable that later training depends on, by a name that is the same in another process.

    These are the weights, the states of random layers, the variables of the optimizer (momenta, steps, the loss scale)
    and `others`. For the metrics of the current epoch see `metric_variables`.
    """
    named = {"model": model.variables, "optimizer": model.optimizer.variables, "others": list(others)}
    return {
        f"{group}/{i}/{variable.name}": variable
        for group, variables in named.items()
        for i, variable in enumerate(variables)
    }


def metric_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the variables that accumulate the loss and the metrics of the current epoch."""
    return {f"metrics/{i}": variable for i, variable in enumerate(model.metrics_variables)}


class Checkpoints:
    """The last two checkpoints of a run. A checkpoint is complete or does not exist.

    Args:
        path: Folder of the checkpoints.
        copies: Returns the copies of a variable, which replicas may change independently.
        origin: The settings and images of the run, as JSON has them, which each checkpoint contains. Those of other
            settings are refused; names that one of them lacks do not count.
        changeable: Names in `origin` that may differ.
        check_place: Called before something is written; see `RunFolder.check_place`.
    """

    def __init__(
        self,
        path: Path,
        copies: Copies,
        origin: Mapping[str, Any] | None = None,
        changeable: Sequence[str] = (),
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self.copies = path, copies
        self.origin: dict[str, Any] = json.loads(json.dumps(dict(origin or {})))
        self.changeable, self.check_place = tuple(changeable), check_place

    def save(self, progress: Progress, variables: dict[str, keras.Variable]) -> None:
        """Writes a checkpoint, and deletes older ones when it is complete.

        Raises:
            OSError: It cannot be written; earlier checkpoints are unchanged.
            FloatingPointError: A variable is not finite, so training could not resume from it.
        """
        self.check_place()
        tensors = {
            f"{name}#{i}": keras.ops.convert_to_numpy(copy)
            for name, variable in variables.items()
            for i, copy in enumerate(self.copies(variable))
        }
        broken = [name for name, value in tensors.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        if broken:
            raise FloatingPointError(
                f"Expected finite values in a checkpoint. Received: others in {broken[0].partition('#')[0]} and "
                f"{len(broken) - 1} more at step {progress.step}; {self.summary()}"
            )
        folder = self.path / f"step_{progress.step:09d}"
        fresh = self.path / f".{folder.name}"
        content = save(tensors)
        facts = asdict(progress) | ({"origin": self.origin} if self.origin else {})
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            with files.new_folder(fresh) as aside:
                (aside / "state.safetensors").write_bytes(content)
                files.write_json(aside / "progress.json", {**facts, "sha256": _checksum(facts, content)})
            if folder.exists():  # from before the validation, or damaged
                shutil.rmtree(folder)
            fresh.rename(folder)
        except OSError as error:
            kept = f"{self.summary()}, and the same command resumes the run"
            raise OSError(
                error.errno, f"Expected to write {folder}. Received: {error.strerror or error}; {kept}"
            ) from error
        later = [other for other in self._folders() if other > folder]  # damaged ones, too
        for other in (*later, *self._folders()[len(later) + _KEPT :], *self.path.glob(".*")):
            shutil.rmtree(other, ignore_errors=True)

    def last(self) -> int | None:
        """Returns the step of the last checkpoint; `None` if there is none."""
        folders = self._folders()
        return int(folders[0].name.removeprefix("step_")) if folders else None

    def summary(self) -> str:
        """Returns the last checkpoint in words, for messages."""
        last = self.last()
        return "there is no checkpoint yet" if last is None else f"the last checkpoint is from step {last}"

    def read(self) -> tuple[Progress, dict[str, np.ndarray]] | None:
        """Returns the last complete checkpoint; `None` if there is none. A damaged one is skipped with a warning.

        Raises:
            ValueError: It is of another run.
        """
        for folder in self._folders():
            try:
                content = files.parse_json((folder / "progress.json").read_text(encoding="utf-8"))
                tensors = (folder / "state.safetensors").read_bytes()
                expected = content.pop("sha256")
                if _checksum(content, tensors) != expected:
                    raise ValueError("its checksum differs")
                origin = content.pop("origin", {})
                progress, loaded = Progress(**content), load(tensors)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                _log.warning(f"{folder} is damaged and is skipped: {error}")
                continue
            self._check_origin(folder, origin)
            return progress, loaded
        return None

    def check(self) -> None:
        """Checks that the checkpoints are of this run, by what they say alone: without their tensors.

        Raises:
            ValueError: One is of another run; the message names it.
        """
        for folder in self._folders():
            try:
                origin = files.parse_json((folder / "progress.json").read_text(encoding="utf-8")).get("origin", {})
            except (OSError, ValueError, AttributeError):
                continue  # damaged
            self._check_origin(folder, origin)

    def _check_origin(self, folder: Path, origin: Any) -> None:
        found = origin if isinstance(origin, dict) else {}
        differing = [
            f"{name}={found[name]} (here {value})"
            for name, value in self.origin.items()
            if name in found and found[name] != value and name not in self.changeable
        ]
        if differing:
            raise ValueError(
                f"Expected the checkpoints of one run in {self.path}. Received: {folder.name}, of another: "
                f"{', '.join(differing)}; move it away, or train in another folder"
            )

    def restore(self, tensors: Mapping[str, np.ndarray], variables: Mapping[str, keras.Variable]) -> None:
        """Restores variables from a checkpoint's tensors.

        If the checkpoint has another number of copies than there are replicas now, each copy becomes their mean.

        Raises:
            ValueError: The checkpoint lacks a variable, or has it in another shape.
        """
        for name, variable in variables.items():
            keys = itertools.takewhile(tensors.__contains__, (f"{name}#{i}" for i in itertools.count()))
            found = [tensors[key] for key in keys]
            if not found or found[0].shape != tuple(variable.shape):
                shape = found[0].shape if found else "none"
                raise ValueError(f"Expected {name} of shape {tuple(variable.shape)} in {self.path}. Received: {shape}")
            copies = self.copies(variable)
            if len(copies) != len(found):
                found = [np.mean(found, axis=0).astype(found[0].dtype)] * len(copies)
            for copy, value in zip(copies, found, strict=True):
                copy.assign(value)

    def _folders(self) -> list[Path]:
        return sorted(self.path.glob("step_*"), reverse=True)


def _checksum(facts: Mapping[str, Any], content: bytes) -> str:
    return hashlib.sha256(json.dumps(facts).encode() + content).hexdigest()
