"""Measures of networks for several labels per image."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.datasets import Dataset
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import ArraySplit
from resnet_keras.evaluation.confusion import class_table, write_details
from resnet_keras.evaluation.evaluator import evaluate, predict_split
from resnet_keras.evaluation.predictions import LabelEvaluation, average_precision
from resnet_keras.evaluation.views import Views

PIXELS = Preprocessing(image_size=(4, 4), channels=1, mean=(0.0,), std=(255.0,))
NAMES = ("a", "b", "c")


def network(activation: str | None = "sigmoid", *, classes: int = 3) -> keras.Model:
    """Returns a linear classifier of 16 pixels."""
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Dense(classes, activation=activation)(keras.layers.Flatten()(image)))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=(16, classes)), rng.normal(size=classes)])
    return model


def split(labels: np.ndarray, names: tuple[str, ...] = NAMES) -> ArraySplit:
    images = np.random.default_rng(1).integers(0, 256, (len(labels), 4, 4, 1), np.uint8)
    return ArraySplit(images, labels, names, Dataset(source="arrays", channels=1))


SEVERAL = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]])
CLASSIFIER = Classifier(network(), PIXELS, NAMES)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 5 / 6),  # the example of scikit-learn's documentation
        ([1, 1, 0], [0.9, 0.8, 0.1], 1.0),
        ([0, 0, 1], [0.9, 0.8, 0.1], 1 / 3),
        ([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5], 0.5),  # equal scores count together
        ([0, 1], [0.5, 0.5], 0.5),
        ([0, 0], [0.5, 0.2], None),
    ],
)
def test_average_precision_is_that_of_scikit_learn(
    labels: list[int], scores: list[float], expected: float | None
) -> None:
    assert average_precision(np.array(labels), np.array(scores)) == pytest.approx(expected)


def test_several_labels_are_measured_by_average_precision_and_binary_cross_entropy() -> None:
    data = split(SEVERAL)
    probabilities = CLASSIFIER.probabilities(list(data.images))
    result = evaluate(CLASSIFIER, data, batch_size=4)
    assert isinstance(result, LabelEvaluation)
    expected = np.mean([average_precision(SEVERAL[:, i], probabilities[:, i]) for i in range(3)])
    assert result.mean_average_precision == pytest.approx(expected)
    loss = keras.losses.BinaryCrossentropy()(SEVERAL, probabilities)
    assert result.loss == pytest.approx(float(loss), rel=1e-5)
    labeled = SEVERAL.any(axis=1)
    right = np.take_along_axis(SEVERAL, probabilities.argmax(1)[:, None], 1)[:, 0]
    assert result.top1_error == pytest.approx(1 - right[labeled].mean())
    assert str(result).startswith(f"mean average precision {expected:.2%}, top-1 error")


def test_one_label_per_image_is_one_of_several() -> None:
    labels = np.array([0, 2, 1, 2])
    one, several = (predict_split(CLASSIFIER, split(each)) for each in (labels, np.eye(3, dtype=int)[labels]))
    assert one.evaluation == several.evaluation
    np.testing.assert_array_equal(one.labels, several.labels)


def test_averages_of_logits_become_probabilities_by_the_head_s_own_function() -> None:
    data = split(SEVERAL)
    probabilities = predict_split(CLASSIFIER, data, views=Views(average="logits")).scores
    np.testing.assert_allclose(probabilities, CLASSIFIER.probabilities(list(data.images)), atol=1e-6)


def test_classes_in_another_order_find_their_labels() -> None:
    moved = split(SEVERAL[:, [2, 0]], ("c", "a"))
    found = predict_split(CLASSIFIER, moved).labels
    np.testing.assert_array_equal(found, SEVERAL * [1, 0, 1])


def test_details_have_the_average_precision_of_each_class(tmp_path: Path) -> None:
    predictions = predict_split(CLASSIFIER, split(SEVERAL))
    rows = class_table(predictions)
    assert [row["class"] for row in rows] == ["a", "b", "c"]
    assert [row["images"] for row in rows] == [3, 3, 2]
    assert [row["average_precision"] for row in rows] == predictions.average_precisions
    write_details(predictions, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.csv", "evaluation.json"]
    lines = (tmp_path / "classes.csv").read_text().splitlines()
    assert lines[0] == "class,images,average_precision"


def test_heads_of_two_kinds_are_no_ensemble_and_one_label_needs_one() -> None:
    softmax = Classifier(network("softmax"), PIXELS, NAMES)
    with pytest.raises(ValueError, match="Expected classifiers of one kind"):
        evaluate([CLASSIFIER, softmax], split(np.array([0, 1, 2])))
    with pytest.raises(ValueError, match=r"ends in the sigmoid of each class, for images with several labels"):
        evaluate(softmax, split(SEVERAL))


def test_an_ensemble_of_other_class_names_is_told(caplog: pytest.LogCaptureFixture) -> None:
    others = replace(CLASSIFIER, class_names=("x", "y", "z"))
    with caplog.at_level(logging.WARNING):
        evaluate([CLASSIFIER, others], split(np.array([0, 1, 2])))
    assert "another classifier has other class names than the classifier; they are matched by their order: x as a" in (
        caplog.text
    )
    with pytest.raises(ValueError, match="classes of other names beside b, such as x"):
        evaluate([CLASSIFIER, replace(CLASSIFIER, class_names=("b", "x", "c"))], split(np.array([0, 1, 2])))


def test_ten_crops_of_images_of_the_crops_size_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        evaluate(CLASSIFIER, split(SEVERAL), views=Views(crops="ten"))
    assert "one view five times; `scales` 5 makes them larger" in caplog.text
    caplog.clear()
    evaluate(CLASSIFIER, split(SEVERAL), views=Views(crops="ten", scales=(5,)))
    assert not caplog.records
