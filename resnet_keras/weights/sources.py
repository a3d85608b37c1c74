"""Opening a source of weights: a file, a folder as a hub has it, a model, or a name of published weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import safetensors

from resnet_keras.data import class_names
from resnet_keras.data.datasets import DATASETS
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.weights import keras_file, published, torch_file
from resnet_keras.weights.conventions import Conventions, conventions_of_config, conventions_of_model
from resnet_keras.weights.hub_settings import (
    MALFORMED,
    check_other_networks,
    class_names_of,
    conventions_of_keras_hub,
    conventions_of_transformers,
    preprocessing_of_keras_hub,
    preprocessing_of_timm,
    preprocessing_of_transformers,
    read_settings,
)
from resnet_keras.weights.imported import ImportedWeights, import_arrays

CLASSIFIER_MEMBER = "classifier.json"
"""What a `.keras` file of ours holds beside what Keras writes: preprocessing and class names."""

_SAFETENSORS = ".safetensors"
_SUFFIXES = (_SAFETENSORS, *torch_file.SUFFIXES, *keras_file.SUFFIXES)
_FOLDER_FILES = ("model.keras", "model.safetensors", "pytorch_model.bin", "model.weights.h5", "task.weights.h5")
_NUMBER_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64,
    "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def open_weights(source: str | Path | keras.Model, network: str | None = None) -> ImportedWeights:
    """Returns the weights of a source in our names, with what it tells of preprocessing and classes.

    Args:
        source: A file (`.safetensors`; `.pth`, `.pt`, `.th`, `.bin`, `.ckpt` of PyTorch; `.keras`, `.weights.h5` or
            `.h5` of Keras); a folder as the Hugging Face hub or KerasHub has them, or of a finished run; a Keras model
            of ours, of `keras.applications` or of KerasHub; or the name of published weights: "imagenet",
            "torchvision" or "hf://OWNER/NAME".
        network: Name of the network, which "imagenet" and "torchvision" need.

    Raises:
        FileNotFoundError: There is no such file, or published weights can't be fetched.
        ValueError: The file is damaged, malicious or of another kind; or its weights are of no network like ours.
    """
    if isinstance(source, keras.Model):
        return _completed(
            import_arrays(keras_file.arrays_of_model(source), source.name, traits=_traits_of_model(source))
        )
    if published.is_published(str(source)):
        return open_weights(published.fetch(str(source), network))
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(
            f"Expected weights in a file ending in {', '.join(_SUFFIXES)}, a folder, or by the name 'imagenet', "
            f"'torchvision' or 'hf://OWNER/NAME'. Received: {str(source)!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"Expected a weights file. Received: {path}, which does not exist")
    if path.suffix == ".keras":
        return _from_archive(path)
    if path.suffix in keras_file.SUFFIXES:
        return _completed(import_arrays(keras_file.read_keras(path), str(path)))
    if path.name in _FOLDER_FILES and (path.parent / "config.json").is_file():
        return _from_hub_files(path)
    return _completed(import_arrays(_tensors(path), str(path)))


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a file in PyTorch's world."""
    if path.suffix != _SAFETENSORS:
        return torch_file.read_torch(path)
    try:
        content = safetensors.deserialize(path.read_bytes())
        return {
            name: np.frombuffer(about["data"], _NUMBER_TYPES[about["dtype"]]).reshape(about["shape"])
            for name, about in content
        }
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"Expected a whole safetensors file. Received: {path}, which can't be read: {error}"
        ) from error


def _from_archive(path: Path) -> ImportedWeights:
    """Opens a `.keras` file, of which only arrays and JSON are read."""
    arrays = keras_file.read_keras(path)
    config = keras_file.read_member(path, "config.json") or {}
    about = keras_file.read_member(path, CLASSIFIER_MEMBER)
    preprocessing, names = None, None
    try:
        traits = conventions_of_config(config)
        if about is not None:
            preprocessing, names = Preprocessing(**about["preprocessing"]), tuple(map(str, about["class_names"]))
    except MALFORMED as error:
        raise ValueError(f"Expected a .keras file with sound settings. Received: {path}: {error}") from error
    return _completed(import_arrays(arrays, str(path), traits=traits), preprocessing=preprocessing, names=names)


def _traits_of_model(model: keras.Model) -> Conventions | None:
    """Returns the traits of a model of ours; of another library's, its layout tells them."""
    ours = any(layer.name in ("stem_conv", "stem_conv1") for layer in model.layers)
    return conventions_of_model(model) if ours else None


def _from_folder(folder: Path) -> ImportedWeights:
    """Opens a folder as a hub has it: weights beside settings in JSON."""
    files = [folder / name for name in _FOLDER_FILES if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(f"Expected one of {', '.join(_FOLDER_FILES)} in {folder}. Received: none of them")
    if files[0].suffix == ".keras":
        return _from_archive(files[0])
    if files[0].suffix != ".h5":
        return _from_hub_files(files[0])
    try:
        traits = conventions_of_keras_hub(folder)
    except MALFORMED as error:
        raise ValueError(f"Expected settings as KerasHub writes them. Received: {folder}: {error}") from error
    arrays = {name: array for file in files for name, array in keras_file.read_keras(file).items()}
    return _completed(
        import_arrays(arrays, str(folder), traits=traits),
        preprocessing=read_settings(preprocessing_of_keras_hub, folder / "preprocessor.json"),
    )


def _from_hub_files(path: Path) -> ImportedWeights:
    """Opens the tensors of a folder of timm's or transformers', beside their settings."""
    settings = path.parent / "config.json"
    check_other_networks(settings)
    preprocessing = read_settings(preprocessing_of_timm, settings) or read_settings(
        preprocessing_of_transformers, path.parent / "preprocessor_config.json"
    )
    return _completed(
        import_arrays(_tensors(path), str(path), traits=read_settings(conventions_of_transformers, settings)),
        preprocessing=preprocessing,
        names=read_settings(class_names_of, settings),
    )


def _completed(
    found: ImportedWeights, *, preprocessing: Preprocessing | None = None, names: tuple[str, ...] | None = None
) -> ImportedWeights:
    """Returns a checkpoint with what its source does not tell, as its layout has it, and a note of each assumption."""
    notes = []
    about: dict[str, Any] = {"preprocessing": preprocessing, "class_names": names}
    if preprocessing is None and (assumed := _usual_preprocessing(found)) is not None:
        about["preprocessing"], note = assumed
        notes.append(note)
    if found.classes is not None and (names is None or len(names) != found.classes):
        about["class_names"], unknown = class_names.assumed_class_names(found.classes)
        notes += [unknown] if unknown else []
    return replace(found, **about, notes=tuple(notes))


def _usual_preprocessing(found: ImportedWeights) -> tuple[Preprocessing, str] | None:
    """Returns the preprocessing that is usual for a layout, and a sentence about it."""
    stem = found.tensors.get("stem_conv/kernel")
    if stem is None:
        stem = found.tensors.get("stem_conv1/kernel")
    if stem is None or stem.shape[2] != 3 or found.layout == "resnet_keras":
        return None
    imagenet, cifar10 = DATASETS["imagenet2012"], DATASETS["cifar10"]
    if found.layout == "MLPerf Tiny":
        preprocessing = Preprocessing(image_size=(32, 32), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
        return preprocessing, "pixels stay what they are, 0 to 255"
    if stem.shape[0] == 3 and "stem_conv/kernel" in found.tensors:
        # The widespread code with option A normalizes CIFAR by ImageNet's mean and std; others by CIFAR's own.
        projects = any("_projection" in name for name in found.tensors)
        chosen = cifar10 if projects else imagenet
        preprocessing = Preprocessing(image_size=(32, 32), channels=3, mean=chosen.mean, std=chosen.std)
        return preprocessing, f"pixels are normalized by {'CIFAR-10' if projects else 'ImageNet'}'s mean and std"
    if found.layout == "keras.applications" and "final_bn/gamma" in found.tensors:
        preprocessing = Preprocessing(
            image_size=(224, 224), channels=3, mean=(127.5,) * 3, std=(127.5,) * 3, shorter_side=256
        )
        return preprocessing, "pixels become -1 to 1; 224 of 256 pixels, bilinear"
    if found.layout == "keras.applications":
        preprocessing = Preprocessing(
            image_size=(224, 224),
            channels=3,
            mean=(103.939, 116.779, 123.68),
            std=(1.0, 1.0, 1.0),
            shorter_side=256,
            channel_order="bgr",
        )
        return preprocessing, "pixels become BGR and lose the authors' mean color; 224 of 256 pixels, bilinear"
    preprocessing = Preprocessing(
        image_size=(224, 224), channels=3, mean=imagenet.mean, std=imagenet.std, shorter_side=256
    )
    return preprocessing, "pixels are normalized by ImageNet's mean and std; 224 of 256 pixels, bilinear"
