"""Names of classes: ImageNet's and CIFAR-10's in the order of networks' outputs, and those in a file."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from resnet_keras.data.class_names import (
    assumed_class_names,
    check_class_names,
    class_indices,
    imagenet_class_names,
    read_class_names,
    wordnet_ids,
)
from resnet_keras.data.opening import open_split


def test_imagenet_has_a_thousand_classes_each_with_a_name_of_its_own() -> None:
    names = imagenet_class_names()
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench" and names[281] == "tabby" and names[999] == "toilet tissue"
    assert all(name == name.strip() and name for name in names)


def test_names_that_two_classes_share_bear_their_wordnet_ids() -> None:
    shared = [name for name in imagenet_class_names() if name.endswith(")")]
    assert shared == ["crane (n02012849)", "crane (n03126707)", "maillot (n03710637)", "maillot (n03710721)"]


def test_classes_are_in_the_order_of_their_wordnet_ids() -> None:
    ids = wordnet_ids()
    assert list(ids) == sorted(set(ids))
    assert len(ids) == 1000
    assert all(len(one) == 9 and one[0] == "n" and one[1:].isdigit() for one in ids)


def test_imagenet_s_classes_are_those_of_another_collection(test_data: Path) -> None:
    with (test_data / "imagenet_classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(1000))
    assert [row["wnid"] for row in rows] == list(wordnet_ids())
    counts = Counter(row["name"] for row in rows)
    assert sum(count > 1 for count in counts.values()) == 2
    expected = [row["name"] if counts[row["name"]] == 1 else f"{row['name']} ({row['wnid']})" for row in rows]
    assert list(imagenet_class_names()) == expected


def test_photographs_are_filed_under_classes_of_ours(test_data: Path) -> None:
    folders = [folder.name for folder in (test_data / "photos").iterdir() if folder.is_dir()]
    assert len(folders) > 100
    assert set(folders) <= set(wordnet_ids())


def test_numbers_of_classes_are_taken_for_what_they_usually_are_and_that_is_said() -> None:
    assert assumed_class_names(1000, is_cifar=False) == (
        imagenet_class_names(),
        "1000 classes are taken for ImageNet's",
    )
    names, note = assumed_class_names(10, is_cifar=True)
    assert names == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert note == "10 classes are taken for CIFAR-10's"
    assert assumed_class_names(3, is_cifar=True) == (
        ("0", "1", "2"),
        "the names of the 3 classes are not known: they are numbered",
    )


def test_cifar_10_s_classes_are_in_the_order_of_its_labels(test_data: Path) -> None:
    (file,) = (test_data / "tensorflow_datasets" / "cifar10").glob("*/label.labels.txt")
    assert assumed_class_names(10, is_cifar=True)[0] == read_class_names(file)


def test_classes_are_placed_among_others_by_name_and_imagenet_s_by_id() -> None:
    assert class_indices(["b", "a"], ["a", "c", "b"]) == [2, 0]
    assert class_indices(["b", "d"], ["a", "c", "b"]) is None
    assert class_indices(["n01440764", "tabby", "crane (n03126707)"], imagenet_class_names()) == [0, 281, 517]
    assert class_indices(["n01440764"], [*imagenet_class_names()[1:], "tench"]) is None
    assert class_indices(["crane"], imagenet_class_names()) is None


def test_a_file_has_a_name_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n great white shark \r\n\n  \nКошка\n", encoding="utf-8")
    assert (
        read_class_names(tmp_path / "names.txt")
        == read_class_names(str(tmp_path / "names.txt"))
        == ("cat", "great white shark", "Кошка")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"Expected class names, one a line. Received: .*names\.txt, which holds none"),
        (b"\n \r\n\t\n", "which holds none"),
        (b"\xff\xfe\x00", r"Expected a text file of class names. Received: .*names\.txt, which is not text"),
    ],
)
def test_a_file_of_no_names_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_class_names(tmp_path / "names.txt")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"names\.txt"):
        read_class_names(tmp_path / "names.txt")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfcat\r\ndog\r\n",  # as Windows saves UTF-8
        "cat\ndog\n".encode("utf-16"),
        b'["cat", "dog"]',
        b'{"0": ["n02123045", "cat"], "1": ["n02084071", "dog"]}',  # as keras.applications has it
        b'{"1": "dog", "0": "cat"}',
        b'{"dog": 1, "cat": 0}',  # class_indices of Keras's generators
    ],
)
def test_class_names_are_read_as_they_are_meant(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "names").write_bytes(content)
    assert read_class_names(tmp_path / "names") == ("cat", "dog")


@pytest.mark.parametrize(
    "content", ["[cat]", '{"0": "cat", "2": "dog"}', '[["a"], 3]', "{}", "[" * 9999, "[" * 900 + "]" * 900]
)
def test_json_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(ValueError, match=r"Received: .*names\.json"):
        read_class_names(tmp_path / "names.json")


@pytest.mark.parametrize(
    "name", ["a\nb", "a\r", "a\u2028b", "a\x85b", "\x1b[31mred", "a\0", "\udcff", "", " ", 3, None, "x" * 1001]
)
def test_a_name_that_is_no_line_of_text_is_refused(name: Any) -> None:
    with pytest.raises(
        ValueError, match="Expected class names of printable text in one line; rename the class"
    ) as raised:
        check_class_names(("cat", name))
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_names_in_any_script_stay_as_they_are() -> None:
    names = ("cat", "Käse, alt", "黒 猫", "🐈", "crane (n03126707)", "a" * 1000)
    assert check_class_names(names) == names
    assert check_class_names(imagenet_class_names()) == imagenet_class_names()


def test_a_folder_with_a_line_break_is_no_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cats", "dogs\nemus"):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "1.png").write_bytes(b"never decoded")
    with pytest.raises(ValueError, match=r"rename the class. Received: 'dogs\\nemus'"):
        open_split("folder", "train", data_dir=tmp_path)


def test_a_file_of_names_with_control_characters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps(["cat", "dog\nemu"]))
    with pytest.raises(ValueError, match="rename the class"):
        read_class_names(tmp_path / "names.json")
