"""Experiments of the paper as data: networks, recipes and claims at three budgets (arXiv:1512.03385)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from resnet_keras.recipes.recipe import Recipe
from resnet_keras.reproduction.paper_results import PaperError

Budget = Literal["smoke", "small", "full"]
Kind = Literal["networks", "training", "responses", "protocols", "memory", "detection"]

BUDGETS: tuple[Budget, ...] = get_args(Budget)

VALIDATE_EPOCHS: dict[Budget, int] = {"smoke": 1, "small": 4, "full": 1}
"""Epochs between validations, for the curves. At "small", validation takes as long as an epoch of training."""

TRAINING_IMAGES = {"cifar10": 50_000, "imagenet2012": 1_281_167}
"""Training images of the data sets of the full budget."""

ACCELERATOR = "NVIDIA A100"
ACCELERATOR_IMAGES = 5322.10 / 8
"""Images per second of an accelerator in training: ResNet-50 v1.5, TF32, over an epoch on 8 of them (A100 40GB).

Source: NVIDIA/DeepLearningExamples, PyTorch/Classification/ConvNets/README.md, container 20.06.
"""
ACCELERATOR_MULTIPLY_ADDS = 4_089_184_256
"""Multiply-adds of a forward pass of that network, for one image of 224x224 pixels."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A network of an experiment.

    Attributes:
        name: Name in the paper, e.g. "plain-20".
        recipe: Training recipe; further seeds replace its `seed`.
        panel: Title of the panel of the plot that shows it.
        seeds: Number of runs, with the seeds 0, 1, 2 ...
        paper: Error that the paper reports for it with the paper's recipe.
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
    """An experiment of the paper.

    Attributes:
        title: Title in the document.
        where: Section, table and figure of the paper.
        claim: Finding of the paper.
        kind: "networks" builds and counts networks; "training" trains the variants; "responses" and "protocols"
            measure the trained variants; "memory" trains each variant in a new process; "detection" trains detectors
            and measures them with refinements, on the data set that the panel of a variant names.
        variants: Variants by budget.
        contrasts: Pairs of names of variants whose errors are compared, the deeper network first.
    """

    title: str
    where: str
    claim: str
    kind: Kind
    variants: dict[Budget, tuple[Variant, ...]]
    contrasts: tuple[tuple[str, str], ...] = ()

    def recipes(self, budget: Budget) -> tuple[Recipe, ...]:
        """Returns the recipe of each run, by seed and then by network, so that all networks come early."""
        variants = self.variants[budget]
        most = max((variant.seeds for variant in variants), default=0)
        return tuple(variant.recipes[i] for i in range(most) for variant in variants if i < variant.seeds)


def run_name(recipe: Recipe) -> str:
    """Returns the name of a run's folder, from what varies among the runs of a budget."""
    memory = "rematerialized" if recipe.network.rematerialize else None
    detector = recipe.detection.detector and f"{recipe.detection.detector}_batch{recipe.data.batch_size}"
    context = "context" if recipe.detection.global_context else None
    parts = (
        *(recipe.data.dataset, recipe.network.model, recipe.network.shortcut, memory, detector, context),
        f"seed{recipe.seed}",
    )
    return "_".join(part for part in parts if part)


def training_images(recipe: Recipe) -> int:
    """Returns the number of training images of an experiment's recipe."""
    return recipe.data.train_images or TRAINING_IMAGES[recipe.data.dataset]
