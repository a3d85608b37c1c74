"""Opens a source of weights: a file, a folder as a hub has it, a model, or the name of published weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from resnet_keras.checks.fields import nearest
from resnet_keras.data import class_names
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights import keras_file, pretrained_files, published, safetensors_file, torch_file
from resnet_keras.weights.hub_settings import (
    MALFORMED,
    check_keras_cv,
    check_other_networks,
    class_names_of,
    conventions_of_keras_hub,
    conventions_of_timm,
    conventions_of_transformers,
    preprocessing_of_keras_hub,
    preprocessing_of_timm,
    preprocessing_of_transformers,
    read_settings,
)
from resnet_keras.weights.imported import ImportedWeights, import_arrays
from resnet_keras.weights.model_conventions import (
    check_pixels,
    check_pixels_of_model,
    conventions_of_config,
    conventions_of_model,
    last_activation,
)
from resnet_keras.weights.torch_checkpoint import TorchCheckpoint, open_torch
from resnet_keras.weights.weights_file import check_hash, read_facts

CLASSIFIER_MEMBER, SEGMENTER_MEMBER = "classifier.json", "segmenter.json"
LOCALIZER_MEMBER, DETECTOR_MEMBER = "localizer.json", "detector.json"
"""Members of our `.keras` files that Keras does not write: preprocessing and class names."""

_SAFETENSORS = safetensors_file.SUFFIX
SUFFIXES = (_SAFETENSORS, *torch_file.SUFFIXES, *keras_file.SUFFIXES, safetensors_file.INDEX_SUFFIX)
"""What the names of files of weights end in."""
_FOLDER_FILES = (
    *("model.keras", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    *("model.weights.h5", "task.weights.h5"),
)
_CIFAR_SIZE = (32, 32)
_IMAGENET_SIZE = (224, 224)
_WITHOUT_PIXEL_LAYERS = ("resnet_keras", "keras.applications")  # others have their usual ones in the network
_KERAS_CV_SETTINGS = ("stackwise_strides", "stackwise_dilations", "num_classes", "pooling")


@dataclass(frozen=True)
class _Choice:
    """Choice among the weights of one source; see `open_weights`."""

    prefix: str | None = None
    averaged: bool = True


def open_weights(
    source: str | Path | keras.Model,
    network: str | None = None,
    *,
    prefix: str | None = None,
    averaged: bool = True,
) -> ImportedWeights:
    """Returns the weights of a source under our names, with preprocessing and class names where they are known.

    Args:
        source: A file (`.safetensors` or the `.safetensors.index.json` of its shards; `.pth`, `.pth.tar`, `.pt`, `.th`,
            `.bin`, `.ckpt` of PyTorch; `.keras`, `.weights.h5` or `.h5` of Keras); a folder of the Hugging Face hub, of
            KerasHub or of a finished run; a Keras model of this package, of `keras.applications`, KerasHub or KerasCV;
            the name of weights in the package, one of `list_pretrained`, or its data set, "digits"; or the name of
            published weights: "imagenet", "torchvision" or "hf://OWNER/NAME". Names come before files that are called
            the same.
        network: Name of the network, which "imagenet", "torchvision" and data sets need.
        prefix: What the names of the network begin with, where a file has several: "encoder_q" of MoCo, "teacher" of a
            distillation.
        averaged: Whether to take the moving average of the weights where a training program wrote both, as timm does.

    Raises:
        FileNotFoundError: There is no such file, or published weights can't be fetched.
        ValueError: The file is damaged, malicious or not a weights file; its weights have no known layout; or it has
            several networks, or none of this prefix.
    """
    choice = _Choice(prefix, averaged)
    if isinstance(source, keras.Model):
        _check_keras_cv_model(source)
        found = import_arrays(
            keras_file.arrays_of_model(source), source.name, conventions=_conventions_of_model(source), prefix=prefix
        )
        if found.layout in _WITHOUT_PIXEL_LAYERS:
            check_pixels_of_model(source)
        activation = getattr(flat_layers(source)[-1], "activation", None)
        return _completed(_with_activation(found, getattr(activation, "__name__", activation)))
    if published.is_published(str(source)):
        return open_weights(published.fetch(str(source), network), prefix=prefix, averaged=averaged)
    if pretrained_files.is_pretrained(str(source), network):
        return open_weights(pretrained_files.pretrained_file(str(source), network))
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, choice)
    if not path.name.endswith(SUFFIXES):
        names = pretrained_files.list_pretrained()
        of_network = (
            " For that network, name 'imagenet' or 'torchvision'." if str(source) in published.PUBLISHED else ""
        )
        raise ValueError(
            f"Expected weights in a file ending in {', '.join(SUFFIXES)}, a folder, or by the name 'imagenet', "
            f"'torchvision', 'hf://OWNER/NAME', {', '.join(map(repr, names))}. Received: {str(source)!r}."
            f"{of_network or nearest(str(source), (*names, *_published_names()))}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"Expected a weights file. Received: {path}, which does not exist")
    if path.suffix == ".keras":
        return _from_archive(path)
    if path.suffix in keras_file.SUFFIXES:
        return _completed(import_arrays(keras_file.read_keras(path), str(path), prefix=prefix))
    if path.name in _FOLDER_FILES and (path.parent / "config.json").is_file():
        return _from_hub_files(path, choice)
    return _from_tensors(path, choice)


def _published_names() -> list[str]:
    return sorted({name for sources in published.PUBLISHED.values() for name in sources})


def _from_tensors(path: Path, choice: _Choice) -> ImportedWeights:
    """Opens a safetensors file, which may be our own, or a PyTorch checkpoint."""
    content = _tensors(path, choice)
    facts = read_facts(path) if path.suffix == _SAFETENSORS else None
    if facts is None:
        found = import_arrays(content.tensors, str(path), prefix=choice.prefix, notes=content.notes)
        return _completed(found, names=content.class_names)
    check_hash(content.tensors, facts, path)
    found = import_arrays(content.tensors, str(path), conventions=facts.architecture.conventions)
    return _completed(found, preprocessing=facts.preprocessing, names=facts.class_names)


def _tensors(path: Path, choice: _Choice) -> TorchCheckpoint:
    """Returns the tensors of a safetensors file, of its shards, or of a PyTorch checkpoint."""
    if path.name.endswith((_SAFETENSORS, safetensors_file.INDEX_SUFFIX)):
        return TorchCheckpoint(safetensors_file.read_safetensors(path))
    return open_torch(path, averaged=choice.averaged)


def _from_archive(path: Path) -> ImportedWeights:
    """Opens a `.keras` file; only its arrays and JSON are read."""
    arrays = keras_file.read_keras(path)
    config = keras_file.read_member(path, "config.json") or {}
    members = (CLASSIFIER_MEMBER, SEGMENTER_MEMBER, LOCALIZER_MEMBER, DETECTOR_MEMBER)
    found = ((name, keras_file.read_member(path, name)) for name in members)
    member, metadata = next(((name, content) for name, content in found if content is not None), (None, None))
    preprocessing, names = None, None
    try:
        _check_keras_cv_config(config, str(path))
        conventions = conventions_of_config(config)
        activation = last_activation(config)
        if metadata is not None:
            preprocessing, names = (
                Preprocessing(**metadata["preprocessing"]),
                class_names.check_class_names(metadata["class_names"]),
            )
            if member == DETECTOR_MEMBER:  # whose images are larger than those that its backbone is for
                preprocessing = preprocessing.at(_IMAGENET_SIZE)
    except MALFORMED as error:
        raise ValueError(f"Expected a .keras file with valid settings. Received: {path}: {error}") from error
    weights = import_arrays(arrays, str(path), conventions=conventions)
    if weights.layout in _WITHOUT_PIXEL_LAYERS:
        check_pixels(config, str(path))
    return _completed(_with_activation(weights, activation), preprocessing=preprocessing, names=names)


def _with_activation(found: ImportedWeights, activation: Any) -> ImportedWeights:
    """Returns the weights of a Keras model that ends in an activation, `None` without one.

    Raises:
        ValueError: The activation of its classifier is none that a network of this package ends in.
    """
    if found.classes is not None and activation not in (None, "linear", "softmax", "log_softmax", "sigmoid"):
        raise ValueError(
            "Expected a classifier that ends in logits, their softmax, or the sigmoid of each class. "
            f"Received: {found.source}, which ends in the activation {activation}"
        )
    return replace(found, several_labels=found.classes is not None and activation == "sigmoid")


def _conventions_of_model(model: keras.Model) -> Conventions | None:
    """Returns the conventions of a model of this package; those of another library are usual for its layout."""
    ours = any(layer.name in ("stem_conv", "stem_conv1") for layer in flat_layers(model))
    return conventions_of_model(model) if ours else None


def _check_keras_cv_model(model: keras.Model) -> None:
    for each in (model, *_nested_models(model)):
        settings = {name: getattr(each, name) for name in _KERAS_CV_SETTINGS if hasattr(each, name)}
        check_keras_cv(settings, model.name)


def _nested_models(model: keras.Model) -> Iterator[keras.Model]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield layer
            yield from _nested_models(layer)


def _check_keras_cv_config(config: Any, source: str) -> None:
    """Checks the settings of KerasCV's classes anywhere in a configuration."""
    if isinstance(config, Mapping):
        check_keras_cv(config, source)
        for value in config.values():
            _check_keras_cv_config(value, source)
    elif isinstance(config, list):
        for value in config:
            _check_keras_cv_config(value, source)


def _from_folder(folder: Path, choice: _Choice) -> ImportedWeights:
    """Opens a folder of a hub: weights beside settings in JSON."""
    files = [folder / name for name in _FOLDER_FILES if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(
            f"Expected a finished run's folder, or a hub's with one of {', '.join(_FOLDER_FILES)}. Received: {folder}, "
            "without any of them"
        )
    if files[0].suffix == ".keras":
        return _from_archive(files[0])
    if files[0].suffix != ".h5":
        return _from_hub_files(files[0], choice)
    try:
        conventions = conventions_of_keras_hub(folder)
    except MALFORMED as error:
        raise ValueError(f"Expected settings as KerasHub writes them. Received: {folder}: {error}") from error
    arrays = {name: array for file in files for name, array in keras_file.read_keras(file).items()}
    return _completed(
        import_arrays(arrays, str(folder), conventions=conventions),
        preprocessing=read_settings(preprocessing_of_keras_hub, folder / "preprocessor.json"),
    )


def _from_hub_files(path: Path, choice: _Choice) -> ImportedWeights:
    """Opens a folder of timm or transformers: tensors beside settings in JSON."""
    settings = path.parent / "config.json"
    check_other_networks(settings)
    preprocessing = read_settings(preprocessing_of_timm, settings) or read_settings(
        preprocessing_of_transformers, path.parent / "preprocessor_config.json"
    )
    content = _tensors(path, choice)
    found = import_arrays(
        content.tensors,
        str(path),
        conventions=read_settings(conventions_of_transformers, settings).merged(
            read_settings(conventions_of_timm, settings)
        ),
        prefix=choice.prefix,
        notes=content.notes,
    )
    names = read_settings(class_names_of, settings) or content.class_names
    return _completed(found, preprocessing=preprocessing, names=names)


def _completed(
    found: ImportedWeights, *, preprocessing: Preprocessing | None = None, names: tuple[str, ...] | None = None
) -> ImportedWeights:
    """Returns the weights with preprocessing and class names, and a note of each that is assumed."""
    notes = list(found.notes)
    usual = found.usual_preprocessing
    if preprocessing is None and usual is not None:
        preprocessing = usual.preprocessing
        notes.append(usual.note)
    # One output may have two names: see `with_two_classes`.
    counts = (1, 2) if found.classes == 1 else (found.classes,)
    if found.classes is not None and names is not None and len(names) not in counts:
        notes.append(f"the source names {len(names)} classes, and its classifier has {found.classes}")
        names = None
    if found.classes is not None and names is None:
        small = preprocessing is not None and preprocessing.image_size == _CIFAR_SIZE
        names, unknown = class_names.assumed_class_names(found.classes, is_cifar=small)
        notes += [unknown] if unknown else []
    return replace(found, preprocessing=preprocessing, class_names=names, notes=tuple(notes))
