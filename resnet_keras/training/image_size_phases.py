"""The parts of a run in which nothing but the step changes: one call of `fit` each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resnet_keras.recipes.recipe import Recipe


@dataclass(frozen=True)
class Phase:
    """Steps of a run on images of one size.

    Attributes:
        first_step: Of the run, counted from 0.
        last_step: The one after its last.
        steps: In each of its epochs; fewer than in a whole one, where a checkpoint amid an epoch is gone on from.
        image_size: Height and width in training, in pixels; `None` for those of evaluation.
    """

    first_step: int
    last_step: int
    steps: int
    image_size: int | None


def phases(recipe: Recipe, steps: int, done: int = 0) -> Iterator[Phase]:
    """Yields what is left of a run after `done` steps, its epochs being of `steps`."""
    while done < recipe.epochs * steps:
        epoch, amid = divmod(done, steps)
        size = recipe.size_in(epoch)
        if amid:
            end = epoch + 1
        else:
            end = next((e for e in range(epoch, recipe.epochs) if recipe.size_in(e) != size), recipe.epochs)
        yield Phase(done, end * steps, steps - amid, size)
        done = end * steps
