"""The meter of the input: its stages, the naive pipeline, the table and its command line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers.recipe_batches import recipe_batches, recipe_preprocessing
from helpers.tables import unpadded
from PIL import Image

from resnet_keras.cli import bench
from resnet_keras.data import input_speed as input_meter
from resnet_keras.data.datasets import Dataset
from resnet_keras.data.input_speed import (
    ANTIALIASED,
    NAIVE,
    Stage,
    first_preprocessing,
    measure,
    naive_batches,
    pipelines,
    table,
    training_images,
)
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.settings import Augmentation
from resnet_keras.data.splits import ArraySplit, Split
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe

PLAIN = Recipe.from_flat(model="resnet20", dataset="folder", image_size=32, batch_size=4)
CROPPED = PLAIN.replace(shorter_side=(40, 60))
VARIED = CROPPED.replace(flip=True, pca_lighting=0.1)
READ = ["read", "read, decode whole"]
OTHERS = [NAIVE, ANTIALIASED]


def picture(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (60 + i, 90 - i, 3), np.uint8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes with three images each, one a PNG."""
    root = tmp_path_factory.mktemp("photographs")
    for i in range(6):
        path = root / ("cat", "dog")[i % 2] / f"{i}.{'png' if i == 5 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(i)).save(path)
    return root


@pytest.fixture(scope="session")
def splits(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    """The same images as files and records, and others as an array."""
    root = tmp_path_factory.mktemp("records")
    examples = tf.data.Dataset.from_generator(
        lambda: ({"image": picture(i), "label": i % 2} for i in range(6)),
        output_signature={"image": tf.TensorSpec((None, None, 3), tf.uint8), "label": tf.TensorSpec((), tf.int64)},
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="pictures",
        version="1.0.0",
        data_dir=root,
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(encoding_format="jpeg"), "label": tfds.features.ClassLabel(num_classes=2)}
        ),
        split_datasets={"train": examples},
    )
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 3), np.uint8)
    return {
        "files": training_images(PLAIN.data, data_dir=folder),
        "records": open_split("pictures", "train", data_dir=root),
        "array": ArraySplit(images, np.arange(6) % 2, ("cat", "dog"), Dataset(source="folder")),
    }


def parts(split: Split, recipe: Recipe) -> tuple[Split, Preprocessing, Augmentation]:
    return split, first_preprocessing(recipe.data, split, recipe.architecture.image_size), recipe.augmentation


def options(recipe: Recipe) -> dict[str, Any]:
    return {"batch_size": recipe.data.batch_size, "one_hot": recipe.soft_labels}


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds no pipeline, where only their names matter."""
    for function in ("training_batches", "naive_batches", "_read", "_decoded_whole"):
        monkeypatch.setattr(input_meter, function, lambda *args, **kwargs: tf.data.Dataset.range(1))


# Stages ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unbuilt")
@pytest.mark.parametrize("kind", ["files", "records"])
@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        (PLAIN, ["read, decode, resize, normalize"]),
        (CROPPED, ["read, decode, crop, normalize"]),
        (VARIED, ["read, decode, crop, normalize", "+ augmentation"]),
        (CROPPED.replace(cutmix=1.0), ["read, decode, crop, normalize", "+ mixing, soft labels"]),
        (
            PLAIN.replace(crop_area=(0.1, 1.0), auto_augment="trivial", erase=0.5, mixup=0.2),
            ["read, decode, crop, normalize", "+ augmentation", "+ mixing, soft labels"],
        ),
    ],
)
def test_stages_of_encoded_images_are_those_of_the_recipe(
    splits: dict[str, Split], kind: str, recipe: Recipe, stages: list[str]
) -> None:
    assert list(pipelines(*parts(splits[kind], recipe), **options(recipe))) == [*READ, *stages, *OTHERS]


@pytest.mark.usefixtures("unbuilt")
@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        (PLAIN.replace(pad_pixels=2), ["gather, resize, normalize", "+ augmentation", NAIVE]),
        (PLAIN.replace(label_smoothing=0.1), ["gather, resize, normalize", "+ mixing, soft labels", NAIVE]),
        (VARIED, ["gather, crop, normalize", "+ augmentation", *OTHERS]),
    ],
)
def test_images_in_memory_are_neither_read_nor_decoded(
    splits: dict[str, Split], recipe: Recipe, stages: list[str]
) -> None:
    assert list(pipelines(*parts(splits["array"], recipe), **options(recipe))) == stages


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "records", "array"])
def test_stages_have_batches_beyond_the_last_epoch_and_the_last_is_the_input_of_training(
    splits: dict[str, Split], kind: str
) -> None:
    recipe = PLAIN.replace(epochs=1, mixup=0.2)
    found = pipelines(*parts(splits[kind], recipe), **options(recipe))
    for batches in found.values():
        assert [len(labels) for _, labels in batches.take(3)] == [4, 4, 4]  # an epoch is one batch
    (whole,) = recipe_batches(splits[kind], recipe, recipe_preprocessing(recipe, splits[kind]))
    (measured,) = found["+ mixing, soft labels"].take(1)
    for one, other in zip(measured, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_have_the_size_of_the_first_epoch(splits: dict[str, Split]) -> None:
    recipe = PLAIN.replace(train_sizes=(24, 32))
    found = pipelines(*parts(splits["array"], recipe), **options(recipe))
    assert {batches.element_spec[0].shape for batches in found.values()} == {(4, 24, 24, 3)}


@pytest.mark.parametrize(
    ("kind", "recipe", "antialias"),
    [
        ("files", VARIED, False),
        pytest.param("files", PLAIN.replace(crop_area=(0.1, 1.0)), True, marks=pytest.mark.slow),
        ("records", CROPPED, True),
        ("array", PLAIN.replace(pad_pixels=2, flip=True), False),
        pytest.param("array", PLAIN.replace(crop_area=(0.1, 1.0)), True, marks=pytest.mark.slow),
    ],
)
def test_the_naive_pipeline_makes_what_ours_makes(
    splits: dict[str, Split], kind: str, recipe: Recipe, antialias: bool
) -> None:
    preprocessing = recipe_preprocessing(recipe, splits[kind])
    ours = recipe_batches(splits[kind], recipe, preprocessing)
    naive = naive_batches(splits[kind], preprocessing, recipe.augmentation, batch_size=4, antialias=antialias)
    assert naive.element_spec == ours.element_spec
    images, labels = (np.concatenate(parts) for parts in zip(*naive.take(12).as_numpy_iterator(), strict=True))
    assert set(labels) == {0, 1}
    # Noise has this mean and, resized, at most this deviation; padding and noise of colors change them little.
    wanted = (127.5 - np.array(preprocessing.mean)) / preprocessing.std
    np.testing.assert_allclose(images.mean((0, 1, 2)), wanted, atol=0.25)
    assert 0.2 < images.std() < 1.6


def test_all_images_of_a_folder_are_measured_or_as_many_as_the_recipe_takes(folder: Path) -> None:
    assert len(training_images(PLAIN.data, data_dir=folder)) == 6
    assert len(training_images(PLAIN.replace(train_images=4).data, data_dir=folder)) == 4
    assert len(training_images(RECIPES["digits"].data)) == 1438


# Measuring ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["files", pytest.param("records", marks=pytest.mark.slow), "array"])
def test_every_stage_is_measured_in_every_turn(splits: dict[str, Split], kind: str) -> None:
    stages = measure(*parts(splits[kind], PLAIN), **options(PLAIN), seconds=0.02, turns=2)
    ours = (
        ["gather, resize, normalize", NAIVE] if kind == "array" else [*READ, "read, decode, resize, normalize", *OTHERS]
    )
    assert [stage.name for stage in stages] == ours
    for stage in stages:
        assert len(stage.rates) == len(stage.cpu_times) == 2
        assert min(stage.rates) > 0
        assert min(stage.cpu_times) >= 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seconds": 0}, "`seconds` above 0, a finite number. Received: 0"),
        ({"seconds": float("nan")}, "`seconds` above 0, a finite number. Received: nan"),
        ({"seconds": float("inf")}, "`seconds` above 0, a finite number. Received: inf"),
        ({"turns": 0}, "`turns` of at least 1. Received: 0"),
    ],
)
def test_measuring_takes_time_and_turns(splits: dict[str, Split], wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        measure(*parts(splits["array"], PLAIN), **options(PLAIN), **wrong)  # type: ignore[arg-type]


def test_images_that_fill_no_batch_are_an_error(splits: dict[str, Split]) -> None:
    with pytest.raises(ValueError, match="`batch_size` to be at most 6, all training images. Received: 7"):
        measure(*parts(splits["files"], PLAIN), batch_size=7)


def test_the_table_has_medians_and_ratios_by_turns() -> None:
    stages = (
        Stage("ours", (200.0, 100.0, 400.0), (0.001, 0.002, 0.009)),
        Stage(NAIVE, (100.0, 80.0, 100.0), (0.01, 0.01, 0.01)),
    )
    assert stages[0].rate == 200
    assert stages[0].times_as_fast(stages[1]) == 2  # of 2, 1.25 and 4
    assert unpadded(table(stages)).splitlines() == [
        "| stage | images/s | ms per image | CPU ms per image | x naive |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| ours | 200.0 | 5.000 | 2.000 | 2.00 |",
        "| naive | 100.0 | 10.000 | 10.000 | 1.00 |",
    ]
    assert "x naive" not in table(stages[:1])


# Command line ------------------------------------------------------------------------------------------------------

SHORT = ["--seconds", "0.02", "--turns", "1"]


@pytest.mark.slow
def test_a_folder_is_measured_with_flags_over_a_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--dataset", "folder", "--data-dir", str(folder), "--batch-size", "3", "--crop-area", "0.08", "1"]
    assert bench.main(["input", "cifar10", *flags, "--pad-pixels", "0", "--no-flip", *SHORT]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "6 images in batches of 3, medians over 1 turns:"
    names = [line.split("|")[1].strip() for line in said[3:]]
    assert names == [*READ, "read, decode, crop, normalize", *OTHERS]


def test_digits_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["input", "digits", *SHORT]) == 0
    said = capsys.readouterr().out
    assert "1438 images in batches of 32" in said
    assert "| gather, resize, normalize |" in unpadded(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["input", "digits", "--no-such-flag"], "no-such-flag"),
        (["output", "digits"], "output"),
        (["input", "digitz"], "digits"),
        (["input", "digits", "--seconds", "-1"], "Expected --seconds above 0, a finite number. Received: -1.0"),
        (["input", "digits", "--batch-size", "2000"], "at most 1438, all training images. Received: 2000"),
        (["input", "digits", "--dataset", "folder"], "Expected a folder of images"),
    ],
)
def test_bad_input_is_an_error_without_a_traceback(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = bench.main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    err = capsys.readouterr().err
    assert status == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments, said", [([], "{input,export,scaling}"), (["input"], "imagenet_torchvision"), (["export"], "--peers")]
)
def test_help_lists_subcommands_and_recipes(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([*arguments, "--help"]) == 0
    printed = capsys.readouterr().out
    assert "resnet bench" in printed
    assert said in printed
