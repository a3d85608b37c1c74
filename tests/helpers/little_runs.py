"""Runs of a little network, without curves and final evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import pytest

from resnet_keras.applications.classifier import Classifier
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.checkpoints import Checkpoints
from resnet_keras.runs.folder import RunFolder
from resnet_keras.training import classification, data
from resnet_keras.training.trainer import train

RESULT = Evaluation(images=359, top1_error=0.5, top5_error=None, loss=1.0)
MODELS: list[keras.Model] = []
"""Models of the runs inside the context, in their order."""


@contextmanager
def little_runs() -> Iterator[None]:
    """Makes runs of a little network, without curves and final evaluation, and keeps their models."""
    compile_network, build_network = classification.compile_network, classification.build_network

    def little_network(recipe: Recipe, *args: Any, **options: Any) -> keras.Model:
        MODELS.append(compile_network(recipe.replace(model="little"), *args, **options))
        return MODELS[-1]

    def little_final(recipe: Recipe, *args: Any, **options: Any) -> keras.Model:
        return build_network(recipe.replace(model="little"), *args, **options)

    little = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "little", little)
        patch.setattr(classification, "compile_network", little_network)
        patch.setattr(classification, "build_network", little_final)
        patch.setattr(data, "evaluate", lambda *args, **options: RESULT)
        patch.setattr(Classifier, "load", lambda path: None)
        patch.setattr(RunFolder, "write_curves", lambda folder, history: None)
        yield
    MODELS.clear()


def killed_after(saves: int, recipe: Recipe, folder: Path, **options: Any) -> None:
    """Trains until a number of checkpoints are written, and ends there as by Ctrl-C."""
    save, done = Checkpoints.save, []

    def counted(self: Checkpoints, *args: Any) -> None:
        save(self, *args)
        done.append(1)
        if len(done) == saves:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", counted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder, **options)
