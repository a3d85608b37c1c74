"""Class names of ImageNet and CIFAR-10, and of files that do not hold them."""

from __future__ import annotations

import reprlib
import unicodedata
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from resnet_keras import files

_MOST_CHARACTERS = 1000
_MOST_BYTES = 2**26  # of a file; that of ImageNet's classes has 35 kB
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def check_class_names(names: Iterable[Any]) -> tuple[str, ...]:
    """Returns class names unchanged, as a tuple.

    Exports write them one a line, and programs print them.

    Raises:
        ValueError: One is not text, empty, longer than 1,000 characters, or has a line break, a control character, or
            what UTF-8 cannot encode; the message shows it.
    """
    checked = (names,) if isinstance(names, str) else tuple(names)
    for name in checked:
        if not isinstance(name, str) or not name.strip() or len(name) > _MOST_CHARACTERS or _unprintable(name):
            raise ValueError(
                f"Expected class names of printable text in one line; rename the class. Received: {reprlib.repr(name)}"
            )
    return checked


def _unprintable(name: str) -> bool:
    return not name.isprintable() and any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in name)


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


def assumed_class_names(classes: int, *, is_cifar: bool) -> tuple[tuple[str, ...], str | None]:
    """Returns names for a number of classes, and the assumption about them as a sentence, if any.

    Args:
        classes: Number of classes.
        is_cifar: Whether the network is one of CIFAR's images.
    """
    if classes == 1000:
        return imagenet_class_names(), "1000 classes are taken for ImageNet's"
    if classes == 10 and is_cifar:
        return _CIFAR10, "10 classes are taken for CIFAR-10's"
    return tuple(map(str, range(classes))), f"the names of the {classes} classes are not known: they are numbered"


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Returns the class names in a file, in the order of the network's outputs.

    Args:
        path: A text file with a name in each line; or JSON: a list of names, names by index as in Keras's
            `imagenet_class_index.json` ({"0": ["n01440764", "tench"], ...}), or indices by name as in `class_indices`
            of Keras's image generators ({"cat": 0, "dog": 1}).

    Raises:
        ValueError: The file is not text, is empty, or is JSON of another form; see also `check_class_names`.
    """
    if Path(path).stat().st_size > _MOST_BYTES:
        raise ValueError(f"Expected a file of class names of at most {_MOST_BYTES:,} bytes. Received: {path}")
    content = Path(path).read_bytes()
    try:
        # Windows marks the encoding of text by its first bytes.
        text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected a text file of class names. Received: {path}, which is not text") from error
    if text.lstrip().startswith(("[", "{")):
        names = _names_in_json(text, path)
    else:
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names:
        raise ValueError(f"Expected class names, one a line. Received: {path}, which holds none")
    return check_class_names(names)


def _names_in_json(text: str, path: str | Path) -> tuple[str, ...]:
    refused = ValueError(
        'Expected JSON of class names: ["cat", "dog"], {"0": "cat", "1": "dog"} or {"cat": 0, "dog": 1}. '
        f"Received: {path}"
    )
    try:
        content = files.parse_json(text)
    except ValueError as error:
        raise refused from error
    if isinstance(content, dict) and all(isinstance(value, int) for value in content.values()):
        content = {str(index): name for name, index in content.items()}
    if isinstance(content, dict):
        if set(content) != {str(index) for index in range(len(content))}:
            raise refused
        content = [content[str(index)] for index in range(len(content))]
    names = tuple(each[-1] if isinstance(each, list) and each else each for each in content)
    if not all(isinstance(name, str) for name in names):
        raise refused
    return names
