"""Prints the table of all recipes, e.g. `resnet recipes cifar10_resnet20`."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

import resnet_keras
from resnet_keras.cli.program import run


def recipes(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Prints each recipe's source, the error that is published for it, and ours where it was measured.

    Args:
        names: Recipes to print; all if there are none.
    """
    print(resnet_keras.recipes.recipe_table(names or tuple(resnet_keras.RECIPES)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet recipes`."""
    return run(recipes, "resnet recipes", argv)
