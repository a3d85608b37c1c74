"""Class names of ImageNet and CIFAR-10, and of files that do not hold them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def imagenet_class_names() -> tuple[str, ...]:
    """Returns the names of ImageNet's 1000 classes (ILSVRC2012), in the order of their WordNet ids.

    They are the first names that WordNet 3.0 has for them; the few that two classes share have WordNet ids appended.
    """
    pairs = _imagenet()
    names = [name for _, name in pairs]
    return tuple(name if names.count(name) == 1 else f"{name} ({wordnet_id})" for wordnet_id, name in pairs)


def imagenet_words() -> tuple[str, ...]:
    """Returns the names as in `keras.applications`: words are joined by "_", and two classes may share a name."""
    return tuple(name.replace(" ", "_") for _, name in _imagenet())


def wordnet_ids() -> tuple[str, ...]:
    """Returns the WordNet ids of ImageNet's 1000 classes, in order."""
    return tuple(wordnet_id for wordnet_id, _ in _imagenet())


def _imagenet() -> list[list[str]]:
    """Returns the WordNet id and the name of each class."""
    lines = (resources.files("resnet_keras") / "data" / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return [line.split(" ", 1) for line in lines]


def class_indices(names: Sequence[str], among: Sequence[str]) -> list[int] | None:
    """Returns the index of each of `names` among other names, or `None` if one is missing.

    ImageNet's classes are also found by their WordNet ids. So a network of all classes can classify a folder of some.
    """
    known = {name: index for index, name in enumerate(among)}
    if tuple(among) == imagenet_class_names():
        known |= {wordnet_id: index for index, wordnet_id in enumerate(wordnet_ids())}
    return [known[name] for name in names] if all(name in known for name in names) else None


def assumed_class_names(classes: int) -> tuple[tuple[str, ...], str | None]:
    """Returns names for a number of classes, and the assumption about them as a sentence, if any."""
    if classes == 1000:
        return imagenet_class_names(), "1000 classes are taken for ImageNet's"
    if classes == 10:
        return _CIFAR10, "10 classes are taken for CIFAR-10's"
    return tuple(map(str, range(classes))), f"the names of the {classes} classes are not known: they are numbered"


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Returns the class names in a text file, one a line, in the order of the network's outputs.

    Raises:
        ValueError: The file is not text, or is empty.
    """
    try:
        names = tuple(line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected a text file of class names. Received: {path}, which is not text") from error
    if not names:
        raise ValueError(f"Expected class names, one a line. Received: {path}, which holds none")
    return names
