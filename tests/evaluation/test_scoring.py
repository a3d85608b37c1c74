"""Scores of batches: of one size, and shared between devices."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers.two_devices import run_on_two_devices

from resnet_keras.evaluation import scoring
from resnet_keras.evaluation.scoring import Scorer, default_devices
from resnet_keras.evaluation.views import Views


def linear() -> SimpleNamespace:
    """A classifier of three classes, which counts the images of each call."""
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    counts: list[int] = []

    def predict(images: np.ndarray) -> np.ndarray:
        counts.append(len(images))
        return np.asarray(model(images))

    model.predict_on_batch = predict
    return SimpleNamespace(model=model, counts=counts)


def test_the_last_batch_has_the_size_of_the_first() -> None:
    classifier, images = linear(), np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype(np.float32)
    score = Scorer(classifier, Views(average="logits"))
    both = np.concatenate([score(images[:3]), score(images[3:])])
    assert classifier.counts == [3, 3]
    np.testing.assert_allclose(both, classifier.model(images), rtol=1e-6, atol=1e-6)


def test_full_images_are_not_filled_up() -> None:
    classifier = linear()
    score = Scorer(classifier, Views(crops="full"))
    assert [len(score(np.ones((count, 4, 4, 1), np.float32))) for count in (3, 2)] == [3, 2]
    assert classifier.counts == [3, 2]


def test_fewer_full_images_than_devices_are_computed_by_one() -> None:
    classifier, images = linear(), np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    score = Scorer(classifier, Views(crops="full", average="logits"), ("CPU:0", "CPU:0"))
    np.testing.assert_allclose(score(images[:1]), classifier.model(images[:1]), rtol=1e-6, atol=1e-6)
    assert classifier.counts == [1]
    np.testing.assert_allclose(score(images), classifier.model(images), rtol=1e-6, atol=1e-6)
    assert classifier.counts == [1]  # both devices have computed the other two


@pytest.mark.parametrize(("count", "names"), [(0, ()), (1, ()), (2, ("GPU:0", "GPU:1"))])
def test_several_gpus_share_by_default(monkeypatch: pytest.MonkeyPatch, count: int, names: tuple[str, ...]) -> None:
    gpus = [SimpleNamespace(name=f"GPU:{index}") for index in range(count)]
    monkeypatch.setattr(scoring.tf.config, "list_logical_devices", lambda kind: gpus)
    assert default_devices() == names


TWO_DEVICES = """
import json
from helpers.small_networks import TWO_STAGES, drawn
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.opening import open_split
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.evaluation import scoring
from resnet_keras.evaluation.evaluator import predict_split
from resnet_keras.evaluation.views import Views
from resnet_keras.networks.builder import build

model = drawn(build(TWO_STAGES, input_shape=(8, 8, 1), classes=10, classifier_activation=None))
preprocessing = Preprocessing(image_size=(8, 8), channels=1, mean=(77.9,), std=(95.9,))
split = stratified_sample(open_split("digits", "test"), 13)
classifier = Classifier(model, preprocessing, tuple(split.class_names))
places = []
clone = scoring.clone
scoring.clone = lambda model: places.append(clone(model)) or places[-1]
found = []
for views in (Views(), Views(crops="ten", scales=(9,)), Views(crops="full", scales=(9,))):
    for devices in ((), ("CPU:0", "CPU:1")):
        each = predict_split(classifier, split, views=views, devices=devices, batch_size=5)
        found.append([each.predicted.tolist(), each.ranks.tolist(), each.losses.tolist()])
print(json.dumps([found, [copy.weights[0].value.device for copy in places]]))
"""


@pytest.mark.slow
def test_two_devices_find_what_one_does() -> None:
    found, places = json.loads(run_on_two_devices(TWO_DEVICES))
    for one, two in zip(found[::2], found[1::2], strict=True):
        assert one[:2] == two[:2]
        np.testing.assert_allclose(one[2], two[2], rtol=1e-5)
    assert [place.rpartition("/")[2] for place in places] == ["device:CPU:1"] * 3
