"""Weights that come with the package, by name: `resnet20_digits` is ResNet-20 trained on digits."""

from __future__ import annotations

from pathlib import Path

from resnet_keras.checks.fields import nearest
from resnet_keras.data.datasets import DATASETS
from resnet_keras.weights.weights_file import SUFFIX, TrainedWeights, read_facts

FOLDER = Path(__file__).parent / "pretrained"
_DATASETS = tuple(name for name, info in DATASETS.items() if info.classes and name != "imagenet2012")


def list_pretrained() -> list[str]:
    """Returns the names of the weights that come with the package: NETWORK_DATASET, or NETWORK_DATASET_RECIPE.

    `Classifier.from_pretrained`, `weights=` of the builders, and the program take them, without the network. Builders
    take the data set alone, too: `ResNet20(weights="digits")`.
    """
    return sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


def pretrained_facts(name: str) -> TrainedWeights:
    """Returns how the weights of a name were trained, and their errors.

    Args:
        name: One of `list_pretrained`.

    Raises:
        ValueError: There are no such weights.
    """
    facts = read_facts(pretrained_file(name))
    if facts is None:
        raise ValueError(f"Expected the facts of trained weights in {name}{SUFFIX}. Received: a file without them")
    return facts


def is_pretrained(source: str, network: str | None = None) -> bool:
    """Returns whether a source names weights in the package: by their name, or by the data set for a network."""
    return source in list_pretrained() or (network is not None and source in _DATASETS)


def pretrained_file(source: str, network: str | None = None) -> Path:
    """Returns the file of weights in the package.

    Args:
        source: One of `list_pretrained`, or the name of a data set.
        network: Name of the network, which a data set needs.

    Raises:
        ValueError: There are no such weights; the message lists those that there are.
    """
    known = list_pretrained()
    name = f"{network}_{source}" if source in _DATASETS else source
    if name not in known:
        raise ValueError(
            f"Expected a network with weights in the package, one of {', '.join(known) or 'none'}. "
            f"Received: {source!r} for {network}.{nearest(name, known)}"
        )
    return FOLDER / f"{name}{SUFFIX}"
