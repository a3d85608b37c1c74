"""Errors, against a slow count in NumPy."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from resnet_keras.classifier import Classifier
from resnet_keras.datasets import Dataset
from resnet_keras.evaluation import Evaluation, evaluate, ranks
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.splits import ArraySplit, open_split

CHOSEN = Preprocessing(image_size=(8, 8), channels=1, mean=(77.9,), std=(95.9,))


def slow_rank(scores: np.ndarray, label: int) -> int:
    """Returns at which place the right class stands in the list of all, best first, equals in their order."""
    return sorted(range(len(scores)), key=lambda c: (-scores[c], c)).index(label)


@pytest.mark.parametrize("levels", [2, 3, 10, 10**6])  # few levels make many ties
@pytest.mark.parametrize("classes", [1, 2, 7, 100])
def test_ranks_are_those_of_a_sorted_list(classes: int, levels: int) -> None:
    rng = np.random.default_rng(classes)
    scores = (rng.integers(0, levels, (200, classes)) / levels).astype(np.float32)
    labels = rng.integers(0, classes, 200)
    assert ranks(scores, labels).tolist() == [slow_rank(*pair) for pair in zip(scores, labels, strict=True)]


def test_of_equals_the_first_class_precedes() -> None:
    assert ranks(np.full((3, 3), 1 / 3), np.array([0, 1, 2])).tolist() == [0, 1, 2]


def test_a_class_whose_probability_is_no_number_is_not_the_most_probable() -> None:
    assert (ranks(np.full((6, 6), np.nan), np.arange(6)) >= 1).all()


def classifier(kind: str = "logits", *, classes: int = 10, weight: float = 0.05, seed: int = 0) -> Classifier:
    """Returns a linear classifier of digits with random weights, which gives logits or probabilities."""
    image = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(image)
    activation = "softmax" if kind == "dense with softmax" else None
    outputs = keras.layers.Dense(classes, activation=activation, name="logits")(flat)
    if kind == "softmax activation":
        outputs = keras.layers.Activation("softmax")(outputs)
    elif kind == "softmax layer":
        outputs = keras.layers.Softmax()(outputs)
    elif kind == "linear activation":
        outputs = keras.layers.Activation("linear")(outputs)
    model = keras.Model(image, outputs)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, weight, (64, classes)), rng.normal(0, weight, classes)])
    return Classifier(model, CHOSEN, tuple(map(str, range(classes))))


def slow_evaluation(chosen: Classifier, split: ArraySplit) -> tuple[float, float, float]:
    """Returns top-1 error, top-5 error and cross-entropy, image by image and in double precision."""
    kernel, bias = (weights.astype(np.float64) for weights in chosen.model.get_weights())
    wrong, beyond_five, losses = 0, 0, []
    for image, label in zip(split.images, split.labels, strict=True):
        logits = ((image.astype(np.float64) - 77.9) / 95.9).reshape(-1) @ kernel + bias
        rank = slow_rank(logits, label)
        wrong += rank != 0
        beyond_five += rank >= 5
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
    return wrong / len(split), beyond_five / len(split), float(np.mean(losses))


def digits() -> ArraySplit:
    split = open_split("digits", "test")
    assert isinstance(split, ArraySplit)
    return split


@pytest.mark.parametrize(
    "kind", ["logits", "linear activation", "dense with softmax", "softmax activation", "softmax layer"]
)
def test_errors_and_loss_are_those_of_a_slow_count_for_logits_and_for_probabilities(kind: str) -> None:
    split = digits()
    top1, top5, loss = slow_evaluation(classifier(kind), split)
    assert 0.5 < top1 < 1 and 0.1 < top5 < 0.9  # neither 0 nor 1 would tell much
    found = evaluate(classifier(kind), split)
    assert found.images == 359
    assert found.top1_error == top1
    assert found.top5_error == top5
    assert found.loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 64, 128, 359, 1000])
def test_every_image_counts_once_whatever_the_batches(batch_size: int) -> None:
    split = digits()
    if batch_size == 1:
        split = replace(split, images=split.images[:23], labels=split.labels[:23])
    top1, top5, loss = slow_evaluation(classifier(), split)
    found = evaluate(classifier(), split, batch_size=batch_size)
    assert (found.images, found.top1_error, found.top5_error) == (len(split), top1, top5)
    assert found.loss == pytest.approx(loss, rel=1e-5)


def test_a_confident_wrong_answer_has_a_finite_loss() -> None:
    found = evaluate(classifier(weight=100.0), digits())
    assert found.top1_error > 0.5
    assert 10 < found.loss < 88  # float32 knows no probability below exp(-87.3)


@pytest.mark.parametrize("classes", [2, 5])
def test_of_five_classes_or_fewer_there_is_no_top_5_error(classes: int) -> None:
    few = digits().labels < classes
    split = replace(
        digits(), images=digits().images[few], labels=digits().labels[few], class_names=tuple(map(str, range(classes)))
    )
    found = evaluate(classifier(classes=classes), split)
    assert found.top5_error is None
    assert found.top1_error == slow_evaluation(classifier(classes=classes), split)[0]
    assert "top-5" not in str(found)


def test_images_are_resized_to_what_the_classifier_expects() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (20, 4, 4, 1), np.uint8)
    # Of a flat classifier, whose answer is the mean of the whole image, the size must not matter.
    chosen = classifier()
    kernel = np.repeat(rng.normal(size=(1, 10)) / 64, 64, 0)
    chosen.model.set_weights([kernel, np.zeros(10)])
    split = ArraySplit(small, rng.integers(0, 10, 20), chosen.class_names, Dataset(source="package", channels=1))
    large = replace(split, images=np.repeat(np.repeat(small, 2, 1), 2, 2))
    found, wanted = evaluate(chosen, split), evaluate(chosen, large)
    assert found.loss == pytest.approx(wanted.loss, abs=0.02)


@pytest.mark.parametrize("classes", [9, 11])
def test_a_split_of_other_classes_raises(classes: int) -> None:
    with pytest.raises(ValueError, match=rf"classifier's {classes} classes\. Received: one of 10"):
        evaluate(classifier(classes=classes), digits())


def test_a_network_that_gives_no_numbers_is_wrong_throughout() -> None:
    chosen = classifier()
    chosen.model.set_weights([np.full((64, 10), np.nan), np.zeros(10)])
    found = evaluate(chosen, digits())
    assert found.top1_error == 1.0
    assert np.isnan(found.loss)


def test_an_evaluation_reads_in_per_cent() -> None:
    assert str(Evaluation(images=1234, top1_error=0.0875, top5_error=0.00251, loss=0.34567)) == (
        "top-1 error 8.75%, top-5 error 0.25%, loss 0.3457, 1234 images"
    )
