"""Recipes: the paper's numbers, and nothing wrong lives long enough to train."""

import ast
import inspect
import json
import textwrap
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any

import pytest

from resnet_keras.data.datasets import DATASETS
from resnet_keras.networks.catalog import ARCHITECTURES, FAMILY
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.published_errors import PUBLISHED, recipe_table
from resnet_keras.recipes.recipe import Recipe

CIFAR_TRAIN_IMAGES = 50_000
IMAGENET_TRAIN_IMAGES = 1_281_167
CIFAR = [f"cifar10_{name}" for name, row in ARCHITECTURES.items() if row.stem == "cifar"]
IMAGENET = [f"imagenet_{name}" for name, row in ARCHITECTURES.items() if row.stem == "imagenet"]
KINDS = ("", "qat_", "modern_", "fast_", "torchvision_", "torchvision_v2_", "a1_", "a2_", "a3_")


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_names_a_known_network_and_data_set(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.model in ARCHITECTURES | FAMILY
    assert recipe.dataset in DATASETS
    prefix = recipe.dataset.removesuffix("2012") if recipe.weights is None else "finetune"
    assert name in [f"{prefix}_{kind}{recipe.model}" for kind in KINDS]
    options = {"bottleneck_stride": recipe.bottleneck_stride} if recipe.bottleneck_stride else {}
    options["stochastic_depth"] = recipe.stochastic_depth
    assert recipe.architecture == (ARCHITECTURES | FAMILY)[recipe.model].replace(**options)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_error_is_of_a_recipe(name: str) -> None:
    error = PUBLISHED[name].error
    assert name in RECIPES
    assert error is None or 3.5 < error < 35


def test_every_network_of_the_paper_has_its_recipe() -> None:
    assert {RECIPES[name].model for name in (*CIFAR, *IMAGENET)} == set(ARCHITECTURES)
    assert len(CIFAR) + len(IMAGENET) == len(ARCHITECTURES)


@pytest.mark.parametrize("name", [*CIFAR, "cifar10_resnet110v2", "cifar10_resnet164v2", "cifar10_resnet1001v2"])
def test_cifar_recipes_are_those_of_section_4_2(name: str) -> None:
    recipe = RECIPES[name]
    assert (recipe.batch_size, recipe.peak_lr, recipe.schedule) == (128, 0.1, "step")
    assert (recipe.momentum, recipe.nesterov, recipe.l2, recipe.l2_on) == (0.9, False, 1e-4, "all")
    assert (recipe.pad_pixels, recipe.flip, recipe.color_noise, recipe.shorter_side) == (4, True, 0.0, None)
    assert recipe.epochs == 164
    steps_per_epoch = CIFAR_TRAIN_IMAGES // recipe.batch_size
    assert steps_per_epoch == 390
    assert recipe.epochs * steps_per_epoch == pytest.approx(64_000, rel=1e-3)
    drops = [fraction * recipe.epochs * steps_per_epoch for fraction in recipe.lr_drops]
    assert drops == pytest.approx([32_000, 48_000], rel=1e-3)


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_networks_of_110_layers_and_more_start_with_400_steps_at_a_tenth(name: str) -> None:
    recipe = RECIPES[name]
    if recipe.architecture.depth >= 110:
        assert (recipe.warmup_steps, recipe.warmup_lr) == (400, 0.01)
    else:
        assert recipe.warmup_steps == 0


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_recipes_are_those_of_section_3_4(name: str) -> None:
    recipe = RECIPES[name]
    assert (recipe.batch_size, recipe.peak_lr, recipe.schedule) == (256, 0.1, "step")
    assert (recipe.momentum, recipe.nesterov, recipe.l2, recipe.l2_on) == (0.9, False, 1e-4, "all")
    assert (recipe.shorter_side, recipe.flip, recipe.pad_pixels) == ((256, 480), True, 0)
    assert recipe.color_noise == 0.1
    assert recipe.test_shorter_side == 256
    assert recipe.architecture.image_size == 224
    assert recipe.warmup_steps == 0
    assert recipe.epochs * (IMAGENET_TRAIN_IMAGES // recipe.batch_size) == pytest.approx(60e4, rel=1e-3)


def test_defaults_are_the_imagenet_recipe_without_its_augmentation() -> None:
    plain = replace(
        RECIPES["imagenet_resnet50"], shorter_side=None, test_shorter_side=None, flip=False, color_noise=0.0
    )
    assert plain == Recipe(model="resnet50", dataset="imagenet2012")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("shortcut", "D"),
        ("zero_channels", "front"),
        ("bottleneck_stride", "2x2"),
        ("batch_norm", "global"),
        ("schedule", "linear"),
        ("l2_on", "biases"),
        ("precision", "float64"),
        ("dataset", ""),
        ("freeze", "stage5"),
        ("loss", "hinge"),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("mixup", -1.0),
        ("cutmix", -1.0),
        ("erase", 1.1),
        ("clip_norm", 0.0),
        ("warmup_epochs", -1.0),
        ("stochastic_depth", 1.0),
        ("crop_area", (0.0, 1.0)),
        ("crop_area", (0.5, 0.4)),
        ("crop_area", (0.5, 1.5)),
        ("train_images", 0),
        ("optimizer", "adam"),
        ("mixed_labels", "half"),
        ("policy", "auto"),
        ("policy_layers", 0),
        ("policy_magnitude", 10.5),
        ("policy_spread", -1.0),
        ("interpolation", "nearest"),
        ("train_sizes", (2,)),
        ("train_sizes", (32,) * 121),  # more than epochs
        ("accumulate", 0),
        ("accumulate", 3),  # of 256
        ("repeats", 0),
        ("ema", 1.0),
        ("weight_decay", -0.1),
        ("lr_batch_size", 0),
        ("alternate_flip", True),  # without flips
        ("epochs", 0),
        ("epochs", -1),
        ("batch_size", 0),
        ("image_size", 0),
        ("image_size", -32),
        ("image_size", 3),  # resnet20 has a total stride of 4
        ("peak_lr", 0.0),
        ("peak_lr", -0.1),
        ("peak_lr", float("nan")),
        ("warmup_lr", 0.0),
        ("warmup_steps", -1),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("l2", -1e-4),
        ("l2", float("nan")),
        ("lr_drops", (0.5, 0.25)),
        ("lr_drops", (0.5, 0.5)),
        ("lr_drops", (0.0,)),
        ("lr_drops", (0.5, 1.0)),
        ("lr_factor", 0.0),
        ("lr_factor", 1.0),
        ("shorter_side", (0, 40)),
        ("shorter_side", (48, 40)),
        ("shorter_side", (31, 40)),  # shorter than the 32 pixels of the crop
        ("test_shorter_side", 31),
        ("test_shorter_side", 0),
        ("pad_pixels", -1),
        ("color_noise", -0.1),
        ("seed", -1),
    ],
)
def test_a_wrong_value_raises_with_its_field_and_what_was_received(field: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{field}`.*Received: ") as caught:
        Recipe(**{"model": "resnet20", "dataset": "cifar10", field: wrong})
    assert str(wrong) in str(caught.value)


@pytest.mark.parametrize("wrong", [(40,), (40, 48, 56)])
def test_a_range_that_is_no_pair_raises_with_its_field(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`shorter_side`.*Received: "):
        replace(RECIPES["cifar10_resnet20"], shorter_side=wrong)  # type: ignore[arg-type]


def test_an_unknown_network_raises_and_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"resnet18, .*resnet1202.*Received: 'resnet51'"):
        Recipe(model="resnet51", dataset="cifar10")


def test_a_plain_network_has_no_option_of_shortcuts() -> None:
    with pytest.raises(ValueError, match=r"`shortcut`.*plainnet20.*Received: 'A'"):
        Recipe(model="plainnet20", dataset="cifar10", shortcut="A")


@pytest.mark.parametrize(
    ("field", "edge"),
    [
        ("image_size", 4),
        ("momentum", 0.0),
        ("lr_drops", ()),
        ("shorter_side", (32, 32)),
        ("test_shorter_side", 32),
        ("l2", 0.0),
        ("epochs", 1),
        ("batch_size", 1),
    ],
)
def test_the_outermost_right_values_are_accepted(field: str, edge: Any) -> None:
    assert getattr(replace(RECIPES["cifar10_resnet20"], **{field: edge}), field) == edge


def test_the_lengths_are_compared_with_the_size_that_the_recipe_asks_for() -> None:
    assert replace(RECIPES["cifar10_resnet20"], image_size=24, shorter_side=(24, 28), test_shorter_side=24)
    with pytest.raises(ValueError, match="`shorter_side`"):
        replace(RECIPES["cifar10_resnet20"], image_size=48, shorter_side=(40, 60))


@pytest.mark.parametrize(
    ("field", "value"),
    [("shortcut", "B"), ("zero_channels", "both_sides"), ("bottleneck_stride", "3x3"), ("batch_norm", "synchronized")],
)
def test_the_architecture_has_the_options_of_the_recipe(field: str, value: str) -> None:
    recipe = replace(RECIPES["cifar10_resnet20"], **{field: value})  # type: ignore[arg-type]
    assert recipe.architecture == ARCHITECTURES["resnet20"].replace(**{field: value})


@pytest.mark.parametrize("field", [field.name for field in fields(Recipe)])
def test_recipes_are_frozen(field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(RECIPES["digits_resnet20"], field, None)


def test_recipes_take_their_fields_by_name_alone() -> None:
    with pytest.raises(TypeError):
        Recipe("resnet20", "cifar10")  # type: ignore[call-arg]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    content = json.loads(json.dumps(asdict(RECIPES[name])))
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    assert Recipe(**{**content, **lists}) == RECIPES[name]


def test_every_field_has_a_sentence_below_it() -> None:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(Recipe))).body
    assert isinstance(tree, ast.ClassDef)
    documented = {}
    for statement, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            documented[statement.target.id] = below.value.value if is_text else None  # type: ignore[attr-defined]
    assert list(documented) == [field.name for field in fields(Recipe)]
    for field, text in documented.items():
        assert isinstance(text, str) and text.strip().endswith("."), f"no sentence below {field}"


def test_fine_tuning_begins_with_weights_at_a_rate_far_below_that_of_training() -> None:
    for name, recipe in RECIPES.items():
        if name.startswith("finetune_"):
            assert (recipe.weights, recipe.dataset) == ("imagenet", "folder")
            assert recipe.peak_lr <= RECIPES[f"imagenet_{recipe.model}"].peak_lr / 10


def test_options_that_are_not_given_are_the_networks_own() -> None:
    recipe = Recipe(model="resnet50", dataset="folder")
    assert (recipe.architecture.conventions.bottleneck_stride, recipe.architecture.conventions.zero_channels) == (
        "1x1",
        "end",
    )
    assert replace(recipe, bottleneck_stride="3x3").architecture.conventions.bottleneck_stride == "3x3"


def test_modern_recipes_differ_from_the_papers_in_what_their_comment_says() -> None:
    paper, modern = RECIPES["cifar10_resnet20"], RECIPES["cifar10_modern_resnet20"]
    changed = {key for key in vars(paper) if getattr(paper, key) != getattr(modern, key)}
    assert changed == {"epochs", "schedule", "warmup_epochs", "nesterov", "l2"}
    assert (modern.epochs, modern.schedule, modern.l2, modern.nesterov) == (200, "cosine", 5e-4, True)


@pytest.mark.parametrize("name", ["cifar10_wide_resnet16_8", "cifar10_wide_resnet28_10"])
def test_wide_networks_learn_by_the_schedule_of_their_paper(name: str) -> None:
    found = RECIPES[name]
    assert (found.epochs, found.batch_size, found.peak_lr, found.lr_factor) == (200, 128, 0.1, 0.2)
    assert [round(drop * found.epochs) for drop in found.lr_drops] == [60, 120, 160]
    assert (found.momentum, found.nesterov, found.l2, found.warmup_steps) == (0.9, True, 5e-4, 0)
    assert (found.pad_pixels, found.flip) == (4, True)


def test_torchvisions_recipe_is_that_of_its_references() -> None:
    found = RECIPES["imagenet_torchvision_resnet50"]
    assert (found.epochs, found.batch_size, found.peak_lr, found.momentum, found.l2) == (90, 256, 0.1, 0.9, 1e-4)
    assert [round(drop * found.epochs) for drop in found.lr_drops] == [30, 60]
    assert (found.crop_area, found.flip, found.color_noise) == ((0.08, 1.0), True, 0.0)
    assert found.architecture.conventions.bottleneck_stride == "3x3"


def test_torchvisions_second_recipe_is_that_of_its_references() -> None:
    found = RECIPES["imagenet_torchvision_v2_resnet50"]
    assert (found.epochs, found.batch_size, found.peak_lr, found.momentum, found.l2) == (600, 1024, 0.5, 0.9, 2e-5)
    assert (found.schedule, found.warmup_epochs, found.warmup_lr, found.l2_on) == ("cosine", 5, 0.005, "kernels")
    assert (found.label_smoothing, found.mixup, found.cutmix, found.erase) == (0.1, 0.2, 1.0, 0.1)
    assert (found.policy, found.repeats, found.train_sizes, found.test_shorter_side) == ("trivial", 4, (176,), 232)
    # There, every 32 steps the average takes 1024 x 32 x (1 - 0.99998) / 600 of the weights.
    assert found.ema**32 == pytest.approx(1 - 1024 * 32 * (1 - 0.99998) / 600, abs=1e-6)


@pytest.mark.parametrize(
    ("procedure", "expected"),
    [
        ("a1", (600, 5e-3, 0.01, 0.2, 0.1, 7.0, 3, 0.05, ())),
        ("a2", (300, 5e-3, 0.02, 0.1, 0.0, 7.0, 3, 0.05, ())),
        ("a3", (100, 8e-3, 0.02, 0.1, 0.0, 6.0, 1, 0.0, (160,))),
    ],
)
def test_procedures_of_resnet_strikes_back_are_those_of_its_table_2(procedure: str, expected: tuple) -> None:
    found = RECIPES[f"imagenet_{procedure}_resnet50"]
    varied = ("epochs", "peak_lr", "weight_decay", "mixup", "label_smoothing", "policy_magnitude", "repeats")
    assert tuple(getattr(found, field) for field in (*varied, "stochastic_depth", "train_sizes")) == expected
    assert (found.optimizer, found.batch_size, found.loss, found.cutmix) == ("lamb", 2048, "binary", 1.0)
    assert (found.policy, found.policy_layers, found.policy_spread) == ("rand", 2, 0.5)
    assert (found.schedule, found.warmup_epochs, found.l2_on) == ("cosine", 5, "kernels")
    assert int(224 / 0.95) == found.test_shorter_side == 235


def test_the_table_has_a_line_for_each_recipe_and_lists_them_to_whoever_asks_for_another() -> None:
    lines = recipe_table().splitlines()
    assert len(lines) == 2 + len(RECIPES)
    assert recipe_table(["cifar10_resnet20"]).splitlines()[2].startswith("| cifar10_resnet20 | 164 | arXiv:1512.03385")
    with pytest.raises(ValueError, match="Expected one of digits_resnet20, .*Received: 'resnet20'"):
        recipe_table(["resnet20"])


def test_the_size_in_training_changes_in_equal_parts() -> None:
    recipe = replace(RECIPES["cifar10_resnet20"], epochs=5, train_sizes=(16, 24, 32))
    assert [recipe.size_in(epoch) for epoch in range(5)] == [16, 16, 24, 24, 32]
    assert RECIPES["cifar10_resnet20"].size_in(3) is None


def test_rates_are_in_proportion_to_the_batch_where_they_are_for_one() -> None:
    recipe = RECIPES["imagenet_torchvision_resnet50"]
    assert replace(recipe, batch_size=1024).lr_scale == 4
    assert replace(recipe, batch_size=1024, lr_batch_size=None).lr_scale == 1


def test_a_crop_is_of_random_scale_or_of_random_area() -> None:
    with pytest.raises(ValueError, match="`crop_area` to be None, where `shorter_side` is given"):
        replace(RECIPES["imagenet_resnet50"], crop_area=(0.08, 1.0))


@pytest.mark.parametrize("field", ["mixup", "cutmix", "label_smoothing"])
def test_labels_are_soft_where_an_image_has_parts_of_classes(field: str) -> None:
    assert not RECIPES["cifar10_resnet20"].soft_labels
    assert replace(RECIPES["cifar10_resnet20"], **{field: 0.1}).soft_labels
    assert replace(RECIPES["cifar10_resnet20"], loss="binary").soft_labels
