"""Prints a table of networks, e.g. `resnet networks resnet18 resnet50`."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

import resnet_keras
from resnet_keras.cli.program import run


def networks(names: tyro.conf.Positional[tuple[str, ...]] = (), *, family: bool = False) -> None:
    """Prints layers, trainable parameters, multiply-adds, and feature-map sizes, computed from the networks.

    Args:
        names: Networks to print; all networks of the paper by default.
        family: Print the later networks instead.
    """
    rows = resnet_keras.networks.FAMILY if family else resnet_keras.ARCHITECTURES
    print(resnet_keras.networks.complexity_table(names or tuple(rows)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet networks`."""
    return run(networks, "resnet networks", argv, tensorflow=False)
