"""Our own weights in one safetensors file: tensors, network, preprocessing, class names, and how they were trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from resnet_keras import files
from resnet_keras.data.class_names import check_class_names
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.conventions import Conventions

SUFFIX = ".safetensors"
_MEMBER = "resnet_keras"  # the one key of the header's metadata
_MOST_CHARACTERS = 2**22
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedWeights:
    """Facts about the weights in a file, in its header.

    Attributes:
        architecture: The network.
        preprocessing: From an image to the network's input.
        class_names: One name per output.
        dataset: Name of the data set of training and evaluation.
        recipe: All fields of the recipe, by its parts.
        command: The command that repeats the training.
        seed: Seed of the training.
        machine: Versions and hardware of the training.
        history: A row per epoch: loss, accuracy, those on test images, and the learning rate.
        evaluation: Errors of these very weights on all test images: `images`, `top1_error`, `top5_error`, `loss`.
        mirrored_evaluation: The same, averaged over each image and its mirror image.
        sha256: Hash of the tensors with their names, types and shapes.
    """

    architecture: Architecture
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    dataset: str
    recipe: dict[str, Any]
    command: str
    seed: int
    machine: dict[str, Any]
    history: tuple[dict[str, float], ...]
    evaluation: dict[str, Any]
    mirrored_evaluation: dict[str, Any]
    sha256: str


def rounded(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors of a network as files have them: kernels in float16, vectors in float32.

    Vectors are a hundredth of a network. In float16, small variances would lose their digits.

    Raises:
        ValueError: A number is not finite, or too large for float16.
    """
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused
        small = {
            name: np.ascontiguousarray(tensor, np.float16 if tensor.ndim > 1 else np.float32)
            for name, tensor in tensors.items()
        }
    for name, tensor in small.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"Expected finite weights that float16 can hold. Received: {name}, with others")
    return small


def tensor_hash(tensors: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of tensors with their names, types and shapes, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype.name} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def write_trained(path: str | Path, tensors: Mapping[str, np.ndarray], facts: TrainedWeights) -> None:
    """Writes tensors and their facts; an existing file is replaced once the new one is complete."""
    text = json.dumps(asdict(facts))
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"Expected at most {_MOST_CHARACTERS:,} characters of facts. Received: {len(text):,}")
    with files.new_file(path) as aside:
        # Unlike `save_file`, which lets nobody else read the file.
        aside.write_bytes(safetensors.numpy.save(dict(tensors), metadata={_MEMBER: text}))


def read_facts(path: Path) -> TrainedWeights | None:
    """Returns the facts in the header of a safetensors file; `None` if another library has written it.

    Raises:
        ValueError: The file is damaged, or its facts are malformed.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_MEMBER)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"Expected a whole safetensors file. Received: {path}, which can't be read: {error}"
        ) from error
    if text is None:
        return None
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"{len(text):,} characters of metadata")
        content = files.parse_json(text)
        architecture = content["architecture"]
        conventions = Conventions(**architecture.pop("conventions"))
        return TrainedWeights(
            **content
            | {
                "architecture": Architecture(**architecture, conventions=conventions),
                "preprocessing": Preprocessing(**content["preprocessing"]),
                "class_names": check_class_names(content["class_names"]),
                "history": tuple(map(dict, content["history"])),
            }
        )
    except _MALFORMED as error:
        raise ValueError(f"Expected the facts of trained weights in the header. Received: {path}: {error!r}") from error


def check_hash(tensors: Mapping[str, np.ndarray], facts: TrainedWeights, path: Path) -> None:
    """Checks that tensors are those that were written.

    Raises:
        ValueError: Their hash is another.
    """
    found = tensor_hash(tensors)
    if found != facts.sha256:
        raise ValueError(f"Expected tensors of SHA-256 {facts.sha256}. Received: {path}, with {found}; it is damaged")
