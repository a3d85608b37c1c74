"""Tasks of training: what a network is trained for, as the functions that the training loop calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

import keras

from resnet_keras.data.opening import DataSource
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training.data import TrainedNetwork, TrainingData
from resnet_keras.training.inputs import TrainingInputs

EpochMeasure: TypeAlias = Callable[[Callable[[], None]], dict[str, float]]
"""Returns measures of the network as it is, by their names; it calls its argument after each batch."""


class Task(Protocol):
    """What a network is trained for. Each task is a module of these functions; `task_of` returns that of a recipe.

    The loop knows nothing else of a task. Steps, learning rates, precision, checkpoints, resumption, replicas, history,
    and the folder of a run are the same for all. What `open_inputs` returns as `TrainingInputs.data` brings the
    batches, the validation, and the evaluation of the trained network.
    """

    def open_inputs(
        self, recipe: Recipe, source: DataSource | None, own_data: TrainingData | None, *, replicas: int
    ) -> TrainingInputs:
        """Opens a recipe's data and weights.

        Args:
            recipe: Recipe of the run.
            source: Place of the data; the default one if `None`.
            own_data: The caller's own data; `None` opens the recipe's data set.
            replicas: Number of replicas that share a batch.

        Raises:
            ValueError: The data are broken, too few, or do not fit the recipe.
            FileNotFoundError: Data or weights are missing.
        """

    def create_network(self, inputs: TrainingInputs, *, steps_per_execution: int = 1) -> keras.Model:
        """Returns the recipe's network with its initial weights, compiled, and with a built optimizer.

        It is called in the scope of the strategy and under the recipe's precision; see `compile_model`.
        """

    def epoch_measures(self, inputs: TrainingInputs, model: keras.Model) -> EpochMeasure | None:
        """Returns what measures the network between epochs where Keras's validation cannot; `None` if it can."""

    def finished(self, inputs: TrainingInputs, model: keras.Model) -> TrainedNetwork:
        """Returns a trained network as the run saves it."""

    def load(self, path: Path) -> TrainedNetwork:
        """Returns the trained network in a file of a run, or in its folder.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, or of another task.
        """
