"""Batches and preprocessing of a whole recipe."""

from typing import Any

import tensorflow as tf

from resnet_keras.data.evaluation_input import preprocessing_of
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import Split
from resnet_keras.data.training_input import training_batches
from resnet_keras.recipes.recipe import Recipe


def recipe_batches(split: Split, recipe: Recipe, preprocessing: Preprocessing, **options: Any) -> tf.data.Dataset:
    return training_batches(
        split,
        preprocessing,
        recipe.augmentation,
        batch_size=recipe.data.batch_size,
        epochs=recipe.schedule.epochs,
        seed=recipe.seed,
        one_hot=recipe.soft_labels,
        **options,
    )


def recipe_preprocessing(recipe: Recipe, split: Split, trained: Preprocessing | None = None) -> Preprocessing:
    return preprocessing_of(recipe.data, split, recipe.architecture.image_size, trained)
