"""A network with its preprocessing and class names: one file, and methods that take images as they are."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from resnet_keras.applications.class_map import Explanation, class_map, over_image
from resnet_keras.applications.loaded_network import load_network
from resnet_keras.applications.outputs import features_and_logits, head_of, logits_from, probabilities_from
from resnet_keras.applications.top_classes import Prediction, check_top_k, most_probable
from resnet_keras.checks.fields import nearest
from resnet_keras.checks.tensorflow_errors import reason_of
from resnet_keras.data.class_names import check_class_names, class_indices
from resnet_keras.data.input_images import input_batches, read_images
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.keras_archive import open_archive, save_archive
from resnet_keras.weights.keras_file import read_member
from resnet_keras.weights.sources import CLASSIFIER_MEMBER

RUN_MODEL = "model.keras"
_MOST_REASON = 300  # characters: some of Keras's messages hold a whole configuration

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class Classifier:
    """A network, its preprocessing and its class names.

    Its methods take images as they are: files, folders, bytes, Pillow images, arrays and tensors of pixels 0–255, of
    any size and channels. They resize, crop and normalize them, 32 at a time.

    Its file is a `.keras` archive, which `keras.saving.load_model` opens, with one more member.

    Example:
        >>> import resnet_keras
        >>> classifier = resnet_keras.Classifier.from_pretrained("imagenet", model="resnet50")
        >>> print(classifier.predict("photo.jpg")[0])

    Attributes:
        model: A network of normalized images (N, H, W, C) to logits, their softmax, or for several labels per image the
            sigmoid of each (N, classes).
        preprocessing: From an image to the network's input.
        class_names: One name per output.

    Raises:
        ValueError: The network does not have one output per class name, has only one, or ends in another activation; or
            a name is not a line of text.
    """

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", check_class_names(self.class_names))
        outputs = self.model.output_shape
        if len(outputs) != 2 or outputs[1] != len(self.class_names):
            raise ValueError(
                f"Expected a network with one output per class name ({len(self.class_names)}). "
                f"Received: {self.model.name}, with outputs of shape {outputs}"
            )
        head_of(self.model)
        _tell_scale(self.preprocessing.mean, self.preprocessing.std)

    def __repr__(self) -> str:
        """Returns the network's name, the size of its images, and the number of classes with the first of them."""
        (height, width), channels = self.preprocessing.image_size, self.preprocessing.channels
        names = ", ".join(self.class_names[:3]) + (", ..." if len(self.class_names) > 3 else "")
        return f"Classifier({self.model.name}, {height}x{width}x{channels}, {len(self.class_names)} classes: {names})"

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | keras.Model | ImportedWeights,
        *,
        model: str | None = None,
        preprocessing: Preprocessing | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Classifier:
        """Returns the classifier of any source of weights.

        Class names and preprocessing come from the source, or are those that are usual for its library.

        Args:
            source: The name of weights in the package, one of `resnet_keras.list_pretrained`, such as
                "resnet20_digits"; a run's folder; a file of this package, of PyTorch, Keras or safetensors; a folder of
                a hub; a Keras model; or the name of published weights: "imagenet", "torchvision" or
                "hf://OWNER/NAME". See `resnet_keras.weights.open_weights`.
            model: Name of the network, such as "resnet50", which "imagenet" and "torchvision" need.
            preprocessing: Replaces that of the source.
            class_names: Replace those of the source, in the order of the network's outputs.

        Raises:
            FileNotFoundError: There is no such source, or published weights can't be fetched.
            ValueError: The source is damaged, malicious, without a classifier or without a known layout; or
                preprocessing and class names do not fit the network.
        """
        path = Path(source, RUN_MODEL) if isinstance(source, (str, Path)) and Path(source).is_dir() else source
        if isinstance(path, (str, Path)) and _is_whole(Path(path)):
            saved = cls.load(path)
            return cls(saved.model, preprocessing or saved.preprocessing, tuple(class_names or saved.class_names))
        loaded = load_network(source, network=model, preprocessing=preprocessing, class_names=class_names)
        _log.info("%s", loaded.report)
        return cls(loaded.model, loaded.preprocessing, loaded.class_names)

    @classmethod
    def load(cls, source: str | Path) -> Classifier:
        """Returns the classifier in a file that `save` wrote, or the final one of a run's folder.

        Raises:
            FileNotFoundError: There is no such file, or no finished run in the folder.
            ValueError: The file is not a `.keras` archive, is damaged or malicious, or has neither preprocessing nor
                class names.
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
        try:
            preprocessing = Preprocessing(**metadata["preprocessing"])
            names = check_class_names(metadata["class_names"])
            return cls(open_archive(path), preprocessing, names)
        except Exception as error:  # of any kind, from Keras
            raise ValueError(
                f"Expected a whole .keras file. Received: {path}, which can't be read: {_reason(error)}"
            ) from error

    def save(self, path: str | Path) -> None:
        """Writes a `.keras` file; an existing one is replaced once the new one is complete."""
        metadata = {"preprocessing": self.preprocessing.to_json(), "class_names": self.class_names}
        save_archive(self.model, path, CLASSIFIER_MEMBER, metadata)

    def export(self, to: str | Path = "saved_models", **options: Any) -> Any:
        """Publishes the classifier as a SavedModel and LiteRT files; see `resnet_keras.export` for the options.

        Args:
            to: Folder of all exports.
            **options: `name`, `dataset`, `data_dir`, `formats` and the other arguments of `resnet_keras.export`. A
                classifier does not know a data set, so `dataset` is needed.

        Returns:
            The folder and the measurements of each artifact (`resnet_keras.exporting.Export`).
        """
        # Exporting builds on this module. Its public name loads it on this call only, so that imports keep one
        # direction and a notebook user finds the method where the classifier is.
        import resnet_keras

        return resnet_keras.export(self, to, **options)

    def predict(self, images: Any, top_k: int = 5) -> list[Prediction]:
        """Returns the `top_k` most probable classes of each image: always a list, of one prediction for one image.

        Pixels are 0–255, as in `keras.applications`. Floats of 0–1 and normalized ones are refused. Of 16 bits, the
        upper 8 count. An alpha channel is dropped; gray and color are converted to what the network has. Files and
        Pillow images are turned upright by their EXIF orientation.

        Args:
            images: A path, a folder, the bytes of an image file, a Pillow image, an array or a tensor of (H, W),
                (H, W, C) or (N, H, W, C) with 1, 3 or 4 channels; or a list or an iterator of these.
            top_k: Number of classes per image.

        Returns:
            A `Prediction` for each image, in order; the images of a folder by their names.

        Raises:
            FileNotFoundError: A path does not exist, or a folder contains no image.
            ValueError: A file is damaged (the message names it), an array has another shape or other pixels, an image
                has more than 178,956,970 pixels, something is no image, or `top_k` is below 1.
        """
        check_top_k(top_k)
        return [
            prediction
            for paths, inputs in input_batches(images, self.preprocessing)
            for prediction in most_probable(paths, self.probabilities_of_inputs(inputs), self.class_names, top_k)
        ]

    def probabilities(self, images: Any) -> np.ndarray:
        """Returns the probability of each class, float32 (N, classes); see `predict` for images and errors."""
        parts = [self.probabilities_of_inputs(inputs) for _, inputs in input_batches(images, self.preprocessing)]
        return np.concatenate([np.zeros((0, len(self.class_names)), np.float32), *parts])

    def logits(self, images: Any) -> np.ndarray:
        """Returns the logits of each class, float32 (N, classes); see `predict` for images and errors."""
        parts = [self.logits_of_inputs(inputs) for _, inputs in input_batches(images, self.preprocessing)]
        return np.concatenate([np.zeros((0, len(self.class_names)), np.float32), *parts])

    def embed(self, images: Any) -> np.ndarray:
        """Returns the pooled features, which the last layer classifies, float32 (N, C); see `predict` for images."""
        network = self._features
        parts = [network.predict_on_batch(inputs) for _, inputs in input_batches(images, self.preprocessing)]
        return np.concatenate([np.zeros((0, network.output_shape[-1]), np.float32), *parts]).astype(np.float32)

    def preprocess(self, images: Any) -> np.ndarray:
        """Returns images as the network takes them, float32 (N, *image_size, C); see `predict` for images and errors.

        They are resized, cropped and normalized, and all of them are held in memory.
        """
        empty = np.zeros((0, *self.preprocessing.image_size, self.preprocessing.channels), np.float32)
        return np.concatenate([empty, *(inputs for _, inputs in input_batches(images, self.preprocessing))])

    def explain(self, image: Any, class_name: str | None = None) -> Explanation:
        """Returns where in an image the network finds a class, by Grad-CAM (arXiv:1610.02391).

        Example:
            >>> explanation = classifier.explain("photo.jpg", "canoe")
            >>> explanation.save("canoe.png")  # the heat map over the picture

        Args:
            image: One image, in any form that `predict` takes.
            class_name: The class, by its name or, of ImageNet, its WordNet id; the most probable one if `None`.

        Raises:
            ValueError: There is not one image, or none at all; the class is unknown; or the network does not average
                its last feature map.
        """
        found = list(itertools.islice(read_images(image, self.preprocessing.channels), 2))
        if len(found) != 1:
            raise ValueError(f"Expected one image. Received: {'none' if not found else 'several'}")
        pixels = found[0].pixels
        height, width = pixels.shape[:2]
        ((_, inputs),) = input_batches(pixels, self.preprocessing)
        probabilities = self.probabilities_of_inputs(inputs)[0]
        index = int(probabilities.argmax()) if class_name is None else self._class_index(class_name)
        heat = over_image(class_map(self.model, inputs, index), height, width, self.preprocessing)
        shown = np.broadcast_to(np.rint(pixels).astype(np.uint8), (height, width, 3))
        return Explanation(shown, heat, self.class_names[index], float(probabilities[index]), found[0].path)

    def _class_index(self, class_name: str) -> int:
        found = class_indices([class_name], self.class_names)
        if found is None:
            raise ValueError(
                f"Expected one of the classifier's {len(self.class_names)} classes. "
                f"Received: {class_name!r}.{nearest(class_name, self.class_names)}"
            )
        return found[0]

    def probabilities_of_inputs(self, inputs: Any) -> np.ndarray:
        """Returns the probability of each class: normalized images (N, H, W, C) -> float32 (N, classes)."""
        outputs = np.asarray(self.model.predict_on_batch(inputs), np.float32)
        return probabilities_from(head_of(self.model), outputs)

    def logits_of_inputs(self, inputs: Any) -> np.ndarray:
        """Returns the logits of each class: normalized images (N, H, W, C) -> float32 (N, classes).

        Those of a network that ends in its softmax are logarithms of probabilities: logits up to a constant per image.
        Those of one that ends in the sigmoid of each class are the logarithms of the odds.
        """
        return logits_from(self.model, np.asarray(self.model.predict_on_batch(inputs), np.float32))

    @functools.cached_property
    def _features(self) -> keras.Model:
        """The network up to its pooled features."""
        network = features_and_logits(self.model)
        return keras.Model(network.input, network.output["features"], name=f"{self.model.name}_features")


def _reason(error: Exception) -> str:
    """Returns the message of an error in one line; a `KeyError` has a sentence or only the key."""
    said = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, KeyError) and " " not in said:
        said = f"it has no {said!r}"
    return reason_of(said)[:_MOST_REASON] or type(error).__name__


def _is_whole(path: Path) -> bool:
    """Returns whether a file has network, preprocessing and class names, as `save` writes them."""
    return path.suffix == ".keras" and path.is_file() and read_member(path, CLASSIFIER_MEMBER) is not None


@functools.cache  # once for the same numbers
def _tell_scale(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Warns of a mean and a standard deviation that are those of pixels from 0 to 1."""
    if all(0 < value <= 1 for value in (*mean, *std)):
        _log.warning(
            f"mean {mean} and std {std} look like those of pixels from 0 to 1; pixels are 0-255 here: multiply both by "
            "255"
        )
