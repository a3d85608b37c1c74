"""The task of each recipe."""

from __future__ import annotations

from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training import classification
from resnet_keras.training.task import Task


def task_of(recipe: Recipe) -> Task:
    """Returns the task that a recipe's network is trained for."""
    return classification
