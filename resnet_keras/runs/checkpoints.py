"""Checkpoints of a run: everything that it needs to go on as if it had never stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import load, save

from resnet_keras import files

History = list[dict[str, float]]
Copies = Callable[[keras.Variable], Sequence]
"""Gives a variable's copies, one for each replica of this process."""

_KEPT = 2


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: Steps of the run that are done.
        history: A row for each epoch that is over, its validation included.
        seconds: Spent on the steps of an epoch that is not over.
        logs: Loss and metrics of an epoch whose steps are done, but not its validation; empty otherwise.
    """

    step: int = 0
    history: History = field(default_factory=list)
    seconds: float = 0.0
    logs: dict[str, float] = field(default_factory=dict)


def training_variables(model: keras.Model, others: Iterable[keras.Variable] = ()) -> dict[str, keras.Variable]:
    """Returns every variable that decides how training goes on, by a name that is the same in another process.

    They are the weights, the states of random layers, what the optimizer keeps (momenta, steps, the loss scale) and
    `others`. The metrics of the running epoch are apart, see `metrics`.
    """
    named = {"model": model.variables, "optimizer": model.optimizer.variables, "others": list(others)}
    return {
        f"{group}/{i}/{variable.name}": variable
        for group, variables in named.items()
        for i, variable in enumerate(variables)
    }


def metric_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the variables in which the loss and metrics of the running epoch are summed up."""
    return {f"metrics/{i}": variable for i, variable in enumerate(model.metrics_variables)}


class Checkpoints:
    """The last two checkpoints of a run, each of which is whole or not there.

    Args:
        path: Their folder.
        copies: Gives the copies of a variable that replicas move apart from each other.
    """

    def __init__(self, path: Path, copies: Copies) -> None:
        self.path, self.copies = path, copies

    def save(self, progress: Progress, variables: dict[str, keras.Variable]) -> None:
        """Writes a checkpoint; older ones go when it is whole.

        Raises:
            OSError: It cannot be written; those before are as they were.
            FloatingPointError: A variable is not finite: there would be nothing to go on from.
        """
        tensors = {
            f"{name}#{i}": keras.ops.convert_to_numpy(copy)
            for name, variable in variables.items()
            for i, copy in enumerate(self.copies(variable))
        }
        broken = [name for name, value in tensors.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        if broken:
            raise FloatingPointError(
                f"Expected finite values in a checkpoint. Received: others in {broken[0].partition('#')[0]} and "
                f"{len(broken) - 1} more at step {progress.step}; {self.kept()}"
            )
        folder = self.path / f"step_{progress.step:09d}"
        fresh = self.path / f".{folder.name}"
        content = save(tensors)
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            with files.new_folder(fresh) as aside:
                (aside / "state.safetensors").write_bytes(content)
                files.write_json(aside / "progress.json", {**asdict(progress), "sha256": _sum(progress, content)})
            if folder.exists():  # one from before the validation, or a damaged one, which the run has gone back behind
                shutil.rmtree(folder)
            fresh.rename(folder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                error.errno,
                f"Expected to write {folder}. Received: {reason}; {self.kept()}, and the same command goes on",
            ) from error
        later = [other for other in self._folders() if other > folder]  # damaged ones, too
        for other in (*later, *self._folders()[len(later) + _KEPT :], *self.path.glob(".*")):
            shutil.rmtree(other, ignore_errors=True)

    def last(self) -> int | None:
        """Returns the step of the last checkpoint; `None` if there is none."""
        folders = self._folders()
        return int(folders[0].name.removeprefix("step_")) if folders else None

    def kept(self) -> str:
        """Returns in words what there is to go on from."""
        last = self.last()
        return "there is no checkpoint yet" if last is None else f"the last checkpoint is of step {last}"

    def read(self, log: Callable[[str], None] = print) -> tuple[Progress, dict[str, np.ndarray]] | None:
        """Returns the last whole checkpoint; `None` if there is none. A damaged one is told of and left out."""
        for folder in self._folders():
            try:
                content = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
                tensors = (folder / "state.safetensors").read_bytes()
                expected = content.pop("sha256")
                progress = Progress(**content)
                if _sum(progress, tensors) != expected:
                    raise ValueError("it is not what was written")
                return progress, load(tensors)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                log(f"{folder} is damaged and left out: {error}")
        return None

    def restore(self, tensors: dict[str, np.ndarray], variables: dict[str, keras.Variable]) -> None:
        """Gives variables what a checkpoint holds of them.

        Where it has another number of copies than there are now, each becomes their mean.

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


def _sum(progress: Progress, content: bytes) -> str:
    return hashlib.sha256(json.dumps(asdict(progress)).encode() + content).hexdigest()
