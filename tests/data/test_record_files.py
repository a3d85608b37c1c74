"""Records of TFRecord and ArrayRecord files, read one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from resnet_keras.data import record_files
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.run_order import RunOrder, read_images
from resnet_keras.data.splits import ArraySplit, RecordSplit
from resnet_keras.data.training_input import training_batches

IMAGES, SHARDS = 24, 3
WHOLE = "train[:100%]"  # without a test split, "train" is four fifths
SIDE = 48  # of noise: 7 kB in a PNG
UNIT = Preprocessing(image_size=(8, 8), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def noise(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def prepare(
    root: Path, file_format: str = "tfrecord", shape: tuple[int | None, int | None, int] = (None, None, 3)
) -> None:
    """Writes images of noise in several files as TensorFlow Datasets does."""
    examples = tf.data.Dataset.from_generator(
        lambda: ({"image": noise(i), "label": i % 2} for i in range(IMAGES)),
        output_signature={"image": tf.TensorSpec(shape, tf.uint8), "label": tf.TensorSpec((), tf.int64)},
    )
    features = {
        "image": tfds.features.Image(shape=shape, encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="noise",
        version="1.0.0",
        data_dir=root,
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": examples},
        file_format=file_format,
        download_config=tfds.download.DownloadConfig(num_shards=SHARDS),
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    prepare(folder)
    return folder


@pytest.fixture
def split(root: Path) -> RecordSplit:
    return records_of(root)


def records_of(root: Path, part: str = WHOLE) -> RecordSplit:
    found = open_split("noise", part, data_dir=root)
    assert isinstance(found, RecordSplit)
    return found


def in_order(split: RecordSplit) -> list[tuple[bytes, int]]:
    return [(image, int(label)) for image, label in split.records().as_numpy_iterator()]


def one_by_one(split: RecordSplit) -> list[tuple[bytes, int]]:
    found = (split.record(tf.constant(i, tf.int64)) for i in range(len(split)))
    return [(image.numpy(), int(label)) for image, label in found]


def record_files_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*.tfrecord-*"))


# Places -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [WHOLE, "train[20%:70%]"])
def test_a_record_is_the_one_at_its_place_in_the_files(root: Path, part: str) -> None:
    assert len(record_files_of(root)) == SHARDS
    split = records_of(root, part)
    assert one_by_one(split) == in_order(split)
    fewer = replace(split, left_out=(0, 5), limit=9)
    assert one_by_one(fewer) == in_order(fewer)
    assert len(in_order(fewer)) == 9


def test_a_part_of_the_records_is_read_alone(split: RecordSplit) -> None:
    whole = in_order(split)
    for index in range(3):
        assert in_order(replace(split, shard=(index, 3))) == whole[index::3]


def test_array_records_are_those_of_tfrecord_files(root: Path, tmp_path: Path) -> None:
    prepare(tmp_path, "array_record")
    split = records_of(tmp_path)
    assert one_by_one(split) == in_order(split) == in_order(records_of(root))
    assert in_order(replace(split, left_out=(1,), shard=(1, 2))) == [
        in_order(split)[i] for i in (2, *range(4, IMAGES, 2))
    ]


def test_array_records_of_one_size_are_not_held_in_memory(tmp_path: Path) -> None:
    prepare(tmp_path / "array", "array_record", (SIDE, SIDE, 3))
    split = open_split("noise", WHOLE, data_dir=tmp_path / "array")
    assert isinstance(split, RecordSplit)
    assert (len(split), split.info.image_size) == (IMAGES, SIDE)
    prepare(tmp_path / "records", "tfrecord", (SIDE, SIDE, 3))
    assert isinstance(open_split("noise", WHOLE, data_dir=tmp_path / "records"), ArraySplit)


def test_checksums_are_those_of_tfrecord_files() -> None:
    digits = np.frombuffer(b"123456789", np.uint8)[None]
    (masked,) = record_files._masked_checksums(digits).tolist()
    rotated = (masked - 0xA282EAD8) % 2**32
    assert (rotated >> 17) | (rotated << 15) % 2**32 == 0xE3069283  # CRC-32C's check value


# Bytes --------------------------------------------------------------------------------------------------------------


def bytes_read() -> int:
    """Returns the bytes that this process has asked its files for."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_worker_reads_its_share_of_the_bytes(split: RecordSplit, workers: int) -> None:
    size = sum(len(image) for image, _ in in_order(split))
    one_by_one(split)  # the places
    seen: list[list[bytes]] = []
    for worker in range(workers):
        rows = range(worker * 8 // workers, (worker + 1) * 8 // workers)
        order = RunOrder(images=IMAGES, epoch_images=IMAGES, batch_size=8, rows=rows, last_step=3)
        before = bytes_read()
        seen.append([image for _, image, _, _ in read_images(split, order).as_numpy_iterator()])
        assert bytes_read() - before < 1.1 * size / workers
    assert sorted(image for images in seen for image in images) == sorted(image for image, _ in in_order(split))


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_a_run_that_resumes_does_not_read_what_it_skips(split: RecordSplit) -> None:
    size = sum(len(image) for image, _ in in_order(split))
    one_by_one(split)

    def batches(first_step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        found = training_batches(split, UNIT, batch_size=8, epochs=3, seed=1, first_step=first_step, last_step=7)
        return found.as_numpy_iterator()

    whole, before = list(batches(0)), bytes_read()
    left = list(batches(6))
    assert bytes_read() - before < 1.1 * size / 3
    np.testing.assert_array_equal(left[0][0], whole[6][0])


def test_all_images_are_shuffled_with_each_other(split: RecordSplit) -> None:
    order = RunOrder(images=IMAGES, epoch_images=IMAGES, batch_size=8, rows=range(8), last_step=6)
    indices = [int(index) for *_, index in read_images(split, order).as_numpy_iterator()]
    first, second = indices[:IMAGES], indices[IMAGES:]
    assert sorted(first) == sorted(second) == list(range(IMAGES))
    assert first != second
    assert max(abs(place - index) for place, index in enumerate(first)) > IMAGES / 2


# Damage -------------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def with_another_length(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def with_an_enormous_length(path: Path) -> None:
    """Its checksum is right, as an attacker would write it."""
    head = (2**62).to_bytes(8, "little")
    checksum = record_files._masked_checksums(np.frombuffer(head, np.uint8)[None])
    path.write_bytes(head + checksum.astype("<u4").tobytes() + path.read_bytes()[12:])


def with_a_record_more(path: Path) -> None:
    content = path.read_bytes()
    length = 16 + int.from_bytes(content[:8], "little")
    path.write_bytes(content + content[:length])


@pytest.mark.parametrize("damage", [cut, with_another_length, with_an_enormous_length, with_a_record_more])
def test_a_damaged_file_raises_and_is_named(tmp_path: Path, damage: object) -> None:
    prepare(tmp_path)
    path = record_files_of(tmp_path)[1]
    assert callable(damage)
    damage(path)
    with pytest.raises(
        ValueError, match=rf"Expected a TFRecord file of 8 records.*Received: .*{path.name}, of [\d,]+ bytes, broken"
    ):
        records_of(tmp_path).record(tf.constant(0, tf.int64))


def test_a_set_in_a_format_without_random_access_raises_and_names_it(
    split: RecordSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "file_format", lambda builder: "riegeli")
    with pytest.raises(ValueError, match="tfrecord or array_record.*Received: noise, in riegeli"):
        split.record(tf.constant(0, tf.int64))
