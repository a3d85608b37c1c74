"""Measurements of a finished run beside its test error: its error on its training images, and on ten crops."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.opening import open_split
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.evaluation.views import Views
from resnet_keras.runs.folder import RunFolder, dataset_of

_log = logging.getLogger(__name__)

MOST_TRAINING_IMAGES = 50_000
"""The training error is measured on at most this many images."""

_TRAINING = "training_evaluation.json"
_TEN_CROP = "ten_crop_evaluation.json"


def measure_run(path: str | Path, *, ten_crop: bool = False) -> None:
    """Evaluates a finished run on its training images and writes the result to its folder.

    The final network sees the images that the run was trained on, without augmentation. Unlike the training error in
    the history, which is of a network that still changes, this error can be compared between networks. Results that
    exist are kept.

    Args:
        path: Folder of the run.
        ten_crop: Whether to evaluate it on ten crops of each test image, too (arXiv:1512.03385, §3.4).

    Raises:
        FileNotFoundError: The run is not finished, or its data are missing.
    """
    folder = RunFolder(path)
    wanted: list[tuple[str, str, Views]] = [(_TRAINING, "train", Views())]
    if ten_crop:
        wanted.append((_TEN_CROP, "test", Views(crops="ten")))
    missing = [each for each in wanted if not (folder.path / each[0]).is_file()]
    if not missing:
        return
    classifier, recipe = Classifier.load(folder.path), folder.recipe()
    dataset, data_dir = dataset_of(folder.path, None, None)
    for name, part, views in missing:
        split = open_split(dataset, part, data_dir=data_dir)
        if part == "train":
            split = stratified_sample(
                stratified_sample(split, recipe.data.train_images or len(split)), MOST_TRAINING_IMAGES
            )
        result = evaluate(classifier, split, views=views, batch_size=recipe.data.batch_size)
        files.write_json(folder.path / name, asdict(result))


def training_evaluation(path: str | Path) -> Evaluation | None:
    """Returns the result of `measure_run` on the training images; `None` before it."""
    return _read(Path(path) / _TRAINING)


def ten_crop_evaluation(path: str | Path) -> Evaluation | None:
    """Returns the result of `measure_run` on ten crops of the test images; `None` if it was not asked for."""
    return _read(Path(path) / _TEN_CROP)


def _read(file: Path) -> Evaluation | None:
    if not file.is_file():
        return None
    with files.as_written(file):
        return Evaluation(**files.read_json(file))
