"""Recipes: the paper's numbers, and nothing wrong lives long enough to train."""

import ast
import inspect
import json
import textwrap
from dataclasses import FrozenInstanceError, asdict, fields
from typing import Any

import pytest
from helpers.tables import unpadded

from resnet_keras.data.datasets import DATASETS
from resnet_keras.networks.catalog import ARCHITECTURES, FAMILY
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.published_errors import PUBLISHED, recipe_table
from resnet_keras.recipes.recipe import PART_OF, Recipe, flatten
from resnet_keras.recipes.settings import Schedule

CIFAR_TRAIN_IMAGES = 50_000
IMAGENET_TRAIN_IMAGES = 1_281_167
CIFAR = [name for name, row in ARCHITECTURES.items() if row.stem == "cifar"]
IMAGENET = [name for name, row in ARCHITECTURES.items() if row.stem == "imagenet"]
KINDS = ("", "_qat", "_modern", "_fast", "_wide", "_torchvision", "_torchvision_v2", "_a1", "_a2", "_a3")


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_names_a_known_network_and_data_set(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.network.model in ARCHITECTURES | FAMILY
    assert recipe.data.dataset in DATASETS
    prefix = recipe.data.dataset.removesuffix("2012") if recipe.network.weights is None else "finetune"
    detectors = ("coco_frcnn_fpn", "finetune_detector", "voc_frcnn_c4") if recipe.task == "detection" else ()
    assert name in (*detectors, *(prefix + kind for kind in KINDS)) or name == recipe.task
    options = {"bottleneck_stride": recipe.network.bottleneck_stride} if recipe.network.bottleneck_stride else {}
    options["stochastic_depth"] = recipe.network.stochastic_depth
    assert recipe.architecture == (ARCHITECTURES | FAMILY)[recipe.network.model].replace(**options)


def test_every_published_error_is_of_a_recipe_and_a_network() -> None:
    for (recipe, model), known in PUBLISHED.items():
        assert RECIPES[recipe].replace(model=model).network.model == model
        assert known.error is None or 3.5 < known.error < 35


def test_every_network_of_the_paper_has_its_recipe() -> None:
    assert {*CIFAR, *IMAGENET} == set(ARCHITECTURES)
    for recipe, models in (("cifar10", CIFAR), ("imagenet", IMAGENET)):
        assert [RECIPES[recipe].replace(model=model).network.model for model in models] == models


def test_a_recipe_trains_any_network() -> None:
    recipe = RECIPES["imagenet_a3"].replace(model="resnext50_32x4d")
    assert (recipe.architecture.groups, recipe.architecture.conventions.bottleneck_stride) == (32, "3x3")


@pytest.mark.parametrize("name", [*CIFAR, "resnet110v2", "resnet164v2", "resnet1001v2"])
def test_cifar_recipes_are_those_of_section_4_2(name: str) -> None:
    recipe = RECIPES["cifar10"].replace(model=name)
    assert (recipe.data.batch_size, recipe.schedule.peak_lr, recipe.schedule.lr_schedule) == (
        128,
        0.1,
        "step",
    )
    assert (
        recipe.optimization.momentum,
        recipe.optimization.nesterov,
        recipe.optimization.l2,
        recipe.optimization.decay_on,
    ) == (0.9, False, 1e-4, "all")
    assert (
        recipe.augmentation.pad_pixels,
        recipe.augmentation.flip,
        recipe.augmentation.pca_lighting,
        recipe.augmentation.shorter_side,
    ) == (4, True, 0.0, None)
    assert recipe.schedule.epochs == 164
    steps_per_epoch = CIFAR_TRAIN_IMAGES // recipe.data.batch_size
    assert steps_per_epoch == 390
    assert recipe.schedule.epochs * steps_per_epoch == pytest.approx(64_000, rel=1e-3)
    drops = [fraction * recipe.schedule.epochs * steps_per_epoch for fraction in recipe.schedule.lr_drops]
    assert drops == pytest.approx([32_000, 48_000], rel=1e-3)


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_networks_of_110_layers_and_more_start_with_400_steps_at_a_tenth(name: str) -> None:
    recipe = RECIPES["cifar10"].replace(model=name)
    assert recipe.schedule.warmup_lr == 0.01
    assert recipe.schedule.warmup(390, recipe.architecture.depth) == (400 if recipe.architecture.depth >= 110 else 0)


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_recipes_are_those_of_section_3_4(name: str) -> None:
    recipe = RECIPES["imagenet"].replace(model=name)
    assert (recipe.data.batch_size, recipe.schedule.peak_lr, recipe.schedule.lr_schedule) == (
        256,
        0.1,
        "step",
    )
    assert (
        recipe.optimization.momentum,
        recipe.optimization.nesterov,
        recipe.optimization.l2,
        recipe.optimization.decay_on,
    ) == (0.9, False, 1e-4, "all")
    assert (recipe.augmentation.shorter_side, recipe.augmentation.flip, recipe.augmentation.pad_pixels) == (
        (256, 480),
        True,
        0,
    )
    assert recipe.augmentation.pca_lighting == 0.1
    assert recipe.data.test_shorter_side == 256
    assert recipe.architecture.image_size == 224
    assert recipe.schedule.warmup_steps == 0
    assert recipe.schedule.epochs * (IMAGENET_TRAIN_IMAGES // recipe.data.batch_size) == pytest.approx(60e4, rel=1e-3)


def test_defaults_are_the_imagenet_recipe_without_its_augmentation() -> None:
    plain = RECIPES["imagenet"].replace(shorter_side=None, test_shorter_side=None, flip=False, pca_lighting=0.0)
    assert plain == Recipe.from_flat(model="resnet50", dataset="imagenet2012")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("shortcut", "D"),
        ("zero_channels", "front"),
        ("bottleneck_stride", "2x2"),
        ("batch_norm", "global"),
        ("lr_schedule", "linear"),
        ("decay_on", "biases"),
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
        ("auto_augment", "auto"),
        ("auto_augment_layers", 0),
        ("auto_augment_magnitude", 10.5),
        ("auto_augment_magnitude_std", -1.0),
        ("interpolation", "nearest"),
        ("train_sizes", (2,)),
        ("train_sizes", (32,) * 121),  # more than epochs
        ("accumulate", 0),
        ("accumulate", 3),  # of 256
        ("repeated_augmentation", 0),
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
        ("pca_lighting", -0.1),
        ("seed", -1),
        ("peak_lr", "0.1"),  # of another type
        ("peak_lr", True),
        ("peak_lr", float("inf")),
        ("epochs", 1.0),
        ("epochs", None),
        ("batch_size", "128"),
        ("flip", 1),
        ("model", 20),
        ("lr_drops", [0.5]),
        ("lr_drops", (0.5, "0.7")),
        ("crop_area", (0.5, float("nan"))),
        ("shorter_side", (40.0, 48.0)),
    ],
)
def test_a_wrong_value_raises_with_its_field_and_what_was_received(field: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{field}`.*Received: ") as caught:
        Recipe.from_flat(**{"model": "resnet20", "dataset": "cifar10", field: wrong})
    assert str(wrong) in str(caught.value)


@pytest.mark.parametrize("wrong", [(40,), (40, 48, 56)])
def test_a_range_that_is_no_pair_raises_with_its_field(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`shorter_side`.*Received: "):
        RECIPES["cifar10"].replace(shorter_side=wrong)  # type: ignore[arg-type]


def test_an_unknown_network_raises_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Received: 'resnet51'. Did you mean resnet56, resnet50 or resnet18\?"):
        Recipe.from_flat(model="resnet51", dataset="cifar10")


def test_a_plain_network_has_no_option_of_shortcuts() -> None:
    with pytest.raises(ValueError, match=r"`shortcut`.*plainnet20.*Received: 'A'"):
        Recipe.from_flat(model="plainnet20", dataset="cifar10", shortcut="A")


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
    assert RECIPES["cifar10"].replace(**{field: edge}).flat()[field] == edge


def test_the_lengths_are_compared_with_the_size_that_the_recipe_asks_for() -> None:
    assert RECIPES["cifar10"].replace(image_size=24, shorter_side=(24, 28), test_shorter_side=24)
    with pytest.raises(ValueError, match="`shorter_side`"):
        RECIPES["cifar10"].replace(image_size=48, shorter_side=(40, 60))


@pytest.mark.parametrize(
    ("field", "value"),
    [("shortcut", "B"), ("zero_channels", "both_sides"), ("bottleneck_stride", "3x3"), ("batch_norm", "synchronized")],
)
def test_the_architecture_has_the_options_of_the_recipe(field: str, value: str) -> None:
    recipe = RECIPES["cifar10"].replace(**{field: value})  # type: ignore[arg-type]
    assert recipe.architecture == ARCHITECTURES["resnet20"].replace(**{field: value})


def parts_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe and its parts, by name."""
    return {"": recipe, **{field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name != "seed"}}


def test_recipes_are_frozen_and_take_their_fields_by_name_alone() -> None:
    for part in parts_of(RECIPES["digits"]).values():
        for field in fields(part):
            with pytest.raises(FrozenInstanceError):
                setattr(part, field.name, None)
        with pytest.raises(TypeError):
            type(part)("resnet20", "cifar10")


def test_names_of_fields_are_unique_among_all_parts() -> None:
    parts = parts_of(RECIPES["digits"])
    names = [field.name for part in parts.values() for field in fields(part)]
    assert len(names) == len(set(names))
    assert set(names) - set(parts) == set(PART_OF) == set(RECIPES["digits"].flat())
    assert len(PART_OF) == 89


def test_recipes_survive_json() -> None:
    for recipe in RECIPES.values():
        content = json.loads(json.dumps(asdict(recipe)))
        assert Recipe.from_flat(**flatten(content)) == recipe


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "Expected a recipe as an object of its parts, network, data, .*Received: \\[1, 2\\]"),
        ({"network": "resnet20"}, "Expected the part 'network' of a recipe to be an object. Received: 'resnet20'"),
        (
            {"model": "resnet20"},
            "Expected the field 'model' of a recipe in the part 'network'. Received: it in 'model'",
        ),
        ({"data": {"model": "resnet20"}}, "'model' of a recipe in the part 'network'. Received: it in 'data'"),
        ({"data": {"seed": 1}}, "'seed' of a recipe outside the parts. Received: it in 'data'"),
    ],
)
def test_json_of_another_shape_is_no_recipe(content: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        flatten(content)


def test_unknown_fields_of_json_are_kept() -> None:
    assert flatten({"schedule": {"lookahead": 5, "lr_drops": [0.5]}}) == {"lookahead": 5, "lr_drops": (0.5,)}


def test_an_unknown_field_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"Expected fields of a recipe\. Received: 'epoch'\. Did you mean epochs\?"):
        RECIPES["digits"].replace(epoch=5)
    with pytest.raises(ValueError, match="Received: 'zzz'. Expected one of model, head, .*seed"):
        Recipe.from_flat(model="resnet20", dataset="cifar10", zzz=5)
    with pytest.raises(ValueError, match="Expected the field 'dataset' of a recipe. Received: model"):
        Recipe.from_flat(model="resnet20")


def test_replace_changes_fields_of_any_part_in_a_new_recipe() -> None:
    before = RECIPES["digits"].flat()
    changes = {"model": "resnet32", "batch_size": 8, "flip": True, "l2": 0.0, "epochs": 3, "test_flip": True, "seed": 4}
    assert RECIPES["digits"].replace(**changes).flat() == before | changes
    assert RECIPES["digits"].flat() == before


def test_a_warm_up_applies_from_a_depth_on() -> None:
    schedule = Schedule(warmup_steps=10, warmup_epochs=0.5, warmup_from_depth=110)
    assert [schedule.warmup(20, depth) for depth in (20, 109, 110, 1202)] == [0, 0, 20, 20]
    assert Schedule(warmup_steps=10).warmup(20, 8) == 10


def test_every_field_has_a_sentence_below_it() -> None:
    for part in parts_of(RECIPES["digits"]).values():
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(type(part)))).body
        assert isinstance(tree, ast.ClassDef)
        documented = {}
        for statement, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                documented[statement.target.id] = below.value.value if is_text else None  # type: ignore[attr-defined]
        assert list(documented) == [field.name for field in fields(part)]
        for field in documented.keys() & PART_OF.keys():
            text = documented[field]
            assert isinstance(text, str) and text.strip().endswith("."), f"no sentence below {field}"


def test_fine_tuning_begins_with_weights_at_a_rate_far_below_that_of_training() -> None:
    for name, recipe in RECIPES.items():
        if name.startswith("finetune"):
            assert (recipe.network.weights, recipe.data.dataset) == ("imagenet", "folder")
            assert recipe.schedule.peak_lr <= RECIPES["imagenet"].schedule.peak_lr / 10


def test_options_that_are_not_given_are_the_networks_own() -> None:
    recipe = Recipe.from_flat(model="resnet50", dataset="folder")
    conventions = recipe.architecture.conventions
    assert (conventions.bottleneck_stride, conventions.zero_channels) == ("1x1", "end")
    assert recipe.replace(bottleneck_stride="3x3").architecture.conventions.bottleneck_stride == "3x3"


def test_modern_recipes_differ_from_the_papers_in_what_their_comment_says() -> None:
    paper = RECIPES["cifar10"].replace(warmup_steps=0, warmup_from_depth=0)  # as it is below 110 layers
    modern = RECIPES["cifar10_modern"]
    changed = {key for key, value in paper.flat().items() if value != modern.flat()[key]}
    assert changed == {"epochs", "lr_schedule", "warmup_epochs", "nesterov", "l2"}
    assert (
        modern.schedule.epochs,
        modern.schedule.lr_schedule,
        modern.optimization.l2,
        modern.optimization.nesterov,
    ) == (200, "cosine", 5e-4, True)


@pytest.mark.parametrize("name", ["wide_resnet16_8", "wide_resnet28_10"])
def test_wide_networks_learn_by_the_schedule_of_their_paper(name: str) -> None:
    found = RECIPES["cifar10_wide"].replace(model=name)
    assert (found.schedule.epochs, found.data.batch_size, found.schedule.peak_lr, found.schedule.lr_factor) == (
        200,
        128,
        0.1,
        0.2,
    )
    assert [round(drop * found.schedule.epochs) for drop in found.schedule.lr_drops] == [60, 120, 160]
    assert (
        found.optimization.momentum,
        found.optimization.nesterov,
        found.optimization.l2,
        found.schedule.warmup_steps,
    ) == (0.9, True, 5e-4, 0)
    assert (found.augmentation.pad_pixels, found.augmentation.flip) == (4, True)


def test_torchvisions_recipe_is_that_of_its_references() -> None:
    found = RECIPES["imagenet_torchvision"]
    assert (
        found.schedule.epochs,
        found.data.batch_size,
        found.schedule.peak_lr,
        found.optimization.momentum,
        found.optimization.l2,
    ) == (90, 256, 0.1, 0.9, 1e-4)
    assert [round(drop * found.schedule.epochs) for drop in found.schedule.lr_drops] == [30, 60]
    assert (found.augmentation.crop_area, found.augmentation.flip, found.augmentation.pca_lighting) == (
        (0.08, 1.0),
        True,
        0.0,
    )
    assert found.architecture.conventions.bottleneck_stride == "3x3"


def test_torchvisions_second_recipe_is_that_of_its_references() -> None:
    found = RECIPES["imagenet_torchvision_v2"]
    assert (
        found.schedule.epochs,
        found.data.batch_size,
        found.schedule.peak_lr,
        found.optimization.momentum,
        found.optimization.l2,
    ) == (600, 1024, 0.5, 0.9, 2e-5)
    assert (
        found.schedule.lr_schedule,
        found.schedule.warmup_epochs,
        found.schedule.warmup_lr,
        found.optimization.decay_on,
    ) == ("cosine", 5, 0.005, "kernels")
    assert (
        found.augmentation.label_smoothing,
        found.augmentation.mixup,
        found.augmentation.cutmix,
        found.augmentation.erase,
    ) == (0.1, 0.2, 1.0, 0.1)
    assert (
        found.augmentation.auto_augment,
        found.augmentation.repeated_augmentation,
        found.data.train_sizes,
        found.data.test_shorter_side,
    ) == ("trivial", 4, (176,), 232)
    # There, every 32 steps the average takes 1024 x 32 x (1 - 0.99998) / 600 of the weights.
    assert found.optimization.ema**32 == pytest.approx(1 - 1024 * 32 * (1 - 0.99998) / 600, abs=1e-6)


@pytest.mark.parametrize(
    ("procedure", "expected"),
    [
        ("a1", (600, 5e-3, 0.01, 0.2, 0.1, 7.0, 3, 0.05, ())),
        ("a2", (300, 5e-3, 0.02, 0.1, 0.0, 7.0, 3, 0.05, ())),
        ("a3", (100, 8e-3, 0.02, 0.1, 0.0, 6.0, 1, 0.0, (160,))),
    ],
)
def test_procedures_of_resnet_strikes_back_are_those_of_its_table_2(procedure: str, expected: tuple) -> None:
    found = RECIPES[f"imagenet_{procedure}"]
    varied = (
        "epochs",
        "peak_lr",
        "weight_decay",
        "mixup",
        "label_smoothing",
        "auto_augment_magnitude",
        "repeated_augmentation",
    )
    assert tuple(found.flat()[field] for field in (*varied, "stochastic_depth", "train_sizes")) == expected
    assert (
        found.optimization.optimizer,
        found.data.batch_size,
        found.optimization.loss,
        found.augmentation.cutmix,
    ) == ("lamb", 2048, "binary", 1.0)
    assert (
        found.augmentation.auto_augment,
        found.augmentation.auto_augment_layers,
        found.augmentation.auto_augment_magnitude_std,
    ) == ("rand", 2, 0.5)
    assert (found.schedule.lr_schedule, found.schedule.warmup_epochs, found.optimization.decay_on) == (
        "cosine",
        5,
        "kernels",
    )
    assert int(224 / 0.95) == found.data.test_shorter_side == 235


def test_the_table_has_a_line_for_each_recipe_and_lists_them_to_whoever_asks_for_another() -> None:
    lines = unpadded(recipe_table()).splitlines()
    assert len(lines) == 2 + len(RECIPES)
    measured = "8.32 (1 seed, bfloat16)"
    assert f"| cifar10 | resnet20 | 164 | arXiv:1512.03385, Table 6 | 8.75 | test, last epoch | {measured} |" in lines
    assert "| imagenet_qat | resnet50 | 5 | our own | | | |" in lines
    with pytest.raises(ValueError, match="Expected one of digits, .*Received: 'cifar11'. Did you mean cifar10?"):
        recipe_table(["cifar11"])


def test_the_table_of_named_recipes_has_a_line_for_each_network_with_an_error() -> None:
    lines = unpadded(recipe_table(["cifar10", "digits", "digits_qat"])).splitlines()[2:]
    models = [model for recipe, model in PUBLISHED if recipe == "cifar10"]
    assert [line.split(" | ")[1] for line in lines] == [*models, "resnet20", "resnet20"]
    assert lines[0].startswith("| cifar10 | resnet20 | 164 | arXiv:1512.03385, Table 6 | 8.75 |")


def test_the_size_in_training_changes_in_equal_parts() -> None:
    recipe = RECIPES["cifar10"].replace(epochs=5, train_sizes=(16, 24, 32))
    assert [recipe.data.train_size(epoch, 5) for epoch in range(5)] == [16, 16, 24, 24, 32]
    assert RECIPES["cifar10"].data.train_size(3, 164) is None


def test_rates_are_in_proportion_to_the_batch_where_they_are_for_one() -> None:
    recipe = RECIPES["imagenet_torchvision"]
    assert recipe.replace(batch_size=1024).lr_scale == 4
    assert recipe.replace(batch_size=1024, lr_batch_size=None).lr_scale == 1


def test_a_crop_is_of_random_scale_or_of_random_area() -> None:
    with pytest.raises(ValueError, match="`crop_area` to be None, as `shorter_side` is given"):
        RECIPES["imagenet"].replace(crop_area=(0.08, 1.0))


@pytest.mark.parametrize("field", ["mixup", "cutmix", "label_smoothing"])
def test_labels_are_soft_where_an_image_has_parts_of_classes(field: str) -> None:
    assert not RECIPES["cifar10"].soft_labels
    assert RECIPES["cifar10"].replace(**{field: 0.1}).soft_labels
    assert RECIPES["cifar10"].replace(loss="binary").soft_labels


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mixup": 0.2}, "`mixup` to be 0.0 with the head deeplabv3. Received: 0.2"),
        ({"fit_head": True}, "`fit_head` to be False with the head deeplabv3"),
        ({"head": "unet", "output_stride": 8}, "`output_stride` to be None with the head unet"),
        ({"head": "unet", "crop_size": (480, 490)}, "`crop_size` to be two multiples of 32 with the head unet"),
        ({"head": None}, "`crop_size` to be None without a `head`. Received: \\(480, 480\\)"),
        ({"head": "fpn"}, "`head` to be one of"),
        ({"random_scale": (2.0, 0.5)}, "`random_scale` to be two rising factors above 0"),
    ],
)
def test_fields_of_another_task_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RECIPES["segmentation"].replace(**changes)


def test_a_network_with_a_head_is_named_with_it() -> None:
    recipe = RECIPES["segmentation"]
    assert (recipe.task, RECIPES["digits"].task) == ("segmentation", "classification")
    assert recipe.network.title == "deeplabv3 over resnet50 at output stride 8"
    assert recipe.replace(model="resnet18", head="unet").network.title == "unet over resnet18"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # torchvision's references/segmentation: --batch-size, --epochs, --lr, --wd, crops of 480, scales of 0.5 to 2.
        # The second loss weighs 0.4 as in arXiv:1612.01105, section 3.3.
        (
            "segmentation",
            {
                "batch_size": 16, "epochs": 30, "peak_lr": 0.01, "lr_batch_size": 16, "lr_schedule": "poly",
                "lr_power": 0.9, "crop_size": (480, 480), "random_scale": (0.5, 2.0), "auxiliary_loss": 0.4,
                "momentum": 0.9, "l2": 1e-4,
            },
        ),
        # arXiv:1512.03385, appendix A, and py-faster-rcnn's config: TRAIN.SCALES 600, MAX_SIZE 1000, IMS_PER_BATCH 2,
        # BATCH_SIZE 128 regions of two images, BG_THRESH_LO 0.1; base_lr 0.001, weight_decay 0.0005.
        (
            "voc_frcnn_c4",
            {
                "fit": (600, 1000), "batch_size": 2, "sampled_regions": 64, "background_overlap": 0.1,
                "peak_lr": 0.001, "l2": 5e-4, "lr_drops": (80_000 / 110_000,), "lr_factor": 0.1, "freeze": "stem",
                "freeze_batch_norms": True, "flip": True,
            },
        ),
        # torchvision's references/detection: --lr 0.02 for 8 GPUs of 2 images, --epochs 26, --lr-steps 16 22,
        # --weight-decay 1e-4; sides of 800 and at most 1333.
        (
            "coco_frcnn_fpn",
            {
                "fit": (800, 1333), "batch_size": 16, "lr_batch_size": 16, "peak_lr": 0.02, "epochs": 26,
                "lr_drops": (16 / 26, 22 / 26), "l2": 1e-4, "freeze_batch_norms": True, "flip": True,
            },
        ),
    ],
)  # fmt: skip
def test_recipes_of_dense_prediction_are_those_of_their_sources(name: str, expected: dict[str, Any]) -> None:
    flat = RECIPES[name].flat()
    for field, value in expected.items():
        found = flat[field]
        assert found == (pytest.approx(value) if isinstance(value, float) else value), field
