"""Weights that are published on the network: fetched when asked for, verified, kept.

`"imagenet"` means, for ResNet-50, -101 and -152, the weights of the paper's authors, and for those with activation
before convolutions TF-slim's, which `keras.applications` publishes; for ResNet-18 and -34, wide ResNets and ResNeXts
torchvision's, as timm has them on the Hugging Face hub. `"hf://OWNER/NAME"` means any repository of that hub.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from pathlib import Path
from types import ModuleType

import keras

from resnet_keras import extras

IMAGENET = "imagenet"
HUB = "hf://"

_AUTHORS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
_AUTHORS_MD5 = {
    "resnet50": "2cb95161c43110f7111970584f804107",
    "resnet101": "f1aeb4b969a6efcfb50fad2f0c20cfc5",
    "resnet152": "100835be76be38e30d865e96f2aaae62",
    "resnet50v2": "3ef43a0b657b3be2300d5770ece849e0",
    "resnet101v2": "6343647c601c52e1368623803854d971",
    "resnet152v2": "a49b44d1979771252814e80f8ec446f9",
}  # as keras.applications has them
_TORCHVISION = {
    "resnet18": "hf://timm/resnet18.tv_in1k",
    "resnet34": "hf://timm/resnet34.tv_in1k",
    "resnet50": "hf://timm/resnet50.tv_in1k",
    "resnet101": "hf://timm/resnet101.tv_in1k",
    "resnet152": "hf://timm/resnet152.tv_in1k",
    "resnext50_32x4d": "hf://timm/resnext50_32x4d.tv_in1k",
    "resnext101_32x8d": "hf://timm/resnext101_32x8d.tv_in1k",
    "resnext101_64x4d": "hf://timm/resnext101_64x4d.tv_in1k",
    "wide_resnet50_2": "hf://timm/wide_resnet50_2.tv_in1k",
    "wide_resnet101_2": "hf://timm/wide_resnet101_2.tv_in1k",
}
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def is_published(source: str) -> bool:
    """Tells whether a source names weights on the network."""
    return source in (IMAGENET, "torchvision") or source.startswith(HUB)


def fetch(source: str, network: str | None = None) -> Path:
    """Returns the file or folder that published weights lie in, after fetching them if they are not there.

    Args:
        source: "imagenet", "torchvision" or "hf://OWNER/NAME".
        network: Name of the network, which the first two need.

    Raises:
        ValueError: There are no such weights for the network, or what was fetched is not what was published.
        FileNotFoundError: They can't be fetched; the message says which file to put where.
        ImportError: The hub's library is not installed.
    """
    if source.startswith(HUB):
        return _from_hub(source)
    if source == IMAGENET and network in _AUTHORS_MD5:
        return _authors(network)
    if network not in _TORCHVISION:
        raise ValueError(
            f"Expected a network with published weights, one of {', '.join(_TORCHVISION)}. Received: {network}"
        )
    return _from_hub(_TORCHVISION[network])


def _authors(network: str) -> Path:
    name = f"{network}_weights_tf_dim_ordering_tf_kernels.h5"
    url = _AUTHORS_URL + name
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()  # where keras.applications keeps them, too
    there = home / "models" / name
    md5 = _AUTHORS_MD5[network]
    if there.is_file() and hashlib.md5(there.read_bytes()).hexdigest() == md5:
        return there
    try:
        path = keras.utils.get_file(name, url, cache_dir=str(home), cache_subdir="models", file_hash=md5)
    except Exception as error:  # Keras raises Exception itself
        if "hash" in str(error):
            raise ValueError(f"Expected {url} with the MD5 {md5}. Received: another file") from error
        raise FileNotFoundError(
            f"Expected {there}, or a network to fetch it by. Get {url} and put it there. Received: {error}"
        ) from error
    return Path(path)


def _from_hub(source: str) -> Path:
    """Returns the folder of a repository's weights and settings."""
    name = source.removeprefix(HUB)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise ValueError(f"Expected hf://OWNER/NAME. Received: {source}")
    hub = _hub_library(source)
    try:
        weights = _hub_weights(hub, name)
        for settings in ("config.json", "preprocessor_config.json"):
            try:
                hub.hf_hub_download(name, settings)
            except hub.errors.EntryNotFoundError:
                continue
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError) as error:
        cache = Path(hub.constants.HF_HUB_CACHE)
        raise FileNotFoundError(
            f"Expected {source} in {cache}, or a network to fetch it by. Get {_HUB_FILES[0]} and config.json of "
            f"https://huggingface.co/{name}, put both in a folder, and name the folder. Received: {error}"
        ) from error
    _verify(weights, source)
    return weights.parent


def _hub_weights(hub: ModuleType, name: str) -> Path:
    for file in _HUB_FILES:
        try:
            return Path(hub.hf_hub_download(name, file))
        except hub.errors.EntryNotFoundError as error:
            if isinstance(error, hub.errors.LocalEntryNotFoundError):  # no network, and not fetched before
                raise
    raise FileNotFoundError(f"none of {', '.join(_HUB_FILES)} is in it")


def _hub_library(source: str) -> ModuleType:
    with extras.required("hub", source):
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")


def _verify(path: Path, source: str) -> None:
    """Compares a file with the SHA-256 that the hub gave for it, which is its name in the hub's cache."""
    sha256 = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", sha256) and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        path.resolve().unlink()
        raise ValueError(
            f"Expected a file of SHA-256 {sha256} from {source}. Received: another, which is removed from {path.parent}"
        )
