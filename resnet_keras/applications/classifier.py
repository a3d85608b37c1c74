"""A network with its preprocessing and class names, in one file."""

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

    Its file is a `.keras` archive, which `keras.saving.load_model` opens, with one more member.

    Example:
        >>> classifier = resnet_keras.Classifier.load("runs/digits_resnet20")
        >>> for prediction in resnet_keras.predict(classifier, ["photo.jpg"]):
        ...     print(prediction.path, prediction.classes)

    Attributes:
        model: A network of normalized images (N, H, W, C) to logits or probabilities (N, classes).
        preprocessing: From an image to the network's input.
        class_names: One name per output.

    Raises:
        ValueError: The network does not have one output per class name.
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
        """Writes a `.keras` file; an existing one is replaced once the new one is complete."""
        metadata = {"preprocessing": self.preprocessing.to_json(), "class_names": self.class_names}
        with files.new_file(path) as aside:
            self.model.save(aside)
            with zipfile.ZipFile(aside, "a") as archive:
                archive.writestr(CLASSIFIER_MEMBER, json.dumps(metadata))

    @classmethod
    def load(cls, source: str | Path) -> Classifier:
        """Returns the classifier in a file that `save` wrote, or the final one of a run's folder.

        Raises:
            FileNotFoundError: There is no such file, or no finished run in the folder.
            ValueError: The file is not a `.keras` archive, or has neither preprocessing nor class names.
        """
        path = Path(source)
        if path.is_dir():
            path = path / RUN_MODEL
        if not path.is_file():
            raise FileNotFoundError(f"Expected a finished run's folder or a .keras file. Received: no file {path}")
        metadata = read_member(path, CLASSIFIER_MEMBER)
        if metadata is None:
            raise ValueError(
                f"Expected a .keras file with its preprocessing and class names, as a run or `Classifier.save` writes "
                f"it, or `resnet convert` writes for other weights. Received: {path}, without them"
            )
        model = fuse(keras.saving.load_model(path, custom_objects=LAYERS, compile=False))
        return cls(model, Preprocessing(**metadata["preprocessing"]), tuple(metadata["class_names"]))

    def probabilities(self, images: Any) -> np.ndarray:
        """Returns the probability of each class: normalized images (N, H, W, C) -> float32 (N, classes)."""
        outputs = np.asarray(self.model.predict_on_batch(images), np.float32)
        return softmax(outputs) if outputs_logits(self.model) else outputs

    def logits(self, images: Any) -> np.ndarray:
        """Returns the logits of each class: normalized images (N, H, W, C) -> float32 (N, classes).

        Those of a network that ends in its softmax are logarithms of probabilities: logits up to a constant per image.
        """
        return logits_from(self.model, np.asarray(self.model.predict_on_batch(images), np.float32))


def outputs_logits(model: keras.Model) -> bool:
    """Returns whether a classifier's outputs are logits, without an activation after them."""
    if isinstance(model.layers[-1], keras.layers.Softmax):
        return False
    activation = getattr(model.layers[-1], "activation", None)
    return activation is None or activation is keras.activations.linear


def logits_from(model: keras.Model, outputs: np.ndarray) -> np.ndarray:
    """Returns the logits for a classifier's outputs, or the logarithms of the probabilities if it returns those."""
    return outputs if outputs_logits(model) else log_probabilities(outputs)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the softmax along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Returns the logarithms of probabilities, which stay finite where these are 0."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
