"""The task of each recipe."""

from __future__ import annotations

from resnet_keras.recipes.recipe import Recipe, TaskName
from resnet_keras.training import classification, detection, localization, mask_training
from resnet_keras.training.task import Task

_TASKS: dict[TaskName, Task] = {
    "classification": classification,
    "segmentation": mask_training,
    "detection": detection,
    "localization": localization,
}


def task_of(recipe: Recipe) -> Task:
    """Returns the task that a recipe's network is trained for."""
    return _TASKS[recipe.task]
