"""Weights that are published on the network: fetched on demand, verified and kept.

`"imagenet"` names the weights of the paper's authors for ResNet-50, -101 and -152, and TF-slim's for their versions
with activation before convolutions, both as `keras.applications` publishes them; for ResNet-18 and -34, wide ResNets
and ResNeXts, torchvision's, as timm has them on the Hugging Face hub. `"hf://OWNER/NAME"` names any repository of that
hub.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib
import logging
import os
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from resnet_keras import files
from resnet_keras.checks import extras
from resnet_keras.checks.fields import nearest
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.catalog import architecture
from resnet_keras.weights.pretrained_files import is_pretrained
from resnet_keras.weights.safetensors_file import INDEX_SUFFIX, weight_map
from resnet_keras.weights.usual_preprocessing import IMAGENET_PHOTOS, KERAS_PHOTOS, KERAS_V2_PHOTOS

_log = logging.getLogger(__name__)

IMAGENET, TORCHVISION = "imagenet", "torchvision"
HUB = "hf://"

_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
SILENCE_SECONDS = 30.0
"""Longest time without an answer of a server, and without a byte of a file."""

_LEAST_SPEED = 10_000  # bytes a second, on average
_MOST_BYTES, _CHUNK = 2**30, 2**20
_HUB_FILES = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")


@dataclass(frozen=True)
class KerasFile:
    """A file of `keras.applications`, which states the MD5 of its files alone; the hub names files by their SHA-256."""

    name: str
    md5: str


def _keras_file(network: str, md5: str) -> KerasFile:
    return KerasFile(f"{network}_weights_tf_dim_ordering_tf_kernels.h5", md5)


PUBLISHED: dict[str, dict[str, KerasFile | str]] = {
    "resnet18": {IMAGENET: f"{HUB}timm/resnet18.tv_in1k", TORCHVISION: f"{HUB}timm/resnet18.tv_in1k"},
    "resnet34": {IMAGENET: f"{HUB}timm/resnet34.tv_in1k", TORCHVISION: f"{HUB}timm/resnet34.tv_in1k"},
    **{
        network: {IMAGENET: _keras_file(network, md5), TORCHVISION: f"{HUB}timm/{network}.tv_in1k"}
        for network, md5 in (
            ("resnet50", "2cb95161c43110f7111970584f804107"),
            ("resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5"),
            ("resnet152", "100835be76be38e30d865e96f2aaae62"),
        )
    },
    **{
        network: {IMAGENET: _keras_file(network, md5)}
        for network, md5 in (
            ("resnet50v2", "3ef43a0b657b3be2300d5770ece849e0"),
            ("resnet101v2", "6343647c601c52e1368623803854d971"),
            ("resnet152v2", "a49b44d1979771252814e80f8ec446f9"),
        )
    },
    **{
        network: {source: f"{HUB}timm/{network}.tv_in1k" for source in (IMAGENET, TORCHVISION)}
        for network in (
            *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
            *("wide_resnet50_2", "wide_resnet101_2"),
        )
    },
}
"""The published sources of each network: a file, or a repository of the hub."""


def is_published(source: str) -> bool:
    """Returns whether a source is the name of weights on the network."""
    return source in (IMAGENET, TORCHVISION) or source.startswith(HUB)


def fetch(source: str, network: str | None = None) -> Path:
    """Returns the file or folder of published weights, which are fetched if they are not there.

    Args:
        source: "imagenet", "torchvision" or "hf://OWNER/NAME".
        network: Name of the network, which the first two need.

    Raises:
        ValueError: There are no such weights for the network, or the fetched file is not the published one.
        FileNotFoundError: They can't be fetched; the message says which file to put where.
        ImportError: The hub's library is not installed.
    """
    if source.startswith(HUB):
        return _from_hub(source)
    place = _place(source, network)
    return _from_keras(place) if isinstance(place, KerasFile) else _from_hub(place)


def imagenet_preprocessing(network: str) -> Preprocessing:
    """Returns the preprocessing of a network's "imagenet" weights.

    Raises:
        ValueError: There are none for the network.
    """
    place = _place(IMAGENET, network)
    if not isinstance(place, KerasFile):
        return IMAGENET_PHOTOS.preprocessing
    before = architecture(network).activation == "before"
    return (KERAS_V2_PHOTOS if before else KERAS_PHOTOS).preprocessing


def license_of(source: str, network: str | None = None) -> str | None:
    """Returns the license of published weights or of weights in the package, in words; `None` if it is not known.

    Args:
        source: Name of the weights.
        network: Name of the network.
    """
    if is_pretrained(source, network):
        return "Apache License 2.0, that of resnet_keras"
    place = PUBLISHED.get(network or "", {}).get(source, source)
    if isinstance(place, KerasFile):
        before = architecture(network or "").activation == "before"
        return "Apache License 2.0 (TF-slim)" if before else "MIT License (Kaiming He)"
    if not place.startswith(HUB):
        return None
    if re.fullmatch(rf"{HUB}timm/\w+\.tv_in1k", place):
        return "BSD 3-Clause License (torchvision)"
    return f"that of https://huggingface.co/{place.removeprefix(HUB)}"


def _place(source: str, network: str | None) -> KerasFile | str:
    known = [name for name, sources in PUBLISHED.items() if source in sources]
    if network not in known:
        raise ValueError(
            f"Expected a network with published weights called {source!r}, one of {', '.join(known)}. "
            f"Received: {network}.{nearest(network or '', known)}"
        )
    return PUBLISHED[network][source]


def _from_keras(file: KerasFile) -> Path:
    url = _KERAS_URL + file.name
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()  # where keras.applications keeps them, too
    there = home / "models" / file.name
    if there.is_file() and hashlib.md5(there.read_bytes()).hexdigest() == file.md5:
        return there
    _log.info("fetching %s", url)
    try:
        return _download(url, there, file.md5)
    except (OSError, http.client.HTTPException) as error:  # of the network and of the disk
        raise FileNotFoundError(
            f"Expected {there}, or a network to fetch it by. Get {url} and put it there. Received: {error}"
        ) from error


def _download(url: str, to: Path, md5: str) -> Path:
    """Fetches a file to a place, in bounded time.

    Raises:
        ValueError: It has another MD5; nothing is kept.
        OSError: There is silence, or little more, or the place is not writable.
    """
    begun, size, digest = time.monotonic(), 0, hashlib.md5()
    with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as response, files.new_file(to) as aside:
        with aside.open("wb") as file:
            while content := response.read1(_CHUNK):
                file.write(content)
                digest.update(content)
                size += len(content)
                seconds = time.monotonic() - begun
                if seconds > SILENCE_SECONDS + size / _LEAST_SPEED:
                    raise TimeoutError(f"{size:,} bytes in {seconds:.0f} s")
                if size > _MOST_BYTES:
                    raise ValueError(f"Expected {url} of at most {_MOST_BYTES:,} bytes. Received: a larger file")
        if digest.hexdigest() != md5:
            raise ValueError(f"Expected {url} with the MD5 {md5}. Received: another file, which is not kept")
    return to


def _from_hub(source: str) -> Path:
    """Returns the folder with a repository's weights and settings."""
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
    except Exception as error:  # of the hub's library, or of the one that it fetches with: httpx or requests
        cache = Path(hub.constants.HF_HUB_CACHE)
        raise FileNotFoundError(
            f"Expected {source} in {cache}, or a network to fetch it by. Get {_HUB_FILES[0]} and config.json of "
            f"https://huggingface.co/{name}, put both in a folder, and name the folder. Received: {error}"
        ) from error
    for file in weights:
        _verify(file, source)
    return weights[0].parent


def _hub_weights(hub: ModuleType, name: str) -> list[Path]:
    """Returns the file of the weights, or the index of their shards and all shards."""
    unreachable: Exception | None = None  # then other files may have been fetched before
    for file in _HUB_FILES:
        try:
            found = Path(hub.hf_hub_download(name, file, local_files_only=unreachable is not None))
        except hub.errors.LocalEntryNotFoundError as error:  # after 23 seconds of trying
            unreachable = unreachable or error
            continue
        except hub.errors.EntryNotFoundError:
            continue
        shards = sorted(set(weight_map(found).values())) if file.endswith(INDEX_SUFFIX) else []
        return [found, *(Path(hub.hf_hub_download(name, shard)) for shard in shards)]
    raise unreachable or FileNotFoundError(f"none of {', '.join(_HUB_FILES)} is in it")


def _hub_library(source: str) -> ModuleType:
    with extras.required("hub", source):
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")


def _verify(path: Path, source: str) -> None:
    """Compares a file with its hash on the hub, which is its name in the hub's cache: SHA-256, or Git's of a blob."""
    stated, content = path.resolve().name, path.read_bytes()
    hashes = {
        64: hashlib.sha256(content).hexdigest(),
        40: hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
    }
    # Without symbolic links, the cache has the files under their own names.
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", stated) and hashes[len(stated)] != stated:
        path.resolve().unlink()
        kind = "SHA-256" if len(stated) == 64 else "Git's hash"
        raise ValueError(
            f"Expected a file of {kind} {stated} from {source}. Received: another file, which is removed from "
            f"{path.parent}"
        )
