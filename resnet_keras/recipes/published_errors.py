"""Published errors of recipes, and our own where measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_keras.checks.fields import nearest
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.tables import markdown_table


@dataclass(frozen=True)
class Published:
    """Error of a network trained by a recipe.

    Attributes:
        source: Source of the recipe and its error.
        error: Top-1 error in per cent, as published; `None` if none is published for this network.
        protocol: How the error was measured.
        ours: Error measured with this library, with seeds and epochs; `None` if not measured.
    """

    source: str
    error: float | None
    protocol: str
    ours: str | None = None


def _published(
    recipe: str, source: str, protocol: str, errors: dict[str, float | None], ours: dict[str, str] | None = None
) -> dict[tuple[str, str], Published]:
    return {
        (recipe, model): Published(source, error, protocol, (ours or {}).get(model)) for model, error in errors.items()
    }


def _by_depth(*errors: float | None) -> dict[str, float | None]:
    return dict(zip(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), errors, strict=True))


_RSB = "arXiv:2110.00476"
PUBLISHED: dict[tuple[str, str], Published] = {
    **_published(
        "imagenet",
        "arXiv:1512.03385, Tables 2 and 3",
        "validation, 10-crop",
        {**_by_depth(27.88, 24.52, 22.85, 21.75, 21.43), "plainnet18": 27.94, "plainnet34": 28.54},
    ),
    **_published(
        "imagenet_torchvision",
        "torchvision, IMAGENET1K_V1",
        "validation, 1-crop",
        _by_depth(30.24, 26.69, 23.87, 22.63, 21.69),
    ),
    **_published(
        "imagenet_torchvision",
        "torchvision, IMAGENET1K_V1",
        "validation, 1-crop",
        {"resnext50_32x4d": 22.38, "resnext101_32x8d": 20.69, "wide_resnet50_2": 21.53, "wide_resnet101_2": 21.15},
    ),
    **_published(
        "imagenet_torchvision_v2",
        "torchvision, IMAGENET1K_V2",
        "validation, 1-crop",
        _by_depth(None, None, 19.14, 18.11, 17.72),
    ),
    **_published("imagenet_a1", _RSB, "validation, 1-crop", _by_depth(28.5, 23.6, 19.6, 18.5, 18.0)),
    **_published("imagenet_a2", _RSB, "validation, 1-crop", _by_depth(29.4, 24.5, 20.2, 18.7, 18.2)),
    **_published("imagenet_a3", _RSB, "validation, 1-crop", _by_depth(31.8, 27.0, 21.9, 20.2, 19.4)),
    **_published(
        "cifar10",
        "arXiv:1512.03385, Table 6",
        "test, last epoch",
        {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97, "resnet110": 6.43, "resnet1202": 7.93},
        {"resnet20": "8.32 (1 seed, bfloat16)"},
    ),
    **_published(
        "cifar10",
        "arXiv:1603.05027, Tables 2 and 3",
        "test, median of 5 runs",
        {"resnet110v2": 6.37, "resnet164v2": 5.46, "resnet1001v2": 4.92},
    ),
    **_published(
        "cifar10_wide",
        "arXiv:1605.07146, Table 5",
        "test",
        {"wide_resnet16_8": 4.27, "wide_resnet28_10": 4.00},
    ),
    ("digits", "resnet20"): Published("our own", None, "test, last epoch", "0.93 ± 0.16 (3 seeds)"),
    ("localization", "resnet18"): Published("our own, after arXiv:1512.03385, appendix C", None, ""),
    ("voc_frcnn_c4", "resnet101"): Published("arXiv:1512.03385, appendix A", None, ""),
    ("coco_frcnn_fpn", "resnet50"): Published("torchvision, references/detection", None, ""),
    **_published(
        "cifar10_fast",
        "our own, after cifar10-fast and arXiv:2404.00498",
        "test, mirrored too, last epoch",
        {"resnet20": None, "resnet32": None, "resnet44": None, "resnet56": None},
        {
            "resnet20": "32 epochs, half of them at 24x24, 7.53 (1 seed); distilled from ResNet-32, 56 epochs, half of "
            "them at 24x24, 7.09 (1 seed), 8 epochs 9.04 ± 0.15 (3 seeds); by SGD 9.37 (1 seed), 40 epochs, half of "
            "them at 24x24, 7.67 (1 seed), cut to 4 epochs 16.96 ± 0.49 (3 seeds)",
            "resnet32": "32 epochs, half of them at 24x24, 6.66 (1 seed)",
        },
    ),
    **_published(
        "cifar10_modern",
        "open code of others, 200 epochs",
        "test",
        {"resnet20": 7.4, "resnet32": 6.5, "resnet44": 6.0, "resnet56": 5.6},
    ),
}
"""Errors of recipes, by the names of recipe and network. That of 110 layers is the best of 6.61 ± 0.16 over 5 runs."""


def recipe_table(names: Sequence[str] = ()) -> str:
    """Returns a Markdown table of recipes: network, epochs, source, published error, and ours where measured.

    Args:
        names: Recipes to list, with a row for each network that has an error. If empty, all recipes, each with its
            default network.

    Raises:
        ValueError: A recipe is unknown; the message lists those that exist.
    """
    rows = []
    for name in names or RECIPES:
        if name not in RECIPES:
            raise ValueError(f"Expected one of {', '.join(RECIPES)}. Received: {name!r}.{nearest(name, RECIPES)}")
        default, epochs = RECIPES[name].network.model, RECIPES[name].schedule.epochs
        models = [model for recipe, model in PUBLISHED if recipe == name] if names else []
        for model in models or [default]:
            known = PUBLISHED.get((name, model), Published("our own", None, ""))
            error = "" if known.error is None else f"{known.error:.2f}"
            rows.append((name, model, epochs, known.source, error, known.protocol, known.ours or ""))
    head = ("recipe", "network", "epochs", "source", "published error, %", "measured how", "ours")
    return markdown_table(head, rows, text=("network", "source", "measured how", "ours"))
