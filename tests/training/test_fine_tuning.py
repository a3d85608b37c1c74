"""Fine-tuning of few images, beside a look-up of the nearest training image by its frozen features."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.foreign_weights import foreign, network, write_torch

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.named_networks import ResNet18
from resnet_keras.data.opening import open_split
from resnet_keras.data.splits import ArraySplit, FileSplit
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.inputs import initial_weights
from resnet_keras.training.trainer import train


def folder_of(root: Path, train_split: ArraySplit, test_split: ArraySplit, classes: list[int], count: int) -> Path:
    """Writes `count` training images and 20 test images of each class, as PNG files in class folders."""
    rng = np.random.default_rng(count)
    for part, split in (("train", train_split), ("test", test_split)):
        for place, label in enumerate(classes):
            chosen = rng.permutation(np.flatnonzero(split.labels == label))
            own = chosen[: count // len(classes) + (place < count % len(classes))] if part == "train" else chosen[:20]
            (root / part / split.class_names[label]).mkdir(parents=True)
            for i in own:
                file = root / part / split.class_names[label] / f"{i}.png"
                file.write_bytes(tf.io.encode_png(split.images[i]).numpy())
    return root


def features_of(split: FileSplit, classifier: Classifier) -> np.ndarray:
    """Returns the features of files, scaled to a length of 1."""
    found = classifier.embed(list(split.paths))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def look_up_error(root: Path, classifier: Classifier) -> float:
    known, asked = open_split("folder", "train", data_dir=root), open_split("folder", "test", data_dir=root)
    assert isinstance(known, FileSplit) and isinstance(asked, FileSplit)
    nearest = (features_of(asked, classifier) @ features_of(known, classifier).T).argmax(1)
    return float((known.labels[nearest] != asked.labels).mean())


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 53])
def test_few_digits_are_recognized_no_worse_than_by_the_look_up(tmp_path: Path, count: int) -> None:
    splits = [open_split("digits", part) for part in ("train", "test")]
    root = folder_of(tmp_path / "images", *splits, classes=[1, 3, 5, 8, 9], count=count)  # type: ignore[arg-type]
    classifier = Classifier.from_pretrained("resnet20_digits")
    recipe = RECIPES["finetune"].replace(
        model="resnet20", weights="digits", image_size=8, flip=False, crop_area=None, seed=count
    )
    found = train(recipe, tmp_path / "run", data_dir=root, validate_epochs=100)
    assert found.images == 100
    assert found.top1_error <= look_up_error(root, classifier)


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 53, 500])
@pytest.mark.parametrize("seed", [0, 1])
def test_few_photographs_are_recognized_no_worse_than_by_the_look_up(
    test_data: Path, tmp_path: Path, count: int, seed: int
) -> None:
    folder = test_data / "tensorflow_datasets"
    splits = [open_split("cifar10", part, data_dir=folder) for part in ("train", "test")]
    root = folder_of(tmp_path / "images", *splits, classes=[0, 3, 4, 6, 8], count=count)  # type: ignore[arg-type]
    weights = test_data / "pretrained" / "imagenet_resnet18_torchvision.safetensors"
    recipe = RECIPES["finetune"].replace(weights=str(weights), image_size=64, seed=seed)
    found = train(recipe, tmp_path / "run", data_dir=root, validate_epochs=100)
    classifier = Classifier.from_pretrained(weights)
    network = ResNet18(weights=weights, input_shape=(64, 64, 3), classifier_activation=None)
    small = Classifier(network, classifier.preprocessing.at(64), classifier.class_names)
    assert found.top1_error <= look_up_error(root, small)


def test_a_recipe_chooses_between_weights_and_their_average(tmp_path: Path) -> None:
    plain, average = (foreign(network(seed, "resnet20", classes=10), "cifar") for seed in range(2))
    path = write_torch({"state_dict": plain, "state_dict_ema": average}, tmp_path / "x.pth")
    recipe = RECIPES["cifar10"].replace(weights=str(path))
    for chosen, expected in ((recipe, average), (recipe.replace(weights_averaged=False), plain)):
        found = initial_weights(chosen)
        assert found is not None
        np.testing.assert_array_equal(found.tensors["logits/bias"], expected["linear.bias"])
