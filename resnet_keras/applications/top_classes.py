"""The most probable classes of an image, and their decoding as in `keras.applications`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from resnet_keras.checks.fields import check_counts


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image.

    Attributes:
        path: The image file; `None` if the image did not come from one.
        classes: Pairs of name and probability, the most probable first.
    """

    path: str | None
    classes: tuple[tuple[str, float], ...]

    @property
    def class_name(self) -> str:
        """Name of the most probable class."""
        return self.classes[0][0]

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.classes[0][1]

    def __str__(self) -> str:
        """Returns the classes with their probabilities in percent, after the path if there is one."""
        listed = ", ".join(f"{name} {value:.2%}" for name, value in self.classes)
        return listed if self.path is None else f"{self.path}: {listed}"


def check_top_k(top_k: int) -> None:
    """Checks a number of classes.

    Raises:
        ValueError: It is below 1.
    """
    check_counts(top_k=top_k)


def most_probable(
    paths: Sequence[str | None], probabilities: np.ndarray, class_names: Sequence[str], top_k: int
) -> Iterator[Prediction]:
    """Yields the `top_k` most probable classes of each image; of equal probabilities, the first comes first.

    Args:
        paths: One per image.
        probabilities: One per image and class (N, classes).
        class_names: Names of the classes, in order.
        top_k: Number of classes per image.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    for path, row, best in zip(paths, probabilities, order, strict=True):
        yield Prediction(path, tuple((class_names[i], float(row[i])) for i in best))
