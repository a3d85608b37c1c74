"""An experiment of the paper: which networks are trained on which budget, and what for (arXiv:1512.03385)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from resnet_keras.recipes.recipe import Recipe
from resnet_keras.reproduction.paper_results import PaperError

Budget = Literal["smoke", "small", "full"]
Kind = Literal["networks", "training", "responses", "protocols", "memory"]

BUDGETS: tuple[Budget, ...] = get_args(Budget)

VALIDATE_EPOCHS: dict[Budget, int] = {"smoke": 1, "small": 4, "full": 1}
"""Epochs between two looks at the test images, for the curves. At "small" ten thousand take as long as an epoch."""

TRAINING_IMAGES = {"cifar10": 50_000, "imagenet2012": 1_281_167}
"""Of the data sets of the full budget."""

ACCELERATOR = "NVIDIA A100"
ACCELERATOR_FLOPS = 0.3 * 156e12
"""What a full run is assumed to reach each second: 30 % of the accelerator's 156 TFLOP/s of dense TF32."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A network of an experiment.

    Attributes:
        name: As the paper has it, e.g. "plain-20".
        recipe: By which it is trained; further seeds replace its `seed`.
        panel: Title of the part of the plot that shows it.
        seeds: How many runs, of seeds 0, 1, 2 ...
        paper: What the paper reports of it, trained by the paper's recipe.
    """

    name: str
    recipe: Recipe
    panel: str
    seeds: int = 1
    paper: PaperError | None = None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipe of each run."""
        return tuple(self.recipe.replace(seed=seed) for seed in range(self.seeds))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One argument of the paper.

    Attributes:
        title: What it is about.
        where: Section, table and figure of the paper.
        claim: What the paper finds.
        kind: How it is carried out: "networks" are built and counted; "training" trains the variants; "responses"
            and "protocols" measure the trained variants; "memory" trains each in a process of its own.
        variants: By budget.
        contrasts: Pairs of names of variants whose errors are to be compared, the deeper or richer first.
    """

    title: str
    where: str
    claim: str
    kind: Kind
    variants: dict[Budget, tuple[Variant, ...]]
    contrasts: tuple[tuple[str, str], ...] = ()

    def recipes(self, budget: Budget) -> tuple[Recipe, ...]:
        """Returns the recipe of each run: all first seeds, then all second ones, so that all networks come early."""
        variants = self.variants[budget]
        most = max((variant.seeds for variant in variants), default=0)
        return tuple(variant.recipes[i] for i in range(most) for variant in variants if i < variant.seeds)


def run_name(recipe: Recipe) -> str:
    """Returns what to call a run, by what varies among those of a budget, which experiments share."""
    memory = "rematerialized" if recipe.network.rematerialize else None
    parts = (recipe.data.dataset, recipe.network.model, recipe.network.shortcut, memory, f"seed{recipe.seed}")
    return "_".join(part for part in parts if part)


def training_images(recipe: Recipe) -> int:
    """Returns how many images a recipe of an experiment trains on."""
    return recipe.data.train_images or TRAINING_IMAGES[recipe.data.dataset]
