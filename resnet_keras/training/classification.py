"""Classification as a task of training: a class for each image; see `Task`."""

from __future__ import annotations

from pathlib import Path

import keras

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.opening import DataSource
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.surgery.cloning import transfer
from resnet_keras.training.data import TrainingData
from resnet_keras.training.inputs import TrainingInputs, precision, prepare_inputs
from resnet_keras.training.model import build_network, compile_network


def open_inputs(
    recipe: Recipe, source: DataSource | None, own_data: TrainingData | None, *, replicas: int
) -> TrainingInputs:
    """Opens labeled images and the weights of a classifier or a backbone."""
    return prepare_inputs(recipe, source, own_data, replicas=replicas)


def create_network(inputs: TrainingInputs, *, steps_per_execution: int = 1) -> keras.Model:
    """Returns a network of logits, compiled with a cross-entropy and the accuracy."""
    return compile_network(
        inputs.recipe,
        inputs.preprocessing,
        len(inputs.data.class_names),
        inputs.steps,
        weights=inputs.weights,
        steps_per_execution=steps_per_execution,
        soft_labels=inputs.data.soft_labels,
        first_step=inputs.first_step,
    )


def epoch_measures(inputs: TrainingInputs, model: keras.Model) -> None:
    """Returns nothing: Keras validates."""


def finished(inputs: TrainingInputs, model: keras.Model) -> Classifier:
    """Returns a classifier for images of one size."""
    if inputs.recipe.data.train_sizes:  # the network of training takes any size
        classes, trained = len(inputs.data.class_names), model
        with precision(inputs.recipe.optimization.precision):
            model = build_network(inputs.recipe, inputs.preprocessing, classes, weights=inputs.weights, loads=False)
        transfer(trained, model)
    return Classifier(model, inputs.preprocessing, inputs.data.class_names)


def load(path: Path) -> Classifier:
    """Returns the classifier in a file or the folder of a run."""
    return Classifier.load(path)
