"""Phases of a run with images of one size: one call of `fit` each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resnet_keras.data.settings import DataSettings


@dataclass(frozen=True)
class Phase:
    """Steps of a run on images of one size.

    Attributes:
        first_step: First step, counted from 0 at the start of the run.
        last_step: Step after the last.
        steps: Steps per epoch; fewer than in a whole epoch if the run is resumed mid-epoch.
        image_size: Height and width in training, in pixels; `None` for the size of evaluation.
    """

    first_step: int
    last_step: int
    steps: int
    image_size: int | None


def phases(data: DataSettings, epochs: int, steps: int, done: int = 0) -> Iterator[Phase]:
    """Yields the phases that are left of a run.

    Args:
        data: Its `train_sizes` apply.
        epochs: Epochs of the run.
        steps: Steps per epoch.
        done: Steps that are done already.
    """
    while done < epochs * steps:
        epoch, done_in_epoch = divmod(done, steps)
        size = data.train_size(epoch, epochs)
        if done_in_epoch:
            end = epoch + 1
        else:
            end = next((e for e in range(epoch, epochs) if data.train_size(e, epochs) != size), epochs)
        yield Phase(done, end * steps, steps - done_in_epoch, size)
        done = end * steps
