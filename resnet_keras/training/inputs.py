"""Inputs of a run: its images, its preprocessing and the weights that it starts from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.datasets import dataset
from resnet_keras.data.evaluation_input import preprocessing_of
from resnet_keras.data.opening import DataSource
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.evaluation.evaluator import align_classes
from resnet_keras.networks.conventions import Conventions
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.recipes.settings import INITIAL
from resnet_keras.training.continuation import Continuation, open_continuation
from resnet_keras.training.data import SplitData, TrainingData
from resnet_keras.training.own_batches import BatchData
from resnet_keras.training.teacher import check_without_normalization, open_teacher
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.pretrained_files import is_pretrained
from resnet_keras.weights.sources import open_weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """Inputs of a run.

    Attributes:
        recipe: Recipe of the run.
        data: Images of training and testing.
        preprocessing: Preprocessing that the trained network expects.
        steps: Steps in an epoch.
        weights: Initial weights; `None` draws them.
        continuation: Finished run whose network and epochs come before this run; `None` without.
        teacher: Classifier to distill from; `None` without, or if it is the network of the initial weights.
    """

    recipe: Recipe
    data: TrainingData
    preprocessing: Preprocessing
    steps: int
    weights: ImportedWeights | None
    continuation: Continuation | None = None
    teacher: Classifier | None = None

    @property
    def first_step(self) -> int:
        """First step of this run; not 0 if it continues another."""
        return len(self.continuation.history) * self.steps if self.continuation else 0

    @property
    def fits_head(self) -> bool:
        """Whether the classifier is fitted to features first: the weights have another one, or none."""
        if not self.recipe.network.fit_head or self.weights is None:
            return False
        same = self.weights.classes == len(self.data.class_names)
        return not (same and self.weights.class_names in (None, self.data.class_names))

    def summary(self, replicas: int, parameters: int) -> str:
        """Returns a line on the network, its data and the length of the run."""
        recipe = self.recipe
        return (
            f"{recipe.network.title} on {recipe.data.dataset}: {parameters:,} parameters, {self.data.size}, "
            f"{recipe.schedule.epochs} epochs of {self.steps} steps of {recipe.data.batch_size}, "
            f"{replicas} replica{'s' if replicas > 1 else ''}"
        )


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Returns a recipe that means the same files and folders wherever it is read."""
    weights, teacher = recipe.network.weights, recipe.optimization.teacher
    if weights and not is_pretrained(weights, recipe.network.model):
        recipe = recipe.replace(weights=_absolute_if_there(weights))
    if teacher and teacher != INITIAL and not is_pretrained(teacher):
        recipe = recipe.replace(teacher=_absolute_if_there(teacher))
    source = recipe.schedule.continue_from
    return recipe.replace(continue_from=str(Path(source).expanduser().resolve())) if source else recipe


def _absolute_if_there(source: str) -> str:
    """Returns the absolute path of a file or folder; any other source of weights as it is."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def check_batch(recipe: Recipe, replicas: int) -> None:
    """Checks that replicas can share a recipe's batches.

    Raises:
        ValueError: The batch does not divide among the replicas and the parts that gradients are accumulated over.
    """
    if recipe.data.batch_size % (replicas * recipe.optimization.accumulate):
        parts = f" in {recipe.optimization.accumulate} parts each" if recipe.optimization.accumulate > 1 else ""
        raise ValueError(
            f"Expected a `batch_size` that {replicas} replicas can share{parts}. Received: {recipe.data.batch_size}"
        )


def prepare_inputs(
    recipe: Recipe, source: DataSource | None = None, own_data: TrainingData | None = None, *, replicas: int = 1
) -> TrainingInputs:
    """Opens a recipe's images and weights.

    Args:
        recipe: Recipe of the run.
        source: Place of the data; the default one if `None`.
        own_data: The caller's own images; `None` opens the recipe's data set.
        replicas: Number of replicas that share a batch.

    Raises:
        ValueError: The data are broken, too few, or do not fit the recipe.
        FileNotFoundError: Data or weights are missing.
    """
    if isinstance(own_data, BatchData):
        weights = initial_weights(recipe)
        _check_weights(recipe, weights, len(own_data.class_names))
        continuation = open_continuation(recipe, own_data.class_names, Classifier.load)
        preprocessing = own_data.preprocessing
        teacher = open_teacher(recipe, own_data.class_names, preprocessing)
        if teacher is not None:
            check_without_normalization(teacher, str(recipe.optimization.teacher))
        return TrainingInputs(recipe, own_data, preprocessing, own_data.steps(recipe), weights, continuation, teacher)
    if isinstance(own_data, SplitData):
        data = own_data
    else:
        source, name = source or DataSource(), recipe.data.dataset
        train_split, test_split = (source.open(name, split) for split in ("train", "test"))
        data = SplitData(train_split, test_split, recipe.soft_labels, source.open_validation(name))
        _check_classes(data)
    if recipe.data.train_images:
        data = replace(data, train_split=stratified_sample(data.train_split, recipe.data.train_images))
    if own_data is None and dataset(recipe.data.dataset).classes is None:  # what is not known before it is opened
        _log.info(f"{recipe.data.dataset}: {data.description}")
    whole, recipe = recipe, _with_smaller_batches(recipe, len(data.train_split), replicas)
    steps = data.steps(recipe)  # before weights are downloaded
    weights = initial_weights(recipe)
    if _starts_from_floats(recipe) and weights and weights.class_names:
        # A folder of some of the classes of the weights trains the head as it is.
        data = _aligned(data, weights.class_names)
    preprocessing = preprocessing_of(
        recipe.data, data.train_split, recipe.architecture.image_size, weights.preprocessing if weights else None
    )
    _check_weights(recipe, weights, len(data.class_names))
    continuation = open_continuation(whole, data.class_names, Classifier.load)
    teacher = open_teacher(recipe, data.class_names, preprocessing)
    return TrainingInputs(recipe, data, preprocessing, steps, weights, continuation, teacher)


def initial_weights(recipe: Recipe) -> ImportedWeights | None:
    """Returns the weights that a recipe begins with, and their conventions as it states them; `None` without."""
    network = recipe.network
    if network.weights is None:
        return None
    found = open_weights(
        network.weights, network.model, prefix=network.weights_prefix, averaged=network.weights_averaged
    )
    stated = Conventions(zero_channels=network.zero_channels, bottleneck_stride=network.bottleneck_stride)
    return replace(found, conventions=found.conventions.merged(stated))


def _with_smaller_batches(recipe: Recipe, images: int, replicas: int) -> Recipe:
    """Returns the recipe with batches of no more than its fraction of the images, which the replicas can share."""
    if recipe.data.batch_fraction is None:
        return recipe
    shares = replicas * recipe.optimization.accumulate
    most = max(int(recipe.data.batch_fraction * images) // shares, 1) * shares
    return recipe.replace(batch_size=min(recipe.data.batch_size, most))


def _check_classes(data: SplitData) -> None:
    names = data.class_names
    if len(names) < 2:
        raise ValueError(
            "Expected images of at least 2 classes, each in a folder of its own. "
            f"Received: {len(names)}, {', '.join(names)}"
        )


def _aligned(data: SplitData, class_names: tuple[str, ...]) -> SplitData:
    validation = data.validation_split
    return replace(
        data,
        train_split=align_classes(data.train_split, class_names),
        test_split=align_classes(data.test_split, class_names),
        validation_split=None if validation is None else align_classes(validation, class_names),
    )


def _starts_from_floats(recipe: Recipe) -> bool:
    return recipe.network.quantization_aware or recipe.optimization.teacher == INITIAL


def _check_weights(recipe: Recipe, weights: ImportedWeights | None, classes: int) -> None:
    if _starts_from_floats(recipe) and (weights is None or weights.classes != classes):
        found = "none" if weights is None else f"{weights.source}, of {weights.classes} classes"
        raise ValueError(
            f"Expected `weights` of a network of the {classes} classes, trained in floating point, to start "
            f"quantization-aware training or distillation from (--weights RUN). Received: {found}"
        )


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Sets Keras's precision policy inside the context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
