"""Errors of a `.tflite` file on a folder of images by class, by LiteRT alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.data.image_folders import class_files
from resnet_keras.evaluation.class_places import class_places
from resnet_keras.evaluation.predictions import EvaluationProgress, SplitPredictions, measures_of_one
from resnet_keras.exporting.litert_classifier import LiteRTClassifier


def evaluate_litert(
    classifier: LiteRTClassifier, data_dir: str | Path | None, split: str = "test", on_corrupt: OnCorrupt = "raise"
) -> SplitPredictions:
    """Returns the predictions for every image of a folder, of its central crop, in the order of the folder.

    Args:
        classifier: A `.tflite` file with its preprocessing and class names.
        data_dir: Folder of `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or of class folders alone; see `open_split`.
        split: "train", "validation", "test" or "all".
        on_corrupt: Images that do not decode and class folders without images are an error ("raise"), or skipped with a
            warning ("skip").

    Raises:
        FileNotFoundError: There is no such folder, or not the part that is asked for.
        ValueError: The classes are not the classifier's, or an image does not decode, or the `.tflite` file does not
            run; the message names it.
    """
    found = class_files(data_dir, split, on_corrupt)
    places = class_places(tuple(found), classifier.class_names)
    paths = [path for files in found.values() for path in files]
    labels = np.repeat(places[: len(found)], [len(files) for files in found.values()])
    progress = EvaluationProgress(len(paths))
    columns: list[tuple[np.ndarray, ...]] = []
    for numbers, probabilities in classifier.probabilities(paths, on_corrupt):
        columns.append(measures_of_one(probabilities, labels[numbers]))
        progress.add(columns[-1][2])
    if not columns:
        raise ValueError(f"Expected images that can be read. Received: {len(paths)}, none of which can")
    labels, predicted, ranks, losses = (np.concatenate(each) for each in zip(*columns, strict=True))
    return SplitPredictions(labels, predicted, ranks, losses, classifier.class_names)
