"""Detection as a task of training: boxes and classes of the objects in an image; see `Task`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from resnet_keras.checks import extras
from resnet_keras.data.datasets import dataset
from resnet_keras.data.opening import DataSource
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.box_files import run_part
from resnet_keras.detection.box_input import most_boxes_of
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.catalog import DetectorArchitecture, detector_architecture
from resnet_keras.detection.detector import Detector
from resnet_keras.detection.faster_rcnn import FasterRCNN
from resnet_keras.detection.loss_network import parts_of_loss, training_network
from resnet_keras.detection.losses import DetectorLoss
from resnet_keras.detection.targets import SamplingRules
from resnet_keras.detection.tfds_boxes import open_part_of_boxes, parts_of_boxes
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.surgery.cloning import transfer
from resnet_keras.training.box_data import BoxData, evenly
from resnet_keras.training.continuation import open_continuation
from resnet_keras.training.data import TrainingData
from resnet_keras.training.inputs import TrainingInputs, initial_weights, precision
from resnet_keras.training.model import compile_model
from resnet_keras.weights.imported import ImportedWeights

_log = logging.getLogger(__name__)


def open_inputs(
    recipe: Recipe, source: DataSource | None, own_data: TrainingData | None, *, replicas: int
) -> TrainingInputs:
    """Opens images with boxes, of a folder or of TFDS, and the weights of a backbone or a detector."""
    if own_data is not None:
        raise ValueError("Expected a folder of images with boxes, as `data_dir`. Received: arrays or batches")
    with extras.required("detection", "the evaluation of a detector"):
        import faster_coco_eval  # noqa: F401  (before the training, not after it)
    source = source or DataSource()
    train, test = open_training_boxes(source, recipe.data.dataset)
    if recipe.data.train_images:
        train = evenly(train, recipe.data.train_images)
    validation = _open_validation_boxes(source, recipe.data.dataset, train)
    data = BoxData(train, test, recipe.detection.fit, validation)
    _log.info(f"{recipe.data.dataset if train.records else source.data_dir}: {data.description}")
    whole, recipe = recipe, with_smaller_batches(recipe, len(train), replicas)
    steps = data.steps(recipe)  # before weights are downloaded
    weights = initial_weights(recipe)
    continuation = open_continuation(whole, data.class_names, load)
    return TrainingInputs(
        recipe, data, canvas_preprocessing(recipe.detection.canvas, weights), steps, weights, continuation
    )


def open_training_boxes(source: DataSource, name: str = "folder") -> tuple[BoxSplit, BoxSplit]:
    """Opens the training part and the test part of a data set of images with boxes; see `open_part_of_boxes`.

    Raises:
        FileNotFoundError: There is no such folder, or not both parts.
        ValueError: Something is wrong with a file or a box.
    """
    known, place = parts_of_boxes(name, source), source.data_dir if name == "folder" else name
    parts = [run_part(known, part) for part in ("train", "test")]
    if None in parts:
        raise FileNotFoundError(
            f"Expected a part for training and one for the test in {place}, such as train and val. "
            f"Received: {', '.join(known)}"
        )
    train = open_part_of_boxes(name, str(parts[0]), source)
    test = open_part_of_boxes(name, str(parts[1]), source, class_names=train.class_names)
    if not train.boxes or not test.boxes:
        raise ValueError(f"Expected objects in both parts, {parts}, of {place}. Received: a part without any")
    return train, test


def _open_validation_boxes(source: DataSource, name: str, train: BoxSplit) -> BoxSplit | None:
    """Opens the part that epochs are validated on, if there is one beside those of training and test."""
    part = run_part(parts_of_boxes(name, source), "validation")
    if part is None:
        return None
    split = open_part_of_boxes(name, part, source, class_names=train.class_names)
    return split if split.boxes else None


def create_network(inputs: TrainingInputs, *, steps_per_execution: int = 1) -> keras.Model:
    """Returns a network of the losses of Faster R-CNN, compiled."""
    recipe, settings = inputs.recipe, inputs.recipe.detection
    assert isinstance(inputs.data, BoxData)
    rules = SamplingRules(
        anchors=settings.sampled_anchors,
        regions=settings.sampled_regions,
        background_overlap=settings.background_overlap,
    )
    model = training_network(
        _detector(inputs),
        inputs.preprocessing.image_size,
        most_boxes=most_boxes_of(inputs.data.train_split),
        rules=rules,
        seed=recipe.seed,
    )
    table = keras.ops.zeros((1, *model.output_shape[1:]))
    compile_model(
        model,
        recipe,
        inputs.steps,
        loss=DetectorLoss(),
        metrics=parts_of_loss(),
        example=(keras.ops.zeros((1, 1)), table),
        steps_per_execution=steps_per_execution,
        first_step=inputs.first_step,
    )
    return model


def epoch_measures(inputs: TrainingInputs, model: keras.Model) -> Callable[[Callable[[], None]], dict[str, float]]:
    """Returns what measures the average precision on the images that epochs are validated on.

    The losses of a detector are over random samples of its proposals, so they would say little of other images.
    """
    made: list[Detector] = []

    def measured(after_batch: Callable[[], None]) -> dict[str, float]:
        assert isinstance(inputs.data, BoxData)
        if not made:  # once, because the first batch traces the detector
            made.append(_new_detector(inputs))
        transfer(model, made[0].model)
        return inputs.data.epoch_measures(made[0], inputs.recipe, after_batch)

    return measured


def finished(inputs: TrainingInputs, model: keras.Model) -> Detector:
    """Returns a detector with the trained weights."""
    detector = _new_detector(inputs)
    transfer(model, detector.model)
    return detector


def load(path: Path) -> Detector:
    """Returns the detector in a file or the folder of a run."""
    return Detector.load(path)


def detector_row(recipe: Recipe) -> DetectorArchitecture:
    """Returns the detector of a recipe, with its changes of a row of `DETECTORS`."""
    settings = recipe.detection
    row = detector_architecture(str(settings.detector))
    sizes = settings.anchor_sizes
    changes: dict[str, Any] = {
        "channels": settings.pyramid_channels,
        "box_units": settings.box_units,
        "anchor_sizes": ((sizes,) if row.neck == "c4" else tuple((size,) for size in sizes)) if sizes else None,
        "proposals": (settings.train_proposals or row.proposals[0], settings.test_proposals or row.proposals[1]),
        "global_context": settings.global_context,
        "frozen_batch_norm": recipe.network.freeze_batch_norms,
    }
    return row.replace(**{name: value for name, value in changes.items() if value is not None})


def _new_detector(inputs: TrainingInputs) -> Detector:
    """Returns a detector with random weights, for those of a run's network."""
    with precision(inputs.recipe.optimization.precision):
        network = _detector(inputs, with_weights=False)
    return Detector(network, inputs.preprocessing, inputs.data.class_names, inputs.recipe.detection.fit)


def _detector(inputs: TrainingInputs, *, with_weights: bool = True) -> keras.Model:
    recipe, preprocessing, weights = inputs.recipe, inputs.preprocessing, inputs.weights
    network, row = recipe.architecture, detector_row(recipe)
    if weights is not None:
        network = network.following(weights.conventions)
    whole = weights is not None and weights.has_head(_head_layers(row))
    return FasterRCNN(
        network,
        len(inputs.data.class_names),
        detector=row,
        input_shape=(*preprocessing.image_size, preprocessing.channels),
        weights=weights if whole and with_weights else None,
        backbone_weights=weights if not whole and with_weights else None,
    )


def _head_layers(row: DetectorArchitecture) -> dict[str, bool]:
    """Returns layers that a detector has and layers that it does not have, by which weights of the whole are known."""
    return {
        "rpn_conv1": True,
        "rpn_conv2": row.rpn_convolutions > 1,
        "fpn_lateral2": row.neck == "fpn",
        "fpn_lateral2_bn": row.neck_batch_norm,
        "box_conv1": row.box_convolutions > 0,
    }


def canvas_preprocessing(canvas: tuple[int, int] | None, weights: ImportedWeights | None) -> Preprocessing:
    """Returns the canvas, with the mean and standard deviation of the weights, or those of ImageNet."""
    assert canvas is not None
    known = weights.preprocessing if weights else None
    info = dataset("folder")
    return Preprocessing(
        image_size=canvas,
        channels=3,
        mean=known.mean if known else info.mean,
        std=known.std if known else info.std,
        channel_order=known.channel_order if known else "rgb",
    )


def with_smaller_batches(recipe: Recipe, images: int, replicas: int) -> Recipe:
    """Returns the recipe with a batch of at most `batch_fraction` of the images, a multiple of the replicas."""
    if recipe.data.batch_fraction is None:
        return recipe
    most = max(int(recipe.data.batch_fraction * images) // replicas, 1) * replicas
    return recipe.replace(batch_size=min(recipe.data.batch_size, most))
