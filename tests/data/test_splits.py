"""Opening data: the package's own, folders, and what TensorFlow Datasets has prepared."""

import io
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from resnet_keras.data.datasets import DATASETS, Dataset
from resnet_keras.data.opening import DataSource, open_split, with_classes
from resnet_keras.data.sampling import class_balanced_sample, stratified_sample, subset
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_images(root: Path, images_per_class: dict[str, int], suffix: str = ".jpg") -> None:
    for name, count in images_per_class.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (12 + i, 10), (10 * i, 0, 0)).save(root / name / f"{i:02d}{suffix}")


def names_of(split: Any) -> list[tuple[str, str]]:
    """Returns (class folder, file name) of each image, by its path, with its label checked against the folder."""
    assert isinstance(split, FileSplit)
    found = [(Path(path).parent.name, Path(path).name) for path in split.paths]
    assert [split.class_names[label] for label in split.labels] == [folder for folder, _ in found]
    return found


# Digits ------------------------------------------------------------------------------------------------------------


def digits(split: str) -> ArraySplit:
    opened = open_split("digits", split)
    assert isinstance(opened, ArraySplit)
    return opened


@pytest.mark.parametrize(("split", "count"), [("train", 1438), ("test", 359)])
def test_digits_are_gray_images_of_8x8_pixels(split: str, count: int) -> None:
    opened = digits(split)
    assert len(opened) == count
    assert (opened.images.shape, opened.images.dtype) == ((count, 8, 8, 1), np.uint8)
    assert (opened.labels.shape, opened.labels.dtype) == ((count,), np.int64)
    assert opened.class_names == tuple("0123456789")
    assert opened.info == DATASETS["digits"]
    assert (opened.images.min(), opened.images.max()) == (0, 255)


def test_the_test_digits_are_a_fifth_of_each_class() -> None:
    train, test = (np.bincount(digits(split).labels, minlength=10) for split in ("train", "test"))
    np.testing.assert_array_less(np.abs(test - (train + test) / 5), 1)


def test_no_digit_is_both_for_training_and_for_testing() -> None:
    train, test = ({image.tobytes() for image in digits(split).images} for split in ("train", "test"))
    assert len(train) == 1438
    assert len(test) == 359
    assert train.isdisjoint(test)


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    original = datasets.load_digits()
    levels = original.images.astype(int)  # 0–16
    assert levels.max() == 16
    wanted = sorted(
        (((image * 255 + 8) // 16).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(levels, original.target, strict=True)
    )
    found = sorted(
        (image.tobytes(), int(label))
        for split in ("train", "test")
        for image, label in zip(digits(split).images, digits(split).labels, strict=True)
    )
    assert found == wanted


def test_digits_come_in_the_same_order_each_time() -> None:
    np.testing.assert_array_equal(digits("train").images, digits("train").images)
    np.testing.assert_array_equal(digits("test").labels, digits("test").labels)


# Folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_folder", ["test", "val", "validation"])
def test_a_folder_may_hold_train_and_test(tmp_path: Path, test_folder: str) -> None:
    write_images(tmp_path / "train", {"dog": 3, "cat": 2})
    write_images(tmp_path / test_folder, {"cat": 1, "dog": 2})
    train, test = (open_split("folder", split, data_dir=tmp_path) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("cat", "dog")
    assert names_of(train) == [
        ("cat", "00.jpg"),
        ("cat", "01.jpg"),
        ("dog", "00.jpg"),
        ("dog", "01.jpg"),
        ("dog", "02.jpg"),
    ]
    assert names_of(test) == [("cat", "00.jpg"), ("dog", "00.jpg"), ("dog", "01.jpg")]
    assert (len(train), len(test)) == (5, 3)
    assert all(str(tmp_path / test_folder) in path for path in test.paths)  # type: ignore[union-attr]


def test_of_test_and_val_the_test_folder_is_the_test_part(tmp_path: Path) -> None:
    for folder, count in (("train", 1), ("test", 2), ("val", 3)):
        write_images(tmp_path / folder, {"cat": count})
    assert len(open_split("folder", "test", data_dir=tmp_path)) == 2


def test_class_folders_alone_are_parted_by_the_names_of_the_images(tmp_path: Path) -> None:
    counts = {"bird": 3, "cat": 10, "dog": 23}
    write_images(tmp_path, counts)
    train, test = (names_of(open_split("folder", split, data_dir=tmp_path)) for split in ("train", "test"))
    assert set(train).isdisjoint(test)
    assert sorted(train + test) == [(name, f"{i:02d}.jpg") for name, count in counts.items() for i in range(count)]
    assert [sum(folder == name for folder, _ in test) for name in counts] == [1, 1, 8]  # by chance
    again = names_of(open_split("folder", "test", data_dir=str(tmp_path)))
    assert again == test


def test_the_parting_depends_on_nothing_but_the_names_of_the_files(tmp_path: Path) -> None:
    write_images(tmp_path / "here", {"cat": 15})
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert names_of(open_split("folder", "test", data_dir=tmp_path / "here")) == names_of(
        open_split("folder", "test", data_dir=tmp_path / "there")
    )


def test_images_are_found_by_their_suffix_in_any_case_and_depth(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 1})
    write_images(tmp_path / "train" / "cat", {"night": 1}, suffix=".PNG")
    shutil.copy(tmp_path / "train" / "cat" / "00.jpg", tmp_path / "train" / "cat" / "01.JPEG")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".hidden").mkdir()
    opened = open_split("folder", "train", data_dir=tmp_path)
    assert isinstance(opened, FileSplit)
    assert [Path(path).name for path in opened.paths] == ["00.jpg", "01.JPEG", "00.PNG"]
    assert opened.class_names == ("cat",)
    assert opened.name_of(1) == str(tmp_path / "train" / "cat" / "01.JPEG")


@pytest.mark.parametrize("data_dir", [None, "nowhere"])
def test_a_folder_that_is_not_there_raises_and_says_what_it_should_hold(tmp_path: Path, data_dir: str | None) -> None:
    where = None if data_dir is None else tmp_path / data_dir
    with pytest.raises(FileNotFoundError, match=rf"train/CLASS/\*\.jpg.*data_dir.*Received: .*{data_dir}"):
        open_split("folder", "train", data_dir=where)


def no_class_folders(root: Path) -> None:
    (root / "photo.jpg").write_bytes(b"")


def no_class_folders_in_train(root: Path) -> None:
    (root / "train").mkdir()


def an_empty_class_folder(root: Path) -> None:
    write_images(root / "train", {"cat": 2, "unicorn": 0})


def an_empty_class_folder_to_be_parted(root: Path) -> None:
    write_images(root, {"cat": 5, "unicorn": 0})


def two_images_to_be_parted(root: Path) -> None:
    write_images(root, {"cat": 5, "unicorn": 2})


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (no_class_folders, r"class folders.*Received: .*none"),
        (no_class_folders_in_train, r"class folders.*Received: .*none"),
        (an_empty_class_folder, r"\.jpg.*Received: .*unicorn, empty"),
        (an_empty_class_folder_to_be_parted, r"\.jpg.*Received: .*unicorn, empty"),
        (two_images_to_be_parted, r"at least 3 images.*test, or folders train and test\. Received: .*unicorn, with 2"),
    ],
)
def test_a_folder_without_enough_images_raises_and_names_it(
    tmp_path: Path, layout: Callable[[Path], None], message: str
) -> None:
    layout(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_split("folder", "train", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("tested", "message"),
    [
        ({"cat": 1, "dog": 1, "unicorn": 1}, r"classes of train alone.*Received: unicorn"),
        ({"cat": 1}, r"all the classes of train.*Received none of: dog"),
        ({"cat": 1, "dog": 0}, r"\.jpg.*Received: .*dog, empty"),
    ],
)
def test_a_test_folder_of_other_classes_raises_and_names_them(
    tmp_path: Path, tested: dict[str, int], message: str
) -> None:
    write_images(tmp_path / "train", {"cat": 1, "dog": 1})
    write_images(tmp_path / "test", tested)
    with pytest.raises(ValueError, match=message):
        open_split("folder", "test", data_dir=tmp_path)


def test_train_without_test_raises_and_names_the_folders_looked_for(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 1})
    with pytest.raises(FileNotFoundError, match=r"test, .*, val, .* beside train.*Received: "):
        open_split("folder", "test", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_an_unknown_split_raises_and_lists_the_known(tmp_path: Path, name: str) -> None:
    known = {"digits": "train, test", "folder": "train, validation, test, all"}[name]
    with pytest.raises(ValueError, match=rf"one of {known}\. Received: 'training'"):
        open_split(name, "training", data_dir=tmp_path)


@pytest.mark.parametrize("parted", [False, True])
def test_all_images_of_a_folder_are_those_of_both_parts(tmp_path: Path, parted: bool) -> None:
    if parted:
        write_images(tmp_path / "train", {"cat": 4, "dog": 3})
        write_images(tmp_path / "test", {"cat": 2, "dog": 1})
    else:
        write_images(tmp_path, {"cat": 6, "dog": 4})
    train, test, both = (open_split("folder", split, data_dir=tmp_path) for split in ("train", "test", "all"))
    assert isinstance(train, FileSplit) and isinstance(test, FileSplit) and isinstance(both, FileSplit)
    assert sorted(both.paths) == sorted(train.paths + test.paths)
    assert [both.class_names[label] for label in both.labels] == ["cat"] * 6 + ["dog"] * 4


@pytest.mark.parametrize(("labels", "first"), [([0, 1, 2, 3], "3 for image 3"), ([0, -1, 5], "-1 for image 1")])
def test_a_label_outside_the_classes_raises_and_names_the_image(
    labels: list[int], first: str, caplog: pytest.LogCaptureFixture
) -> None:
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    split = ArraySplit(images, np.array(labels), ("a", "b", "c"), Dataset(source="tfds"))
    with pytest.raises(ValueError, match=rf"labels from 0 to 2 in set/train\. Received: {first}"):
        with_classes(split, "set/train")
    kept = with_classes(split, "set/train", "skip")
    assert caplog.messages == [
        f"labels outside the classes of set/train are skipped: {first} ({len(labels) - len(kept)} images in all)"
    ]
    assert kept.labels.tolist() == [label for label in labels if 0 <= label < 3]
    assert kept.images.ravel().tolist() == [i for i, label in enumerate(labels) if 0 <= label < 3]
    assert with_classes(kept, "set/train") is kept


def test_an_empty_class_can_be_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path / "train", {"cat": 2, "dog": 3, "unicorn": 0})
    write_images(tmp_path / "test", {"cat": 0, "dog": 1, "unicorn": 1})
    train = open_split("folder", "train", data_dir=tmp_path, on_corrupt="skip")
    assert (train.class_names, train.labels.tolist()) == (("cat", "dog"), [0, 0, 1, 1, 1])
    test = open_split("folder", "test", data_dir=tmp_path, on_corrupt="skip")
    assert (test.class_names, test.labels.tolist()) == (("cat", "dog"), [1])
    assert caplog.messages == [
        f"class unicorn of {tmp_path} has no train images and is skipped",
        f"class cat of {tmp_path} has no test images and is skipped",
    ]


# TensorFlow Datasets -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets no test of this file reach beyond this machine."""

    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a test asked for a connection: {args}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def images(sizes: list[tuple[int, int]], channels: int = 3) -> list[np.ndarray]:
    return [np.full((*size, channels), 20 * i, np.uint8) for i, size in enumerate(sizes)]


def prepare(
    data_dir: Path,
    splits: dict[str, list[np.ndarray]],
    name: str = "tiny_photos",
    version: str = "1.0.0",
    shape: tuple[int | None, int | None, int] = (None, None, 3),
    label: Any = None,
    encoding: str = "jpeg",
) -> None:
    """Writes an image classification set of two classes, by turns, as TensorFlow Datasets does."""
    label = label or tfds.features.ClassLabel(names=["cat", "dog"])
    features = {"image": tfds.features.Image(shape=shape, encoding_format=encoding), "label": label}

    def examples(pixels: list[np.ndarray]) -> tf.data.Dataset:
        signature = {"image": tf.TensorSpec(shape, tf.uint8), "label": tf.TensorSpec((), tf.int64)}
        return tf.data.Dataset.from_generator(
            lambda: ({"image": image, "label": i % 2} for i, image in enumerate(pixels)), output_signature=signature
        )

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        data_dir=data_dir,
        features=tfds.features.FeaturesDict(features),
        split_datasets={split: examples(pixels) for split, pixels in splits.items()},
        disable_shuffling=True,
    )


SIZES = [(20 + i, 30 - i) for i in range(7)]


def test_a_prepared_set_of_jpegs_of_varied_size_is_read_record_by_record(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES), "test": images(SIZES[:3])})
    train, test = (open_split("tiny_photos", split, data_dir=tmp_path) for split in ("train", "test"))
    assert isinstance(train, RecordSplit) and isinstance(test, RecordSplit)
    assert (len(train), len(test)) == (7, 3)
    assert train.class_names == ("cat", "dog")
    assert (train.info.source, train.info.classes, train.info.channels) == ("tfds", 2, 3)
    assert train.info.image_size is None
    assert train.name_of(4) == "image 4 of tiny_photos/train"
    records = list(train.records())
    assert [int(label) for _, label in records] == [0, 1, 0, 1, 0, 1, 0]
    assert all(tf.io.is_jpeg(encoded) for encoded, _ in records)
    pixels = [tf.io.decode_jpeg(encoded).numpy() for encoded, _ in records]
    assert [image.shape for image in pixels] == [(*size, 3) for size in SIZES]
    assert [round(float(image.mean()) / 20) for image in pixels] == list(range(7))


def test_records_that_are_turned_upright_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def photograph(place: int) -> bytes:
        about, file = Image.Exif(), io.BytesIO()
        about[0x0112] = place
        Image.new("RGB", (4, 6)).save(file, "JPEG", exif=about)
        return file.getvalue()

    encoded = [photograph(place) for place in (1, 6, 3, 8, 1, 7, 2)]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="phone_photos",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(encoding_format="jpeg"), "label": tfds.features.ClassLabel(names=["a", "b"])}
        ),
        split_datasets={
            "train": tf.data.Dataset.from_tensor_slices({"image": encoded, "label": [0, 1, 0, 1, 0, 1, 0]})
        },
        disable_shuffling=True,
    )
    caplog.set_level("INFO", "resnet_keras")
    assert len(open_split("phone_photos", "train[:100%]", data_dir=tmp_path)) == 7
    assert caplog.messages[-1] == "5 of 7 images are turned upright by their Exif data"


def test_records_come_in_the_same_order_each_time(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES)})
    split = open_split("tiny_photos", "train", data_dir=tmp_path)
    assert isinstance(split, RecordSplit)
    once, again = ([encoded.numpy() for encoded, _ in split.records()] for _ in range(2))
    assert once == again


@pytest.mark.parametrize("channels", [1, 3])
def test_a_prepared_set_of_images_of_one_size_is_held_in_memory(tmp_path: Path, channels: int) -> None:
    pixels = images([(6, 6)] * 5, channels)
    prepare(tmp_path, {"train": pixels, "test": pixels[:2]}, shape=(6, 6, channels), encoding="png")
    split = open_split("tiny_photos", "train", data_dir=tmp_path)
    assert isinstance(split, ArraySplit)
    np.testing.assert_array_equal(split.images, np.stack(pixels))
    np.testing.assert_array_equal(split.labels, [0, 1, 0, 1, 0])
    assert (split.labels.dtype, split.info.image_size, split.info.channels) == (np.int64, 6, channels)
    assert len(split.info.mean) == len(split.info.std) == channels


def test_images_that_are_no_squares_have_no_image_size(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images([(6, 9)] * 5)}, shape=(6, 9, 3), encoding="png")
    split = open_split("tiny_photos", "train[:100%]", data_dir=tmp_path)
    assert isinstance(split, ArraySplit)
    assert split.images.shape == (5, 6, 9, 3)
    assert split.info.image_size is None


def test_validation_stands_in_where_a_set_has_no_test_split(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES), "validation": images(SIZES[:3])})
    assert len(open_split("tiny_photos", "test", data_dir=tmp_path)) == 3
    assert len(open_split("tiny_photos", "validation", data_dir=tmp_path)) == 3


def test_a_split_that_a_prepared_set_does_not_have_raises_and_lists_those_it_has(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES), "extra": images(SIZES[:3])})
    assert len(open_split("tiny_photos", "extra", data_dir=tmp_path)) == 3
    for missing in ("unheard", "validation"):
        with pytest.raises(
            ValueError, match=rf"tiny_photos, one of (train, extra|extra, train)\. Received: '{missing}'"
        ):
            open_split("tiny_photos", missing, data_dir=tmp_path)


def test_the_newest_version_is_opened(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES[:3])}, version="1.9.0")
    prepare(tmp_path, {"train": images(SIZES[:4])}, version="1.10.0")
    assert len(open_split("tiny_photos", "train[:100%]", data_dir=tmp_path)) == 4


def test_a_missing_set_raises_and_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Put it there") as caught:
        open_split("cifar100", "train", data_dir=tmp_path)
    assert str(tmp_path / "cifar100") in str(caught.value)
    assert "'cifar100'" in str(caught.value)
    assert ", ".join(DATASETS) in str(caught.value)


def test_a_set_that_does_not_exist_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"or a set of TFDS.*Received: 'no_such_set'"):
        open_split("no_such_set", "train", data_dir=tmp_path, download=True)


def test_a_set_without_labels_raises_and_names_its_features(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES)})
    file = tmp_path / "tiny_photos" / "1.0.0" / "features.json"
    content = json.loads(file.read_text())
    features = content["featuresDict"]["features"]
    features["species"] = features.pop("label")
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"(?s)features image and label.*Received: tiny_photos.*species"):
        open_split("tiny_photos", "train", data_dir=tmp_path)


def test_a_set_whose_label_is_a_mere_number_raises_and_names_its_features(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES)}, label=tfds.features.Scalar(np.int64))
    with pytest.raises(ValueError, match="Received: tiny_photos"):
        open_split("tiny_photos", "train", data_dir=tmp_path)


def assert_cifar10(split: Split, count: int) -> None:
    assert isinstance(split, ArraySplit)
    assert (split.images.shape, split.images.dtype) == ((count, 32, 32, 3), np.uint8)
    assert split.class_names == CIFAR10
    assert np.bincount(split.labels).tolist() == [count // 10] * 10
    assert (split.info.image_size, split.info.mean) == (32, DATASETS["cifar10"].mean)


def test_cifar10_has_the_test_images_and_classes_of_its_authors(test_data: Path) -> None:
    assert_cifar10(open_split("cifar10", "test", data_dir=test_data / "tensorflow_datasets"), 10_000)


@pytest.mark.slow
def test_cifar10_has_the_training_images_of_its_authors(cifar10_train: Split) -> None:
    assert_cifar10(cifar10_train, 50_000)


# Parts of a split --------------------------------------------------------------------------------------------------


def test_a_subset_has_the_images_asked_for_in_that_order(tmp_path: Path) -> None:
    arrays = digits("test")
    fewer = subset(arrays, np.array([5, 0, 7]))
    assert isinstance(fewer, ArraySplit)
    np.testing.assert_array_equal(fewer.images, arrays.images[[5, 0, 7]])
    np.testing.assert_array_equal(fewer.labels, arrays.labels[[5, 0, 7]])
    write_images(tmp_path / "train", {"cat": 3, "dog": 2})
    files = open_split("folder", "train", data_dir=tmp_path)
    assert isinstance(files, FileSplit)
    assert names_of(subset(files, np.array([4, 1]))) == [("dog", "01.jpg"), ("cat", "01.jpg")]


@pytest.mark.parametrize("count", [1, 10, 33, 100, 358])
def test_a_sample_has_the_classes_in_their_proportions(count: int) -> None:
    arrays = digits("test")
    fewer = stratified_sample(arrays, count)
    assert isinstance(fewer, ArraySplit)
    assert len(fewer) == count
    there = {image.tobytes(): label for image, label in zip(arrays.images, arrays.labels, strict=True)}
    assert len({image.tobytes() for image in fewer.images}) == count  # none twice
    assert [there[image.tobytes()] for image in fewer.images] == fewer.labels.tolist()
    share = np.bincount(arrays.labels, minlength=10) * count / len(arrays)
    np.testing.assert_allclose(np.bincount(fewer.labels, minlength=10), share, atol=1.1)


def test_a_sample_of_files_has_every_class(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"bird": 4, "cat": 20, "dog": 8})
    found = names_of(stratified_sample(open_split("folder", "train", data_dir=tmp_path), 8))
    assert [sum(folder == name for folder, _ in found) for name in ("bird", "cat", "dog")] == [1, 5, 2]


@pytest.mark.parametrize("count", [359, 1000])
def test_a_sample_of_more_than_there_are_is_the_split(count: int) -> None:
    arrays = digits("test")
    assert stratified_sample(arrays, count) is arrays


def test_a_sample_of_records_is_the_first_of_them(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES)})
    split: Split = open_split("tiny_photos", "train[:100%]", data_dir=tmp_path)
    assert isinstance(split, RecordSplit)
    whole = [encoded.numpy() for encoded, _ in split.records()]
    for count in (3, 7, 100):
        fewer = stratified_sample(split, count)
        assert isinstance(fewer, RecordSplit)
        assert len(fewer) == min(count, 7)
        assert [encoded.numpy() for encoded, _ in fewer.records()] == whole[:count]
    again = stratified_sample(stratified_sample(split, 3), 5)
    assert len(again) == len(list(again.records())) == 3  # type: ignore[union-attr]


def test_a_balanced_sample_has_as_many_of_each_class_as_there_are() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] * 20)
    rng = np.random.default_rng(0)
    rng.shuffle(labels)
    split = ArraySplit(np.arange(73, dtype=np.uint8).reshape(73, 1, 1, 1), labels, ("a", "b", "c"), DATASETS["digits"])
    for count, expected in ((9, [3, 3, 3]), (15, [6, 3, 6]), (10, [4, 3, 3]), (2, [1, 1, 0]), (100, [50, 3, 20])):
        found = class_balanced_sample(split, count)
        np.testing.assert_array_equal(np.bincount(found.labels, minlength=3), expected)
        assert len(np.unique(found.images)) == len(found)
    everyday = stratified_sample(split, 9)
    assert np.bincount(everyday.labels, minlength=3)[1] < 3


def test_of_several_configurations_one_has_to_be_named(tmp_path: Path) -> None:
    for place in ("large", "small"):
        prepare(tmp_path / place, {"train": images(SIZES), "test": images(SIZES[:3])})
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.move(tmp_path / place / "tiny_photos", tmp_path / "photos" / place)
    with pytest.raises(ValueError, match=r"configurations of photos: photos/large, photos/small\. Received: photos"):
        open_split("photos", "train", data_dir=tmp_path)
    assert len(open_split("photos/small", "train", data_dir=tmp_path)) == 7


def test_of_a_set_with_a_train_split_alone_the_last_fifth_is_the_test_part(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images([(8, 8)] * 10)}, shape=(8, 8, 3), encoding="png")
    parts = {split: open_split("tiny_photos", split, data_dir=tmp_path) for split in ("train", "test", "train[50%:]")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 8, "test": 2, "train[50%:]": 5}
    assert isinstance(parts["test"], ArraySplit)
    assert parts["test"].images[:, 0, 0, 0].tolist() == [160, 180]
    with pytest.raises(ValueError, match=r"part of one, such as train\[:80%\]\. Received: 'train\[half\]'"):
        open_split("tiny_photos", "train[half]", data_dir=tmp_path)


def test_validation_is_a_part_of_its_own_only_beside_a_test_part(tmp_path: Path) -> None:
    prepare(tmp_path, {"train": images(SIZES), "validation": images(SIZES[:2]), "test": images(SIZES[:3])})
    prepare(tmp_path, {"train": images(SIZES), "validation": images(SIZES[:2])}, name="two_parts")
    source = DataSource(data_dir=tmp_path)
    validation = source.open_validation("tiny_photos")
    assert validation is not None
    assert len(validation) == 2
    assert source.open_validation("two_parts") is None
