"""The classes of a data set among those of a classifier."""

from __future__ import annotations

import logging

from resnet_keras.data.class_names import class_indices, wordnet_ids

_log = logging.getLogger(__name__)

_NAMED = 3  # classes in a message


def class_places(names: tuple[str, ...], class_names: tuple[str, ...], *, ordered: bool = False) -> list[int]:
    """Returns the index that a classifier has for each class of a data set, matched by names where those are equal.

    Names that the classifier does not know keep their indices if the number of classes agrees.

    Args:
        names: Class names of the data set, in order.
        class_names: Class names of the classifier, in order.
        ordered: Whether the classes have to be the classifier's, in its order.

    Raises:
        ValueError: The number of classes differs, and not all names are names of the classifier.
    """
    found = class_indices(names, class_names)
    same = list(range(len(class_names)))
    if len(names) == len(class_names) and found in (None, same):
        check_places(names, class_names, "the data have")
        return same
    if found is None or ordered:
        raise ValueError(
            f"Expected a split of the classifier's {len(class_names)} classes, or a folder of some of them by their "
            f"names. Received: one of {len(names)}"
        )
    return found


def check_places(names: tuple[str, ...], class_names: tuple[str, ...], subject: str) -> None:
    """Refuses class names that a classifier has at other places, and warns of names that it does not have."""
    if names == class_names or tuple(names) == wordnet_ids():
        return
    pairs = [(name, known) for name, known in zip(names, class_names, strict=True) if name != known]
    known_elsewhere = [name for name, _ in pairs if name in class_names]
    numbered = tuple(map(str, range(len(names))))
    if known_elsewhere and numbered not in (names, class_names):
        raise ValueError(
            "Expected the classifier's classes, or none of them. Received: classes of other names beside "
            f"{known_elsewhere[0]}, such as {next(name for name in names if name not in class_names)}"
        )
    shown = ", ".join(f"{name} as {known}" for name, known in pairs[:_NAMED]) + ", ..." * (len(pairs) > _NAMED)
    _log.warning(f"{subject} other class names than the classifier; they are matched by their order: {shown}")
