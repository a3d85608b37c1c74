"""Weights in the package: whatever files are there have the network, the hash and the errors that they state."""

from pathlib import Path

import numpy as np
import pytest

import resnet_keras
from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.data.opening import open_split
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.evaluation.views import Views
from resnet_keras.recipes.recipe import Recipe, flatten
from resnet_keras.runs.trained_weights import training_command
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.pretrained_files import list_pretrained, pretrained_facts, pretrained_file
from resnet_keras.weights.recognition import recognize_architecture
from resnet_keras.weights.sources import open_weights

NAMES = list_pretrained()
MEASURED = [
    pytest.param(name, marks=() if pretrained_facts(name).dataset == "digits" else pytest.mark.slow) for name in NAMES
]


def test_digits_are_in_the_package() -> None:
    assert "resnet20_digits" in NAMES
    assert resnet_keras.list_pretrained() == NAMES == sorted(NAMES)
    assert pretrained_facts("resnet20_digits").evaluation["top1_error"] < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_a_file_states_the_network_that_its_tensors_have(name: str) -> None:
    facts, found = pretrained_facts(name), open_weights(name)
    network, dataset = facts.architecture.name, facts.dataset
    assert recognize_architecture(found) == facts.architecture
    assert f"{name}_".startswith(f"{network}_{dataset}_")
    assert (found.preprocessing, found.class_names) == (facts.preprocessing, facts.class_names)
    assert {array.dtype.name for array in found.tensors.values() if array.ndim > 1} == {"float16"}
    recipe = Recipe.from_flat(**flatten(facts.recipe))
    assert (recipe.network.model, recipe.data.dataset, recipe.seed) == (network, dataset, facts.seed)
    assert training_command(recipe) == facts.command
    assert [row["epoch"] for row in facts.history] == list(range(1, recipe.schedule.epochs + 1))
    assert {"loss", "accuracy", "val_accuracy", "learning_rate"} <= facts.history[-1].keys()
    private = [word for word in ("/home", "/root", "/tmp", "/work") if word in str(facts)]
    assert not private


@pytest.mark.parametrize("name", MEASURED)
def test_its_errors_are_those_that_it_states(name: str, request: pytest.FixtureRequest) -> None:
    facts = pretrained_facts(name)
    data_dir = None
    if facts.dataset != "digits":
        data_dir = request.getfixturevalue("test_data") / "tensorflow_datasets"
    split = open_split(facts.dataset, "test", data_dir=data_dir)
    classifier = Classifier.from_pretrained(name)
    for views, stated in ((Views(), facts.evaluation), (Views(flip=True), facts.mirrored_evaluation)):
        found = evaluate(classifier, split, views=views)
        assert found.images == stated["images"] == len(split)
        # One image in a thousand may fall to the other side by rounding errors of another machine.
        assert found.top1_error == pytest.approx(stated["top1_error"], abs=1e-3)
        assert found.loss == pytest.approx(stated["loss"], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_builders_take_the_data_set_and_report_every_weight(name: str) -> None:
    facts = pretrained_facts(name)
    network, dataset = facts.architecture.name, facts.dataset
    weights = dataset if name == f"{network}_{dataset}" else name
    model = build_with_weights(network, weights=weights, classifier_activation=None)
    assert model.input_shape == (None, *facts.preprocessing.image_size, facts.preprocessing.channels)
    assert model.output_shape == (None, len(facts.class_names))
    assert model.preprocessing == facts.preprocessing
    report = load_weights(model, name)
    assert len(report.matched) == len(model.weights)
    assert not (report.problems or report.ignored or report.notes or report.new_head)
    expected = open_weights(name).tensors
    for key, array in arrays_of_model(model).items():
        np.testing.assert_array_equal(array, expected[key].astype(np.float32))


def test_a_backbone_and_another_number_of_classes_take_the_weights() -> None:
    assert build_with_weights("resnet20", False, "digits").input_shape == (None, None, None, 1)
    with pytest.warns(UserWarning, match="keeps its initial weights"):
        assert build_with_weights("resnet20", weights="digits", classes=3).output_shape == (None, 3)


def test_missing_weights_are_an_error_that_lists_those_that_are_there() -> None:
    known = ", ".join(NAMES)
    with pytest.raises(ValueError, match=f"one of {known}. Received: 'digits' for resnet56. Did you mean resnet20_"):
        build_with_weights("resnet56", weights="digits")
    with pytest.raises(ValueError, match=f"one of {known}. Received: 'cifar100' for resnet20"):
        build_with_weights("resnet20", weights="cifar100")
    with pytest.raises(ValueError, match="Received: 'resnet20_digit'. Did you mean resnet20_digits?"):
        Classifier.from_pretrained("resnet20_digit")
    with pytest.raises(ValueError, match="Received: 'resnet50'. For that network, name 'imagenet' or 'torchvision'"):
        Classifier.from_pretrained("resnet50")
    with pytest.raises(ValueError, match="Received: 'x' for None"):
        pretrained_file("x")


def test_a_data_set_without_a_network_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    with pytest.raises(FileNotFoundError, match="Received: digits, without"):
        Classifier.from_pretrained("digits")


def test_a_photograph_of_a_cat_is_a_cat() -> None:
    if "resnet20_cifar10" not in NAMES:
        pytest.skip("the package has no weights for CIFAR-10")
    photo = Path(resnet_keras.__file__).parents[1] / "examples" / "photos" / "cat.jpg"
    assert Classifier.from_pretrained("resnet20_cifar10").predict(photo)[0].class_name == "cat"
