"""Errors and predictions, against a slow count in NumPy and a slow evaluation image by image."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from helpers import slow_evaluation as slow
from PIL import Image

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data import class_names, opening
from resnet_keras.data.datasets import Dataset
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import stratified_sample, subset
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split
from resnet_keras.evaluation import predictions as evaluation
from resnet_keras.evaluation import view_batches
from resnet_keras.evaluation.evaluator import align_classes, evaluate, predict_split
from resnet_keras.evaluation.predictions import Evaluation, ranks
from resnet_keras.evaluation.views import Views

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


def test_a_confident_wrong_prediction_has_a_finite_loss() -> None:
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
    # Of a flat classifier, whose prediction is the mean of the whole image, the size must not matter.
    chosen = classifier()
    kernel = np.repeat(rng.normal(size=(1, 10)) / 64, 64, 0)
    chosen.model.set_weights([kernel, np.zeros(10)])
    split = ArraySplit(small, rng.integers(0, 10, 20), chosen.class_names, Dataset(source="package", channels=1))
    large = replace(split, images=np.repeat(np.repeat(small, 2, 1), 2, 2))
    found, wanted = evaluate(chosen, split), evaluate(chosen, large)
    assert found.loss == pytest.approx(wanted.loss, abs=0.02)


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


# Views and ensembles, image by image -------------------------------------------------------------------------------

NAMES = ("ant", "bee", "cow", "dog", "elk", "fly", "gnu")

# All lengths are doubled or halved, some several times. Pixels are then sums of binary fractions, which Pillow's fixed
# point has exactly; of other lengths, sums of a half may fall to either side.
SHAPES = [(16, 22), (22, 16), (16, 22), (32, 32), (46, 32), (16, 22), (32, 32), (8, 20), (22, 16), (16, 22), (32, 32)]
CENTRE = Preprocessing(image_size=(13, 13), channels=3, mean=(120, 115, 100), std=(60, 61, 62), shorter_side=16)
BGR = Preprocessing(
    image_size=(24, 24), channels=3, mean=(104, 117, 124), std=(50, 50, 50), channel_order="bgr", shorter_side=32
)
OBLONG = Preprocessing(
    image_size=(10, 14), channels=3, mean=(99, 98, 97), std=(64, 64, 64), interpolation="bicubic", shorter_side=16
)

LINEAR = [slow.linear(CENTRE, NAMES, 0), slow.linear(BGR, NAMES, 1), slow.linear(OBLONG, NAMES, 2)]


@pytest.fixture(scope="module")
def convolutional() -> list[slow.Member]:
    return [slow.convolutional(CENTRE, NAMES, 3), slow.convolutional(BGR, NAMES, 4, softmax_at_end=True)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSplit:
    """Images of six shapes, JPEG and PNG, some of them gray, in seven classes."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate(SHAPES):
        small = rng.integers(0, 256, (9, 9, 3), np.uint8)
        pixels = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
        name = folder / NAMES[index % 7] / f"{index:02}.{('jpg', 'png')[index % 2]}"
        name.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[..., 0] if index % 4 == 3 else pixels).save(name)
    split = open_split("folder", "all", data_dir=folder)
    assert isinstance(split, FileSplit)
    return split


def classifiers(members: list[slow.Member]) -> list[Classifier]:
    return [member.classifier for member in members]


def slowly(members: list[slow.Member], split: FileSplit | ArraySplit, views: Views) -> np.ndarray:
    pictures = [slow.read(path) for path in split.paths] if isinstance(split, FileSplit) else split.images
    return np.stack([slow.probabilities(members, picture, views) for picture in pictures])


def assert_evaluated_as_slowly(
    members: list[slow.Member],
    split: FileSplit | ArraySplit,
    views: Views,
    batch_size: int = 128,
    atol: float = 5e-5,
    expected: np.ndarray | None = None,
) -> None:
    expected = slowly(members, split, views) if expected is None else expected
    assert expected.max(axis=1).std() > 0.01
    found = predict_split(classifiers(members), split, views=views, batch_size=batch_size)
    assert found.labels.tolist() == split.labels.tolist()
    right = expected[np.arange(len(split)), split.labels]
    np.testing.assert_allclose(np.exp(-found.losses), right, atol=atol)
    one_order = np.diff(np.sort(expected, axis=1), axis=1).min(1) > 2 * atol
    assert one_order.mean() > (0.8 if atol < 1e-4 else 0.5)
    assert (found.predicted == expected.argmax(1))[one_order].all()
    assert (found.ranks == ranks(expected, split.labels))[one_order].all()


@pytest.mark.parametrize(
    ("views", "count"),
    [
        (Views(), 1),
        pytest.param(Views(average="logits"), 3, marks=pytest.mark.slow),
        pytest.param(Views(flip=True), 3, marks=pytest.mark.slow),
        pytest.param(Views(scales=(32, 64)), 3, marks=pytest.mark.slow),
        pytest.param(Views(scales=(32, 64), flip=True), 1, marks=pytest.mark.slow),
        (Views(scales=(32, 64), flip=True, average="logits"), 3),
        pytest.param(Views(crops="ten"), 1, marks=pytest.mark.slow),
        (Views(crops="ten", average="logits"), 3),
        (Views(crops="ten", scales=(32, 64), average="logits"), 1),
        pytest.param(Views(crops="ten", scales=(32, 64)), 3, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_crops_are_evaluated_as_image_by_image(files: FileSplit, views: Views, count: int) -> None:
    assert_evaluated_as_slowly(LINEAR[:count], files, views)


@pytest.mark.parametrize(
    ("views", "count"),
    [
        (Views(crops="full", scales=(16,)), 1),
        pytest.param(Views(crops="full", scales=(8, 32), flip=True, average="logits"), 1, marks=pytest.mark.slow),
        pytest.param(Views(crops="full", scales=(16, 32)), 2, marks=pytest.mark.slow),
        (Views(crops="full", scales=(16,), flip=True, average="logits"), 2),
    ],
    ids=str,
)
def test_full_images_are_evaluated_as_by_a_classifier_at_every_position(
    files: FileSplit, convolutional: list[slow.Member], views: Views, count: int
) -> None:
    assert_evaluated_as_slowly(convolutional[:count], files, views)


def test_full_images_have_the_papers_scales(files: FileSplit, convolutional: list[slow.Member]) -> None:
    assert_evaluated_as_slowly(convolutional[:1], files, Views(crops="full"), atol=1e-3)


def test_probabilities_have_their_logarithms_averaged_as_logits(files: FileSplit) -> None:
    """Logits but for a constant, which the softmax over their mean does not see."""
    members = [slow.linear(CENTRE, NAMES, 5, softmax_at_end=True), slow.linear(BGR, NAMES, 6)]
    for chosen in (members[:1], members):
        assert_evaluated_as_slowly(chosen, files, Views(crops="ten", average="logits"))


def test_a_probability_of_zero_has_a_finite_logarithm() -> None:
    chosen = classifier("dense with softmax", weight=100.0)
    found = predict_split([chosen, classifier(seed=1)], digits(), views=Views(average="logits"))
    assert np.isfinite(found.losses).all()


@pytest.mark.parametrize(
    ("views", "count"),
    [
        (Views(), 1),
        pytest.param(Views(), 2, marks=pytest.mark.slow),
        pytest.param(Views(crops="ten", average="logits"), 2, marks=pytest.mark.slow),
        pytest.param(Views(scales=(32, 40), flip=True), 1, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_predictions_are_the_same_whatever_the_batches(files: FileSplit, views: Views, count: int) -> None:
    expected = predict_split(classifiers(LINEAR[:count]), files, views=views)
    for size in (1, 3):
        found = predict_split(classifiers(LINEAR[:count]), files, views=views, batch_size=size)
        assert found.labels.tolist() == expected.labels.tolist() == files.labels.tolist(), size
        assert found.predicted.tolist() == expected.predicted.tolist(), size
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-4, err_msg=f"batches of {size}")


@pytest.mark.slow
def test_predictions_of_full_images_have_the_order_of_the_split_whatever_the_batches(
    files: FileSplit, convolutional: list[slow.Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = Views(crops="full", scales=(16,), flip=True)
    expected = slowly(convolutional[:1], files, views)
    for size, held in ((1, 8), (2, 1), (3, 1), (5, 8)):
        monkeypatch.setattr(view_batches, "_HELD_BATCHES", held)
        assert_evaluated_as_slowly(convolutional[:1], files, views, size, expected=expected)


@pytest.mark.parametrize("views", [Views(), Views(crops="ten"), Views(scales=(32,), flip=True)], ids=str)
def test_arrays_are_evaluated_as_image_by_image(views: Views) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 16, 22, 3), np.uint8)
    split = ArraySplit(images, rng.integers(0, 7, 9), NAMES, Dataset(source="package", channels=3))
    assert_evaluated_as_slowly(LINEAR[:2], split, views, 4)


@pytest.mark.slow
def test_records_are_evaluated_as_the_same_images_in_memory(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = test_data / "tensorflow_datasets"
    whole = open_split("cifar10", "test", data_dir=folder)
    assert isinstance(whole, ArraySplit)
    monkeypatch.setattr(opening, "IN_MEMORY_BYTES", 0)
    records = stratified_sample(open_split("cifar10", "test", data_dir=folder), 20)
    assert isinstance(records, RecordSplit)
    member = slow.convolutional(CENTRE, whole.class_names, 3).classifier
    for views in (Views(), Views(crops="full", scales=(16, 20)), Views(crops="ten")):
        expected = predict_split(member, subset(whole, np.arange(20)), views=views)
        found = predict_split(member, records, views=views, batch_size=7)
        assert found.labels.tolist() == expected.labels.tolist(), views
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-3, err_msg=str(views))


def test_a_classifier_alone_is_an_ensemble_of_one_and_of_twins(files: FileSplit) -> None:
    chosen = LINEAR[0].classifier
    expected = predict_split(chosen, files).losses
    np.testing.assert_allclose(predict_split([chosen], files).losses, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(predict_split((chosen, chosen), files, batch_size=5).losses, expected, rtol=1e-4)


def test_an_evaluation_is_that_of_the_predictions(files: FileSplit) -> None:
    found = predict_split(LINEAR[0].classifier, files)
    assert evaluate(LINEAR[0].classifier, files) == found.evaluation
    assert found.evaluation == Evaluation(
        images=len(SHAPES),
        top1_error=float(np.mean(found.predicted != files.labels)),
        top5_error=float(np.mean(found.ranks >= 5)),
        loss=float(np.mean(found.losses)),
    )
    assert found.class_names == NAMES


def test_the_network_of_a_classifier_is_left_as_it_was(files: FileSplit, convolutional: list[slow.Member]) -> None:
    model = convolutional[0].classifier.model
    before = [weight.numpy().tobytes() for weight in model.weights]
    predict_split(convolutional[0].classifier, files, views=Views(crops="full", scales=(16,)))
    assert model.input_shape == (None, 13, 13, 3)
    assert [weight.numpy().tobytes() for weight in model.weights] == before


# Classes -----------------------------------------------------------------------------------------------------------


def of_classes(names: tuple[str, ...], labels: list[int]) -> ArraySplit:
    images = np.random.default_rng(1).integers(0, 256, (len(labels), 16, 16, 3), np.uint8)
    return ArraySplit(images, np.array(labels), names, Dataset(source="package", channels=3))


def test_a_split_of_some_of_the_classes_is_classified_among_all_of_them() -> None:
    some = of_classes(("fly", "bee", "dog"), [0, 2, 1, 1])
    whole = of_classes(NAMES, [5, 3, 1, 1])
    found, expected = predict_split(LINEAR[0].classifier, some), predict_split(LINEAR[0].classifier, whole)
    assert found.class_names == NAMES
    assert found.labels.tolist() == [5, 3, 1, 1]
    assert found.predicted.tolist() == expected.predicted.tolist()
    assert found.losses.tolist() == expected.losses.tolist()


@pytest.mark.parametrize("views", [Views(), Views(crops="full", scales=(16,))], ids=str)
def test_a_folder_of_some_classes_is_matched_by_their_names(
    tmp_path: Path, views: Views, convolutional: list[slow.Member]
) -> None:
    for index, name in enumerate(["gnu", "bee", "gnu", "cow", "bee"]):
        (tmp_path / name).mkdir(exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (18, 18 + index, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    split = open_split("folder", "all", data_dir=tmp_path)
    found = predict_split(convolutional[0].classifier, split, views=views)
    assert found.labels.tolist() == [1, 1, 2, 6, 6]


def test_a_folder_of_wordnet_ids_is_classified_among_imagenets_classes(tmp_path: Path) -> None:
    for wordnet_id in ("n02099712", "n01440764"):
        (tmp_path / wordnet_id).mkdir()
        Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / wordnet_id / "a.png")
    split = open_split("folder", "all", data_dir=tmp_path)
    found = predict_split(slow.linear(CENTRE, class_names.imagenet_class_names()).classifier, split)
    assert found.labels.tolist() == [0, 208]  # the tench and the Labrador retriever
    assert len(found.class_names) == 1000


@pytest.mark.parametrize("names", [("ant", "bee", "yak"), ("ANT", "bee"), (*NAMES, "yak")])
def test_a_split_of_classes_that_the_classifier_has_not_raises(names: tuple[str, ...]) -> None:
    message = rf"the classifier's 7 classes, or a folder of some of them.*Received: one of {len(names)}$"
    with pytest.raises(ValueError, match=message):
        predict_split(LINEAR[0].classifier, of_classes(names, [0, 1]))


def test_digits_need_a_classifier_of_all_digits() -> None:
    with pytest.raises(ValueError, match=r"the classifier's 9 classes, .* Received: one of 10"):
        evaluate(classifier(classes=9), digits())
    assert predict_split(classifier(classes=11), digits()).evaluation.images == 359


def test_records_of_some_of_the_classes_raise() -> None:
    builder: Any = None
    split = RecordSplit(builder, "test", NAMES[:3], Dataset(source="tfds"))
    with pytest.raises(ValueError, match=r"the classifier's 7 classes, or a folder.* Received: one of 3"):
        predict_split(LINEAR[0].classifier, split)


# Errors ------------------------------------------------------------------------------------------------------------


def test_no_classifier_raises(files: FileSplit) -> None:
    with pytest.raises(ValueError, match=r"at least one classifier\. Received: none"):
        predict_split([], files)


def test_classifiers_of_other_numbers_of_classes_raise(files: FileSplit) -> None:
    other = slow.linear(CENTRE, NAMES[:6]).classifier
    with pytest.raises(ValueError, match=r"classifiers of the same 7 classes\. Received: one of 6"):
        predict_split([LINEAR[0].classifier, other], files)


@pytest.mark.parametrize("crops", ["center", "ten"])
def test_a_scale_below_one_classifiers_crop_raises(files: FileSplit, crops: Any) -> None:
    with pytest.raises(ValueError, match=r"no shorter than the crop of \(24, 24\)\. Received: \(20, 32\)"):
        predict_split(classifiers(LINEAR[:2]), files, views=Views(crops=crops, scales=(20, 32)))


@pytest.mark.parametrize(
    "views",
    [
        Views(),
        *(pytest.param(views, marks=pytest.mark.slow) for views in (Views(flip=True), Views(crops="ten"))),
        Views(crops="full", scales=(16,)),
    ],
    ids=str,
)
def test_a_broken_image_is_named(tmp_path: Path, views: Views, convolutional: list[slow.Member]) -> None:
    for index, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((20, 20 + index, 3), 90, np.uint8)).save(tmp_path / name / "whole.png")
    (tmp_path / "cow" / "broken.png").write_bytes((tmp_path / "cow" / "whole.png").read_bytes()[:60])
    (tmp_path / "fly" / "empty.jpg").write_bytes(b"")
    split = open_split("folder", "all", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"whole images \(JPEG, PNG, WebP.*cow/broken\.png, .*fly/empty\.jpg"):
        predict_split(convolutional[0].classifier, split, views=views, batch_size=2)


# Progress ----------------------------------------------------------------------------------------------------------


def logged(
    split: Split, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, every: float
) -> list[str]:
    """Returns what is logged of an evaluation whose every batch of four images takes two seconds."""
    caplog.clear()
    clock = itertools.count(100.0, 2.0)
    monkeypatch.setattr(evaluation, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(evaluation, "_REPORT_SECONDS", every)
    predict_split(LINEAR[0].classifier, split, batch_size=4)
    return caplog.messages


def test_an_evaluation_logs_its_progress(
    files: FileSplit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = predict_split(LINEAR[0].classifier, files).ranks >= 1
    errors = [f"{wrong[:done].mean():.2%}" for done in (4, 8, 11)]
    assert logged(files, monkeypatch, caplog, every=0.0) == [
        f"  4 of 11 images, 2.0 images/s, 4 s left, top-1 error so far {errors[0]}",  # 3.5 s, to the even
        f"  8 of 11 images, 2.0 images/s, 2 s left, top-1 error so far {errors[1]}",
        f"  11 of 11 images, 1.8 images/s, 0 s left, top-1 error so far {errors[2]}",
    ]


def test_an_evaluation_logs_no_more_often_than_it_should(
    files: FileSplit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert [line.split()[0] for line in logged(files, monkeypatch, caplog, every=3.0)] == ["8"]
    assert logged(files, monkeypatch, caplog, every=60.0) == []


def test_a_network_is_traced_once_although_the_last_batch_has_fewer_images() -> None:
    member, split = classifier(), open_split("digits", "test")
    by_seven = predict_split(member, stratified_sample(split, 20), batch_size=7)
    assert member.model.predict_function.experimental_get_tracing_count() == 1
    at_once = predict_split(classifier(), stratified_sample(split, 20), batch_size=20)
    np.testing.assert_array_equal(by_seven.predicted, at_once.predicted)
    np.testing.assert_allclose(by_seven.losses, at_once.losses, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "known", "warned"),
    [
        (("cat", "dog"), ("cat", "dog"), False),
        (("horse", "cow"), ("cat", "dog"), True),
        (("0", "1"), ("cat", "dog"), True),
        (("cat", "dog"), ("0", "1"), True),
    ],
)
def test_classes_of_other_names_are_never_taken_by_place_without_a_word(
    names: tuple[str, ...], known: tuple[str, ...], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    split = ArraySplit(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1]), names, Dataset(source="folder"))
    assert align_classes(split, known).labels.tolist() == [0, 1]
    said = f"they are matched by their order: {names[0]} as {known[0]}, {names[1]} as {known[1]}"
    assert [message.endswith(said) for message in caplog.messages] == [True] * warned


def test_classes_that_a_classifier_has_at_other_places_are_refused_beside_strangers() -> None:
    split = ArraySplit(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1]), ("dog", "fox"), Dataset(source="folder"))
    with pytest.raises(ValueError, match=r"or none of them\. Received: .* dog, such as fox"):
        align_classes(split, ("cat", "dog"))
