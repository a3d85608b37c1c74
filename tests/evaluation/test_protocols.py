"""The paper's protocols: what they show, and what becomes of results that are known."""

from __future__ import annotations

import keras
import pytest

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.evaluation.protocols import ProtocolResult, evaluate_protocols, protocol_views
from resnet_keras.evaluation.views import Views

DIGITS = Preprocessing(image_size=(8, 8), channels=1, mean=(77.9,), std=(95.9,))


def classifier(seed: int) -> Classifier:
    """A fully convolutional classifier of digits with random weights."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(6, 3, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed))(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(10, kernel_initializer=keras.initializers.HeNormal(seed), name="logits")(x)
    return Classifier(keras.Model(inputs, x), DIGITS, tuple("0123456789"))


def test_ten_crops_are_taken_of_a_border_of_8_7() -> None:
    imagenet = Preprocessing(image_size=(224, 224), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, shorter_side=256)
    assert protocol_views("10-crop", imagenet) == Views(crops="ten")  # of its own 256 pixels
    cifar = Preprocessing(image_size=(32, 32), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert protocol_views("10-crop", cifar) == Views(crops="ten", scales=(37,))
    assert protocol_views("multi-scale", imagenet).sides(imagenet) == (224, 256, 384, 480, 640)
    assert protocol_views("1-crop", imagenet) == Views()
    with pytest.raises(ValueError, match=r"Expected one of 1-crop, 10-crop, multi-scale\. Received: '5-crop'"):
        protocol_views("5-crop", imagenet)


@pytest.mark.slow
def test_each_network_by_each_protocol_then_all_together() -> None:
    split = stratified_sample(open_split("digits", "test"), 30)
    members = {"one": classifier(1), "two": classifier(2)}
    found = {(row.protocol, row.networks): row for row in evaluate_protocols(members, split)}
    assert list(found) == [
        *((protocol, (name,)) for name in members for protocol in ("1-crop", "10-crop", "multi-scale")),
        *((protocol, ("one", "two")) for protocol in ("1-crop", "multi-scale")),
    ]
    shown = {
        "1-crop": Views(),
        "10-crop": Views(crops="ten", scales=(9,)),
        "multi-scale": Views(crops="full", flip=True),
    }
    for (protocol, names), row in found.items():
        expected = evaluate([members[name] for name in names], split, views=shown[protocol])
        assert (row.top1_error, row.top5_error, row.images) == (expected.top1_error, expected.top5_error, 30)
    assert len({row.top1_error for row in found.values()}) > 1


def test_what_is_known_is_not_computed_again(caplog: pytest.LogCaptureFixture) -> None:
    known = ProtocolResult("10-crop", ("one",), 3, 0.125, None)
    split = stratified_sample(open_split("digits", "test"), 20)
    found = list(evaluate_protocols({"one": classifier(1)}, split, known=(known,)))
    assert found[1] == known
    assert caplog.messages == ["1-crop: one", "multi-scale: one"]
    assert [row.images for row in found] == [20, 3, 20]


def test_no_classifier_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Expected at least one classifier\. Received: none"):
        next(evaluate_protocols({}, open_split("digits", "test")))
