"""Confusion matrices, tables of classes and the files that hold them, against a slow count."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_keras.evaluation.confusion import class_table, confusion_matrix, draw_confusion, write_details
from resnet_keras.evaluation.predictions import SplitPredictions

FILES = ["classes.csv", "confusion.csv", "confusion.png", "evaluation.json"]


def random_predictions(classes: int, images: int, *, seed: int = 0, without: tuple[int, ...] = ()) -> SplitPredictions:
    """Returns predictions that are correct about half of the time; the classes `without` have no images."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.setdiff1d(np.arange(classes), without), images)
    ranks = np.where(rng.random(images) < 0.5, 0, rng.integers(0, classes, images))
    wrong = (labels + rng.integers(1, classes, images)) % classes
    predicted = np.where(ranks == 0, labels, wrong)
    names = tuple(f"class {index}" for index in range(classes))
    return SplitPredictions(labels, predicted, ranks, rng.exponential(size=images), names)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(("classes", "images"), [(2, 1), (3, 50), (10, 500), (1000, 3000)])
def test_matrix_counts_each_pair_of_classes(classes: int, images: int) -> None:
    predictions = random_predictions(classes, images)
    expected = np.zeros((classes, classes), int)
    for label, predicted in zip(predictions.labels, predictions.predicted, strict=True):
        expected[label, predicted] += 1
    found = confusion_matrix(predictions)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_matrix_has_room_for_every_pair_whatever_the_type_of_the_labels(dtype: str) -> None:
    names = tuple(map(str, range(100)))
    labels = np.array([99, 99, 0], dtype)
    predicted = np.array([99, 98, 99], dtype)
    found = confusion_matrix(SplitPredictions(labels, predicted, np.zeros(3, int), np.zeros(3), names))
    assert (found[99, 99], found[99, 98], found[0, 99], found.sum()) == (1, 1, 1, 3)


@pytest.mark.parametrize(("classes", "images", "without"), [(3, 40, ()), (7, 60, (2, 6)), (1000, 2000, (0,))])
def test_table_has_a_row_for_each_class(classes: int, images: int, without: tuple[int, ...]) -> None:
    predictions = random_predictions(classes, images, without=without)
    table = class_table(predictions)
    assert [row["class"] for row in table] == list(predictions.class_names)
    for index, row in enumerate(table):
        own = [i for i in range(images) if predictions.labels[i] == index]
        taken = [int(predictions.predicted[i]) for i in own if predictions.predicted[i] != index]
        counts = {other: taken.count(other) for other in sorted(set(taken))}
        most = max(counts, key=lambda other: counts[other], default=None)
        assert row["images"] == len(own)
        assert row["top1_accuracy"] == (np.mean([predictions.ranks[i] < 1 for i in own]) if own else None)
        meant = own and classes > 5
        assert row["top5_accuracy"] == (np.mean([predictions.ranks[i] < 5 for i in own]) if meant else None)
        assert row["recall"] == row["top1_accuracy"]
        assert row["mostly_taken_for"] == (None if most is None else predictions.class_names[most])
        assert row["times"] == (0 if most is None else counts[most])


def test_a_class_that_is_always_right_is_taken_for_no_other() -> None:
    predictions = SplitPredictions(
        np.array([0, 0, 1]), np.array([0, 0, 0]), np.array([0, 0, 1]), np.zeros(3), ("a", "b", "c")
    )
    always, never, absent = class_table(predictions)
    assert (always["top1_accuracy"], always["mostly_taken_for"], always["times"]) == (1.0, None, 0)
    assert (never["top1_accuracy"], never["mostly_taken_for"], never["times"]) == (0.0, "a", 1)
    assert (absent["images"], absent["top1_accuracy"], absent["mostly_taken_for"]) == (0, None, None)


def test_precision_recall_and_f1_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    predictions = random_predictions(7, 300)
    table = class_table(predictions)
    expected = metrics.precision_recall_fscore_support(predictions.labels, predictions.predicted, labels=range(7))
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose([row[name] for row in table], values, rtol=1e-12)


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    predictions = SplitPredictions(
        np.array([0, 0, 1]), np.array([0, 0, 0]), np.array([0, 0, 1]), np.zeros(3), ("a", "b", "c")
    )
    always, never, absent = class_table(predictions)
    assert (always["precision"], always["recall"], always["f1"]) == (2 / 3, 1.0, 0.8)
    assert (never["precision"], never["recall"], never["f1"]) == (None, 0.0, 0.0)
    assert (absent["precision"], absent["recall"], absent["f1"]) == (None, None, None)


@pytest.mark.parametrize(("classes", "images", "without"), [(3, 40, (1,)), (40, 900, ()), (41, 300, (40,))])
def test_files_hold_what_the_functions_return(
    classes: int, images: int, without: tuple[int, ...], tmp_path: Path
) -> None:
    predictions = random_predictions(classes, images, without=without)
    write_details(predictions, tmp_path / "new" / "details")
    folder = tmp_path / "new" / "details"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    header, *lines = rows(folder / "confusion.csv")
    assert header == ["class", *predictions.class_names]
    assert [line[0] for line in lines] == list(predictions.class_names)
    np.testing.assert_array_equal(np.array([line[1:] for line in lines], int), confusion_matrix(predictions))
    header, *lines = rows(folder / "classes.csv")
    table = class_table(predictions)
    assert header == list(table[0])
    for line, row in zip(lines, table, strict=True):
        expected = ["" if value is None else str(value) for value in row.values()]
        assert line == expected
    assert json.loads((folder / "evaluation.json").read_text()) == {
        "images": images,
        "top1_error": predictions.evaluation.top1_error,
        "top5_error": predictions.evaluation.top5_error,
        "loss": predictions.evaluation.loss,
    }
    with Image.open(folder / "confusion.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert min(picture.size) >= 400


def test_a_thousand_classes_are_drawn_and_written(tmp_path: Path) -> None:
    predictions = random_predictions(1000, 2000)
    write_details(predictions, tmp_path)
    assert len(rows(tmp_path / "confusion.csv")) == len(rows(tmp_path / "classes.csv")) == 1001
    with Image.open(tmp_path / "confusion.png") as picture:
        picture.load()
        assert max(picture.size) < 2000


def test_the_picture_shows_each_row_in_parts_of_its_class(tmp_path: Path) -> None:
    """Of one class all images are right, of the other all are taken for the first: one column is dark, one is not."""
    labels = np.repeat([0, 1], [1000, 3])
    predictions = SplitPredictions(labels, np.zeros(1003, int), labels, np.zeros(1003), ("a", "b"))
    write_details(predictions, tmp_path)
    with Image.open(tmp_path / "confusion.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    dark = (np.abs(pixels - [8, 48, 107]).max(-1) < 3).sum(1)  # the last color of matplotlib's "Blues"
    (filled,) = np.nonzero(dark > dark.max() / 2)
    # Both rows of the column are, though the second stands for three images.
    assert len(filled) > 0.5 * pixels.shape[0]


def test_the_picture_says_true_predicted_and_the_accuracy() -> None:
    labels = np.array([0, 0, 1, 2])
    predicted = np.array([0, 1, 1, 2])
    axes, bar = draw_confusion(
        SplitPredictions(labels, predicted, (labels != predicted).astype(int), np.zeros(4), ("cat", "dog", "fox"))
    ).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.get_title() == "accuracy 75.00% on 4 images"
    assert bar.get_ylabel() == "images of the true class, %"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "fox"]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "1"),
        ((1, 0), "1"),
        ((1, 1), "1"),
        ((2, 2), "1"),
    }


def test_files_that_are_there_are_replaced(tmp_path: Path) -> None:
    write_details(random_predictions(3, 10), tmp_path)
    write_details(random_predictions(4, 20), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert len(rows(tmp_path / "confusion.csv")) == 5


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")  # the picture has boxes for them, the tables are right
@pytest.mark.parametrize(
    "names",
    [
        ("comma, semicolon;", 'a "quoted" name', "two\nlines"),
        ("$5 or $10", "100 % cotton", "b"),
        (r"$\x$", "a_b^c", "{brace}"),
        ("Ångström", "naïve café", "犬"),
        ("great white shark, white shark, man-eater", "b", "c"),
    ],
    ids=["punctuation", "dollars", "formulas", "letters", "length"],
)
def test_class_names_may_be_any_text(names: tuple[str, ...], tmp_path: Path) -> None:
    predictions = random_predictions(3, 30)
    write_details(
        SplitPredictions(predictions.labels, predictions.predicted, predictions.ranks, predictions.losses, names),
        tmp_path,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert tuple(rows(tmp_path / "confusion.csv")[0][1:]) == names
    assert tuple(row[0] for row in rows(tmp_path / "classes.csv")[1:]) == names
