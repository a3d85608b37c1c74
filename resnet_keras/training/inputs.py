"""What a run begins with: its images, its preprocessing, and the weights that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from resnet_keras.data.broken_images import open_whole
from resnet_keras.data.evaluation_batches import pixel_array, preprocessing_of
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.data.splits import Split
from resnet_keras.data.training_batches import steps_per_epoch
from resnet_keras.evaluation.evaluator import align_classes
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.surgery.recalibration import has_folded_statistics
from resnet_keras.training.model import unfolded
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.sources import open_weights

_SOME_IMAGES = 2_000


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """What a run begins with.

    Attributes:
        recipe: Of the run.
        train_split: Images to train on.
        test_split: Images to validate and evaluate on.
        preprocessing: What the network will expect of an image.
        steps: In an epoch.
        weights: To begin with; random ones if `None`.
    """

    recipe: Recipe
    train_split: Split
    test_split: Split
    preprocessing: Preprocessing
    steps: int
    weights: ImportedWeights | None

    def summary(self, replicas: int, parameters: int) -> str:
        """Returns a line that tells what will be trained."""
        recipe = self.recipe
        return (
            f"{recipe.model} on {recipe.dataset}: {parameters:,} parameters, {len(self.train_split):,} images, "
            f"{recipe.epochs} epochs of {self.steps} steps of {recipe.batch_size}, "
            f"{replicas} replica{'s' if replicas > 1 else ''}"
        )

    def some_images(self) -> np.ndarray:
        """Returns some training images, as they are normalized: float32 (N, H, W, C)."""
        pixels, _ = pixel_array(stratified_sample(self.train_split, _SOME_IMAGES), self.preprocessing)
        return normalize(pixels, self.preprocessing).numpy()


def check_batch(recipe: Recipe, replicas: int) -> None:
    """Makes sure that replicas can share a recipe's batches.

    Raises:
        ValueError: They cannot.
    """
    if recipe.batch_size % (replicas * recipe.accumulate):
        parts = f" in {recipe.accumulate} parts each" if recipe.accumulate > 1 else ""
        raise ValueError(
            f"Expected a `batch_size` that {replicas} replicas can share{parts}. Received: {recipe.batch_size}"
        )


def prepare_inputs(recipe: Recipe, reading: dict[str, Any], log: Callable[[str], None]) -> TrainingInputs:
    """Opens a recipe's images and weights.

    Args:
        recipe: What to open.
        reading: Arguments of `open_whole`: where the data lie, and what to do about broken images.
        log: Takes what there is to say.

    Raises:
        ValueError: The data are broken, too few, or do not fit the recipe.
        FileNotFoundError: Data or weights are missing.
    """
    train_split, test_split = (open_whole(recipe.dataset, split, **reading) for split in ("train", "test"))
    if recipe.train_images:
        train_split = stratified_sample(train_split, recipe.train_images)
    steps = steps_per_epoch(train_split, recipe.batch_size)
    weights = open_weights(recipe.weights, recipe.model) if recipe.weights else None
    if (recipe.qat or recipe.distill) and weights and weights.class_names:
        # A folder of some of its classes, with the head as it is.
        train_split, test_split = (align_classes(split, weights.class_names) for split in (train_split, test_split))
    if (recipe.qat or recipe.distill) and (weights is None or weights.classes != len(train_split.class_names)):
        found = "none" if weights is None else f"{weights.source}, of {weights.classes} classes"
        raise ValueError(
            f"Expected `weights` of a network of the {len(train_split.class_names)} classes, trained in floats, to "
            f"begin with (--weights RUN) for `qat` and `distill`. Received: {found}"
        )
    preprocessing = preprocessing_of(recipe, train_split, weights.preprocessing if weights else None)
    if weights and has_folded_statistics(weights):
        weights = unfolded(weights, recipe, train_split, preprocessing)
        log(f"statistics of batch normalization are restored, which {weights.source} has folded away")
    return TrainingInputs(recipe, train_split, test_split, preprocessing, steps, weights)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Sets Keras's precision policy, as long as the context lasts."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
