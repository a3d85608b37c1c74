"""A network with what it takes to use it: its preprocessing and the names of its classes, in one file."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from resnet_keras import files
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.batch_norm import fuse
from resnet_keras.layers.fake_quant import LAYERS
from resnet_keras.weights.keras_file import read_member
from resnet_keras.weights.sources import CLASSIFIER_MEMBER

RUN_MODEL = "model.keras"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network, its preprocessing and its class names.

    In a file it is what Keras writes, and opens with `keras.saving.load_model`, with one member more in the archive.
    """

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        outputs = self.model.output_shape
        if len(outputs) != 2 or outputs[1] != len(self.class_names):
            raise ValueError(
                f"Expected a network with one output per class name ({len(self.class_names)}). "
                f"Received: {self.model.name}, with outputs of shape {outputs}"
            )

    def save(self, path: str | Path) -> None:
        """Writes a `.keras` file; one that is there is replaced when the new one is whole."""
        about = {"preprocessing": self.preprocessing.to_json(), "class_names": self.class_names}
        with files.new_file(path) as aside:
            self.model.save(aside)
            with zipfile.ZipFile(aside, "a") as archive:
                archive.writestr(CLASSIFIER_MEMBER, json.dumps(about))

    @classmethod
    def load(cls, source: str | Path) -> Classifier:
        """Reads what `save` wrote; of a run's folder, its final model.

        Raises:
            FileNotFoundError: There is no such file, or no finished run in the folder.
            ValueError: The file is no `.keras` archive, or knows neither preprocessing nor classes.
        """
        path = Path(source)
        if path.is_dir():
            path = path / RUN_MODEL
        if not path.is_file():
            raise FileNotFoundError(f"Expected a finished run's folder or a .keras file. Received: no file {path}")
        about = read_member(path, CLASSIFIER_MEMBER)
        if about is None:
            raise ValueError(
                f"Expected a .keras file with its preprocessing and class names, as a run or `Classifier.save` writes "
                f"it, or `resnet convert` makes it of other weights. Received: {path}, which has none"
            )
        model = fuse(keras.saving.load_model(path, custom_objects=LAYERS, compile=False))
        return cls(model, Preprocessing(**about["preprocessing"]), tuple(about["class_names"]))

    def probabilities(self, images: Any) -> np.ndarray:
        """Returns the probability of each class: normalized images (N, H, W, C) -> float32 (N, classes)."""
        outputs = np.asarray(self.model.predict_on_batch(images), np.float32)
        return softmax(outputs) if outputs_logits(self.model) else outputs


def outputs_logits(model: keras.Model) -> bool:
    """Tells whether a classifier's outputs have gone through no activation."""
    if isinstance(model.layers[-1], keras.layers.Softmax):
        return False
    activation = getattr(model.layers[-1], "activation", None)
    return activation is None or activation is keras.activations.linear


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns exp(logits) of sum 1 along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
