"""Folders in VOC's layout, right and wrong ones."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.box_folders import VocFolder

from resnet_keras.detection.voc_files import open_voc, read_voc

Make = Callable[..., VocFolder]


def test_pixels_from_1_to_the_last_become_edges_from_0(voc_folder: Make) -> None:
    folder = voc_folder()
    folder.add("a", [("dog", 1, 1, 60, 40), ("cat", 11, 21, 20, 22.5)])
    folder.add("empty")
    split = open_voc(folder.root, "train")
    assert split.class_names == ("cat", "dog")
    assert split.category_ids == (1, 2)
    first, empty = split.examples
    np.testing.assert_array_equal(first.boxes, [[0, 0, 60, 40], [10, 20, 20, 22.5]])
    np.testing.assert_array_equal(first.labels, [1, 0])
    np.testing.assert_array_equal(first.areas, [2400, 25])
    assert (first.height, first.width, first.identity) == (40, 60, "a")
    assert empty.boxes.shape == (0, 4)
    assert split.boxes == 2


def test_difficult_objects_stay_and_are_not_trained_on(voc_folder: Make) -> None:
    folder = voc_folder()
    folder.add("a", [("dog", 1, 1, 9, 9)], difficult=True)
    folder.add("b", [("dog", 1, 1, 9, 9)])
    split = open_voc(folder.root, "train")
    assert [example.difficult.tolist() for example in split.examples] == [[True], [False]]
    assert split.boxes == 1


def test_lists_of_one_class_have_a_number_behind_the_name(voc_folder: Make) -> None:
    folder = voc_folder()
    for name in ("a", "b b", "photo 1", "photo 0"):
        folder.add(name, [("dog", 1, 1, 9, 9)])
    (folder.root / "ImageSets/Main/dog_train.txt").write_text("a  1\nb b -1\nphoto 1  -1\n")
    assert [example.identity for example in open_voc(folder.root, "dog_train").examples] == ["a", "b b", "photo 1"]
    # The names of images may end in such a number, too.
    names = [example.identity for example in open_voc(folder.root, "train").examples]
    assert names == ["a", "b b", "photo 1", "photo 0"]


def test_years_are_joined_where_they_have_the_part(voc_folder: Make) -> None:
    for year in ("2007", "2012"):
        voc_folder(f"kit/VOC{year}").add(year, [("dog", 1, 1, 9, 9)], part="trainval")
    voc_folder("kit/VOC2007").add("t", [("cat", 1, 1, 9, 9)], part="test")
    root = voc_folder("kit/VOC2007").root.parent
    assert [example.identity for example in open_voc(root, "trainval").examples] == ["2007", "2012"]
    assert len(open_voc(root, "test")) == 1
    assert open_voc(root, "trainval").class_names == ("cat", "dog")


def test_a_folder_without_lists_is_divided_by_names(voc_folder: Make) -> None:
    folder = voc_folder()
    for index in range(20):
        folder.add(f"{index}", [("dog", 1, 1, 9, 9)])
    (folder.root / "ImageSets/Main/train.txt").unlink()
    for path in ("ImageSets/Main", "ImageSets"):
        (folder.root / path).rmdir()
    (folder.root / "Annotations").rename(folder.root / "annots")
    (folder.root / "JPEGImages").rename(folder.root / "images")
    parts = [{example.identity for example in open_voc(folder.root, part).examples} for part in ("train", "test")]
    assert parts[0] | parts[1] == {str(index) for index in range(20)}
    assert not parts[0] & parts[1]
    assert 1 <= len(parts[1]) <= 8


WRONG = {
    "without area": ([("dog", 5, 5, 5, 5)], "Expected boxes with an area. Received: 5, 5, 5, 5"),
    "outside": ([("dog", 5, 5, 62, 9)], "Expected boxes inside their image of 40x60. Received: 4, 4, 62, 9"),
    "unknown class": ([("hound", 1, 1, 9, 9)], "Expected boxes of the classes cat, dog. Received: 'hound'"),
    "no number": ([("dog", 1, 1, "?", 9)], "Expected a number in the element xmax"),
    "not a number": ([("dog", 1, 1, "nan", 9)], "Expected boxes with an area. Received: 1, 1, nan, 9"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_box_is_named_with_its_file_or_left_out(voc_folder: Make, case: str) -> None:
    boxes, message = WRONG[case]
    folder = voc_folder()
    file = folder.add("a", [("cat", 1, 1, 9, 9), *boxes])
    with pytest.raises(ValueError, match="object 2 in") as error:
        open_voc(folder.root, "train", class_names=("cat", "dog"))
    assert message in str(error.value)
    assert str(file) in str(error.value)
    split = open_voc(folder.root, "train", class_names=("cat", "dog"), on_corrupt="skip")
    assert (split.skipped_boxes, split.skipped_images, split.boxes) == (1, 0, 1)


def test_a_box_beyond_the_image_by_a_pixel_is_cut_off(voc_folder: Make) -> None:
    folder = voc_folder()
    folder.add("a", [("dog", 0, 0, 61, 41)])
    np.testing.assert_array_equal(open_voc(folder.root, "train").examples[0].boxes, [[0, 0, 60, 40]])


def test_wrong_images_are_named_or_left_out(voc_folder: Make) -> None:
    folder = voc_folder()
    folder.add("fine", [("dog", 1, 1, 9, 9)])
    folder.add("size", stated=(60, 40))
    folder.add("missing")
    (folder.root / "JPEGImages/missing.jpg").unlink()
    folder.add("broken")
    (folder.root / "JPEGImages/broken.jpg").write_bytes(b"GIF89")
    folder.add("no xml").write_text("<annotation>")
    for name in ("size", "missing", "broken", "no xml"):
        (folder.root / "ImageSets/Main/one.txt").write_text(f"{name}\n")
        with pytest.raises(ValueError, match=f"{name}"):
            open_voc(folder.root, "one", class_names=("dog",))
    (folder.root / "ImageSets/Main/one.txt").write_text("../../secret\n")
    with pytest.raises(ValueError, match="names of images"):
        open_voc(folder.root, "one", class_names=("dog",))
    split = open_voc(folder.root, "train", on_corrupt="skip")
    assert (len(split), split.skipped_images) == (1, 4)


def test_the_size_is_that_of_the_upright_image(voc_folder: Make) -> None:
    from PIL import Image

    folder = voc_folder()
    folder.add("a", [("dog", 1, 1, 40, 60)], stated=(60, 40))
    path = folder.root / "JPEGImages/a.jpg"
    image = Image.open(path)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    example = open_voc(folder.root, "train").examples[0]
    assert (example.height, example.width) == (60, 40)


def test_hostile_xml_is_refused_unread(tmp_path: Path) -> None:
    cases = {
        "document type": '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;">]><annotation>&c;</annotation>',
        "16 elements": "<a>" * 17 + "</a>" * 17,
        "1,048,576 bytes": "<a>" + "x" * 2**20 + "</a>",
        "VOC's XML": "<annotation><name>&unknown;</name></annotation>",
    }
    for message, text in cases.items():
        file = tmp_path / "a.xml"
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_voc(file)
    for encoding in ("utf-16", "utf-8"):
        text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a><a/>'
        file.write_bytes(text.encode(encoding))
        with pytest.raises(ValueError, match="document type"):
            read_voc(file)


@pytest.mark.parametrize("value", ["9" * 900_000, "-1" + "0" * 900_000, "nan", "-inf", "1e999", "0x1", ""])
def test_a_number_of_any_length_is_a_short_error(voc_folder: Make, value: str) -> None:
    folder = voc_folder()
    file = folder.add("a", [("dog", 3, 4, 20, 30)])
    text = file.read_text()
    for place in ("xmin", "width"):
        file.write_text(re.sub(f"<{place}>.*?</", f"<{place}>{value}</", text))
        with pytest.raises(ValueError, match="^Expected ") as error:
            open_voc(folder.root, "train")
        assert len(str(error.value)) < 700


def test_a_hostile_list_is_a_short_error_or_left_out_in_little_time(voc_folder: Make) -> None:
    folder = voc_folder()
    folder.add("a", [("dog", 3, 4, 20, 30)])
    lists = (b"../a", b"a\0b", b"a" * 500, b"a" + b" " * 300_000 + b"b", b"a" + b" 1" * 300_000, b"\xff\xfe")
    for content in lists:
        (folder.root / "ImageSets/Main/train.txt").write_bytes(b"a 1\n" + content)
        begun = time.process_time()
        with pytest.raises(ValueError, match="^Expected .*Received: ") as error:
            open_voc(folder.root, "train")
        assert len(str(error.value)) < 700
        assert time.process_time() - begun < 1
        if content != lists[-1]:
            assert len(open_voc(folder.root, "train", on_corrupt="skip")) == 1


def test_an_unknown_part_gets_the_known_ones(voc_folder: Make, tmp_path: Path) -> None:
    folder = voc_folder()
    folder.add("a", [("dog", 1, 1, 9, 9)])
    with pytest.raises(FileNotFoundError, match="one of train. Received: 'tran'. Did you mean train?"):
        open_voc(folder.root, "tran")
    with pytest.raises(FileNotFoundError, match="VOC's layout"):
        open_voc(tmp_path / "none", "train")


def test_bccd_has_two_boxes_without_area(test_data: Path) -> None:
    folder = test_data / "detection" / "bccd"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    with pytest.raises(ValueError, match="object .* in .*BloodImage_00338.xml"):
        open_voc(folder, "trainval")
    splits = [open_voc(folder, part, on_corrupt="skip") for part in ("trainval", "test")]
    assert splits[0].class_names == ("Platelets", "RBC", "WBC")
    assert [len(split) for split in splits] == [292, 72]
    assert sum(split.boxes for split in splits) == 4888 - 2
    assert sum(split.skipped_boxes for split in splits) == 2
