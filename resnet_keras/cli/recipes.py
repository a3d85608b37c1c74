"""Prints the table of all recipes, e.g. `resnet recipes cifar10`."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

import resnet_keras
from resnet_keras.cli.program import run


def recipes(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Prints the recipes: network, source, published error, and ours where measured.

    Args:
        names: Recipes to print, with every network that has an error; all recipes if there are none.
    """
    print(resnet_keras.recipes.recipe_table(names))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet recipes`."""
    return run(recipes, "resnet recipes", argv, tensorflow=False)
