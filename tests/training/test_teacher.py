"""Teachers: which classifiers may be one, what they compute, and that a network learns it."""

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.messages import interrupt, on_message
from helpers.small_networks import TWO_STAGES, drawn

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.class_names import imagenet_class_names, wordnet_ids
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import ArraySplit
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import RunFolder
from resnet_keras.training.inputs import prepare_inputs
from resnet_keras.training.own_data import OwnData
from resnet_keras.training.teacher import (
    _columns,
    build_teacher,
    check_without_normalization,
    open_teacher,
    teacher_network,
)
from resnet_keras.training.trainer import train

HERE = Preprocessing(image_size=(16, 16), channels=3, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0))
BGR = Preprocessing(
    image_size=(16, 16), channels=3, mean=(103.9, 116.8, 123.7), std=(1.0, 1.0, 1.0), channel_order="bgr"
)
NAMES = ("ant", "bee", "cat", "dog")


def classifier(preprocessing: Preprocessing = HERE, **options: Any) -> Classifier:
    shape = (*preprocessing.image_size, preprocessing.channels)
    model = build(TWO_STAGES, input_shape=shape, classes=len(NAMES), **{"classifier_activation": None, **options})
    return Classifier(drawn(model), preprocessing, NAMES)


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("preprocessing", [HERE, BGR], ids=["same", "bgr"])
def test_logits_are_those_of_the_classifier(preprocessing: Preprocessing, activation: str | None) -> None:
    teacher = classifier(preprocessing, classifier_activation=activation)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    wanted = classifier(preprocessing).logits(pixels)
    network = teacher_network(teacher, ("dog", "ant"), HERE)
    assert not network.trainable_variables
    found = network(normalize(pixels, HERE), training=False)
    np.testing.assert_allclose(found, wanted[:, [3, 0]], atol=2e-4)
    assert network(keras.ops.zeros((1, 24, 20, 3))).shape == (1, 2)  # of any size


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_teacher_computes_in_the_precision_of_the_run(precision: str) -> None:
    teacher = classifier()
    recipe = RECIPES["cifar10"].replace(teacher="it", precision=precision)
    network = build_teacher(recipe, NAMES, HERE, None, teacher)
    assert network is not None
    dtypes = {layer.compute_dtype for layer in flat_layers(network) if isinstance(layer, keras.layers.Conv2D)}
    assert dtypes == {precision.removeprefix("mixed_")}
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    found, wanted = np.asarray(network(normalize(pixels, HERE), training=False)), teacher.logits(pixels)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_what_cannot_teach_is_refused(tmp_path: Path) -> None:
    for name, made in (("one", classifier()), ("several", classifier(classifier_activation="sigmoid"))):
        made.save(tmp_path / f"{name}.keras")

    def opened(name: str, class_names: tuple[str, ...] = NAMES, preprocessing: Preprocessing = HERE) -> Any:
        recipe = RECIPES["cifar10"].replace(teacher=str(tmp_path / f"{name}.keras"))
        return open_teacher(recipe, class_names, preprocessing)

    assert opened("one").class_names == NAMES
    assert opened("one", ("0", "1", "2", "3")).class_names == NAMES  # arrays without names
    with pytest.raises(ValueError, match=r"the classes of the data, such as cat. Received: .*, without cow; it has"):
        opened("one", ("cat", "cow"))
    with pytest.raises(ValueError, match=r"a teacher for images of 1 channels. Received: .*, for 3"):
        opened("one", preprocessing=Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,)))
    with pytest.raises(ValueError, match="for a teacher, a network of one label per image"):
        opened("several")
    with pytest.raises(FileNotFoundError, match="nothing"):
        opened("nothing")
    with pytest.raises(ValueError, match="Expected `temperature` to be 1 without a `teacher`. Received: 4.0"):
        RECIPES["cifar10"].replace(temperature=4.0)
    with pytest.raises(ValueError, match="Expected `teacher` to be None with the head deeplabv3"):
        RECIPES["segmentation"].replace(teacher="initial")


@pytest.mark.parametrize(
    ("own", "names", "columns"),
    [
        # Folders that Keras sorts as text, and `dataset=folder` as numbers.
        (tuple(sorted(map(str, range(12)))), tuple(map(str, range(12))), [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]),
        (NAMES, ("0", "1", "2", "3"), [0, 1, 2, 3]),
        (imagenet_class_names(), wordnet_ids(), list(range(1000))),
        (imagenet_class_names(), ("n01443537", "n01440764"), [1, 0]),
        (NAMES, ("dog", "ant"), [3, 0]),
    ],
)
def test_outputs_are_those_of_the_classes_by_names_wordnet_ids_or_else_numbers(
    own: tuple[str, ...], names: tuple[str, ...], columns: list[int]
) -> None:
    teacher: Any = SimpleNamespace(class_names=own)
    assert _columns(teacher, names, "it") == columns


def test_batches_of_the_caller_have_a_teacher_that_does_not_normalize() -> None:
    plain = Preprocessing(image_size=(16, 16), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    one: Any = SimpleNamespace(preprocessing=plain)
    check_without_normalization(one, "one")
    batches = tf.data.Dataset.from_tensors((np.zeros((2, 8, 8, 1), np.float32), np.zeros(2, np.int64)))
    own = OwnData(batches, batches, 10)
    recipe = own.recipe(RECIPES["digits"].replace(teacher="resnet20_digits", batch_size=2))
    wanted = "or `train_data` and `test_data` as arrays.* Received: resnet20_digits, with a mean of 77.9 and a stand"
    with pytest.raises(ValueError, match=wanted):
        prepare_inputs(recipe, own_data=own.open(recipe))


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    monkeypatch.setitem(ARCHITECTURES, "little", Architecture(stem="cifar", block="basic", repeats=(1,), widths=(16,)))
    monkeypatch.setattr(RunFolder, "write_curves", lambda folder, history: None)
    yield RECIPES["digits"].replace(
        model="little", epochs=3, lr_drops=(), teacher="resnet20_digits", temperature=2.0, train_sizes=(8,)
    )


def test_a_network_learns_what_the_teacher_knows(recipe: Recipe, tmp_path: Path) -> None:
    """The labels are wrong and do not count."""
    split = open_split("digits", "train")
    assert isinstance(split, ArraySplit)
    own = {"train_data": (split.images, (split.labels + 1) % 10), "test_data": (split.images, split.labels)}
    assert train(recipe, tmp_path / "run", class_names=split.class_names, **own).top1_error < 0.4
    with (tmp_path / "run" / "history.csv").open(encoding="utf-8") as lines:
        *_, last = csv.DictReader(lines)
    assert float(last["accuracy"]) < 0.2  # of the wrong labels
    assert float(last["val_accuracy"]) > 0.6


@pytest.mark.slow
def test_a_run_goes_on_with_its_teacher_alone(recipe: Recipe, tmp_path: Path) -> None:
    digits = Classifier.from_pretrained("resnet20_digits")
    file = tmp_path / "teacher.keras"
    digits.save(file)
    saved = file.read_bytes()
    recipe = recipe.replace(teacher=str(file))
    with pytest.raises(KeyboardInterrupt), on_message("epoch 1/", interrupt):
        train(recipe, tmp_path / "run")
    digits.model.layers[-1].bias.assign_add(keras.ops.ones(10))
    digits.save(file)
    with pytest.raises(ValueError, match=r"Expected the checkpoints of one run .*: teacher_weights="):
        train(recipe, tmp_path / "run")
    file.write_bytes(saved)
    train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "whole")
    resumed, whole = (Classifier.load(tmp_path / name).model.get_weights() for name in ("run", "whole"))
    for one, other in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(one, other)
