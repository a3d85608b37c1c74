"""The run that another run continues: its network and its epochs, at the start of more of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resnet_keras.recipes.recipe import PART_OF, Recipe
from resnet_keras.runs.checkpoints import History
from resnet_keras.runs.saved_run import read_run
from resnet_keras.training.data import TrainedNetwork


@dataclass(frozen=True, eq=False)
class Continuation:
    """A finished run at the start of another one.

    Attributes:
        source: Folder of the finished run.
        trained: Its trained network.
        history: A row for each of its epochs.
        scheduled: Epochs of its schedule; more than those in `history` if a callback stopped it.
    """

    source: str
    trained: TrainedNetwork
    history: History
    scheduled: int

    def summary(self, recipe: Recipe) -> str:
        """Returns a sentence on what is continued, and by which schedule."""
        done, epochs = len(self.history), recipe.schedule.epochs
        rates = f"epochs {done + 1} to {epochs} have the learning rates of a run of {epochs} epochs"
        if epochs != self.scheduled:
            rates += f"; those before had the rates of a run of {self.scheduled}"
        return f"continued from {self.source} after epoch {done}, with momentum at zero: {rates}"


def open_continuation(
    recipe: Recipe, class_names: tuple[str, ...], load: Callable[[Path], TrainedNetwork]
) -> Continuation | None:
    """Returns the run that a recipe continues; `None` if it continues none.

    Args:
        recipe: The recipe, with `continue_from`.
        class_names: Classes of its images.
        load: Returns the trained network in a run's folder.

    Raises:
        FileNotFoundError: `continue_from` is not the folder of a run.
        ValueError: The run is not finished, has another recipe apart from the schedule, or other classes, or has all
            epochs of the recipe already.
    """
    source = recipe.schedule.continue_from
    if source is None:
        return None
    if not (Path(source) / "recipe.json").is_file():
        raise FileNotFoundError(f"Expected `continue_from` to be the folder of a run. Received: {source}, without one")
    run = read_run(source)
    if run.evaluation is None:
        raise ValueError(
            f"Expected `continue_from` to be a finished run; its own command finishes it. Received: {source}, at "
            f"{run.progress}"
        )
    wanted, found = recipe.flat(), run.recipe.flat()
    differing = [name for name, value in wanted.items() if PART_OF[name] != "schedule" and value != found[name]]
    if differing:
        changes = ", ".join(f"{name}={wanted[name]} (there {found[name]})" for name in differing)
        raise ValueError(
            f"Expected the recipe of {source} with `continue_from`, apart from its schedule. Received: {changes}. To "
            "train its network in another way, name it in `weights` instead."
        )
    done = len(run.history)
    if recipe.schedule.epochs <= done:
        raise ValueError(
            f"Expected `epochs` to be more than the {done} of {source}, which count, too. Received: "
            f"{recipe.schedule.epochs}"
        )
    trained = load(Path(source))
    if trained.class_names != class_names:
        raise ValueError(
            f"Expected images of the classes of {source}, {_listed(trained.class_names)}. Received: "
            f"{_listed(class_names)}"
        )
    return Continuation(source, trained, run.history, run.recipe.schedule.epochs)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
