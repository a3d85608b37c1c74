"""The experiments: the paper's figures, recipes by budget, names of runs."""

from typing import get_args

import pytest

from resnet_keras.cli.reproduce import Name
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.reproduction.catalog import EXPERIMENTS, find_experiment
from resnet_keras.reproduction.experiment import BUDGETS, run_name, training_images
from resnet_keras.reproduction.paper_results import (
    PAPER_CIFAR10,
    PAPER_DETECTION,
    PAPER_MULTI_SCALE,
    PAPER_NETWORKS,
    PAPER_TEN_CROP,
    PaperError,
)

NAMES = ("table1", "degradation", "shortcuts", "depth", "responses", "protocols", "layers1202", "detection")


def test_the_paper_s_figures() -> None:
    assert {name: error.top1 for name, error in PAPER_CIFAR10.items()} == {
        **{"ResNet-20": 8.75, "ResNet-32": 7.51, "ResNet-44": 7.17, "ResNet-56": 6.97},
        **{"ResNet-110": 6.43, "ResNet-1202": 7.93},
    }
    assert {name: (error.top1, error.top5) for name, error in PAPER_TEN_CROP.items()} == {
        **{"plain-18": (27.94, None), "ResNet-18 A": (27.88, None), "plain-34": (28.54, 10.02)},
        **{"ResNet-34 A": (25.03, 7.76), "ResNet-34 B": (24.52, 7.46), "ResNet-34 C": (24.19, 7.40)},
        **{"ResNet-50": (22.85, 6.71), "ResNet-101": (21.75, 6.05), "ResNet-152": (21.43, 5.71)},
    }
    assert [error.top1 for error in PAPER_MULTI_SCALE.values()] == [21.84, 21.53, 20.74, 19.87, 19.38]
    assert str(PaperError(25.03, 7.76, "Table 3")) == "25.03 / 7.76 top-5 (Table 3)"
    assert str(PaperError(None, 3.57, "Table 5")) == "3.57 top-5 (Table 5)"


def test_the_networks_are_the_paper_s() -> None:
    assert set(PAPER_NETWORKS) <= set(ARCHITECTURES)
    imagenet = [*(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)), "plainnet18", "plainnet34"]
    cifar = [f"resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)]
    assert sorted(PAPER_NETWORKS) == sorted(imagenet + cifar + [f"plainnet{d}" for d in (20, 32, 44, 56, 110)])


def test_the_command_line_knows_every_experiment() -> None:
    assert get_args(Name) == (*EXPERIMENTS, "document")
    assert tuple(EXPERIMENTS) == NAMES


@pytest.mark.parametrize("budget", BUDGETS)
def test_runs_of_a_budget_that_share_a_name_share_a_recipe(budget: str) -> None:
    by_name: dict = {}
    for experiment in EXPERIMENTS.values():
        for recipe in experiment.recipes(budget):
            assert by_name.setdefault(run_name(recipe), recipe) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_contrasts_name_variants_and_names_are_unique(name: str) -> None:
    experiment = EXPERIMENTS[name]
    names = {variant.name for budget in BUDGETS for variant in experiment.variants[budget]}
    assert names >= {each for pair in experiment.contrasts for each in pair}
    for budget in BUDGETS:
        variants = experiment.variants[budget]
        assert len({variant.name for variant in variants}) == len(variants)


def test_the_full_budget_is_the_paper_s_recipes() -> None:
    for name in ("degradation", "shortcuts", "depth", "protocols", "responses", "layers1202"):
        for variant in EXPERIMENTS[name].variants["full"]:
            recipe = variant.recipe
            prefix = {"imagenet2012": "imagenet", "cifar10": "cifar10"}[recipe.data.dataset]
            assert recipe == RECIPES[prefix].replace(model=recipe.network.model, shortcut=recipe.network.shortcut)
            assert training_images(recipe) == {"imagenet": 1_281_167, "cifar10": 50_000}[prefix]
    of_34 = {variant.name: variant.recipe for variant in EXPERIMENTS["shortcuts"].variants["full"]}
    options = {name: recipe.architecture.shortcut for name, recipe in of_34.items() if "34" in name}
    assert options == {"plain-34": None, "ResNet-34 A": "A", "ResNet-34 B": "B", "ResNet-34 C": "C"}
    (warm,) = (each.recipe for each in EXPERIMENTS["depth"].variants["full"] if each.name == "ResNet-1202")
    assert warm.schedule.warmup_steps == 400  # §4.2


def test_the_smoke_budget_needs_no_data() -> None:
    for name, experiment in EXPERIMENTS.items():
        own = {"folder"} if name == "detection" else {"digits"}  # a folder that the experiment writes
        assert {recipe.data.dataset for recipe in experiment.recipes("smoke")} <= own


def test_small_degradation_is_three_seeds_of_forty_thousand_images() -> None:
    # At 500 images/s of 20 layers and 220 of 56, measured on two busy cores, 3 x 2 x (40e3/500 + 40e3/220) s: 26 min.
    recipes = EXPERIMENTS["degradation"].recipes("small")
    assert [recipe.schedule.epochs * training_images(recipe) for recipe in recipes] == 12 * [40_000]
    assert [recipe.seed for recipe in recipes] == [0] * 4 + [1] * 4 + [2] * 4
    models = ["plainnet20", "plainnet56", "resnet20", "resnet56"]
    assert [recipe.network.model for recipe in recipes] == 3 * models
    assert len({recipe.replace(model="resnet20", seed=0) for recipe in recipes}) == 1


def test_detection_is_the_paper_s_with_and_without_context() -> None:
    found = {(each.table, each.network, each.test): (each.ap50, each.ap) for each in PAPER_DETECTION}
    assert found[7, "ResNet-101", "VOC 07 test"] == (76.4, None)
    assert found[7, "VGG-16", "VOC 12 test"] == (70.4, None)
    assert found[8, "ResNet-101", "COCO val"] == (48.4, 27.2)
    assert [(each.ap50, each.ap) for each in PAPER_DETECTION if each.table == 9] == [
        *((49.9, 29.9), (51.1, 30.0), (53.8, 32.5), (55.7, 34.9), (59.0, 37.4)),
    ]
    full = EXPERIMENTS["detection"].variants["full"]
    assert {each.recipe.network.model for each in full} == {"resnet101"}
    assert [each.recipe.detection.global_context for each in full] == [False, True] * 2
    assert full[0].recipe == RECIPES["voc_frcnn_c4"]
    steps = full[2].recipe.schedule.epochs * 82_783 / full[2].recipe.data.batch_size
    assert steps == pytest.approx(320_000, rel=0.01)


def test_a_run_is_named_by_what_varies() -> None:
    recipe = RECIPES["imagenet"].replace(model="resnet34", shortcut="C", seed=4)
    assert run_name(recipe) == "imagenet2012_resnet34_C_seed4"
    assert run_name(RECIPES["cifar10"].replace(rematerialize=True)) == ("cifar10_resnet20_rematerialized_seed0")


def test_an_unknown_experiment_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"Expected one of table1, degradation, .*detection\. Received: 'depht'"):
        find_experiment("depht")
