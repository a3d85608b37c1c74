"""Metadata of LiteRT files: what mobile tools read, in their format, beside a model that is the same as before."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from helpers.artifacts import convert_classifier

from resnet_keras.applications import named_networks
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.artifact_worker import LiteRTModel
from resnet_keras.exporting.litert_classifier import LiteRTClassifier
from resnet_keras.exporting.litert_metadata import add_metadata

GREY = Preprocessing(image_size=(12, 16), channels=1, mean=(100.0,), std=(50.0,))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("litert") / "x.tflite"
    classifier = Classifier(
        named_networks.PlainNet20(input_shape=(12, 16, 1), classes=3), GREY, ("one", "zwei", "três")
    )
    convert_classifier(classifier, np.zeros((1, 12, 16, 1), np.uint8), {"float32": path})
    before = path.read_bytes()
    add_metadata(path, classifier)
    add_metadata(path, classifier)  # a second time replaces the first
    return path, before


def metadata(path: Path) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    (entry,) = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
    return bytes(model.buffers[entry.buffer].data)


class Table:
    """A table of a flatbuffer, read by the number of a field in its schema."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def place(self, field: int) -> int | None:
        """Where a field lies, if it is there."""
        table = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        (size,) = struct.unpack_from("<H", self.data, table)
        offset = struct.unpack_from("<H", self.data, table + 4 + 2 * field)[0] if 4 + 2 * field < size else 0
        return self.at + offset if offset else None

    def number(self, field: int, kind: str) -> float:
        """A number, 0 if it is not there."""
        place = self.place(field)
        return 0 if place is None else struct.unpack_from(f"<{kind}", self.data, place)[0]

    def follow(self, field: int) -> int:
        """Where a field's offset leads."""
        place = self.place(field)
        assert place is not None
        return place + struct.unpack_from("<I", self.data, place)[0]

    def table(self, field: int) -> "Table":
        """A table in a field."""
        return Table(self.data, self.follow(field))

    def text(self, field: int) -> str:
        """A string in a field."""
        at = self.follow(field)
        (length,) = struct.unpack_from("<I", self.data, at)
        return self.data[at + 4 : at + 4 + length].decode()

    def floats(self, field: int) -> list[float]:
        """A vector of floats."""
        at = self.follow(field)
        (length,) = struct.unpack_from("<I", self.data, at)
        return list(struct.unpack_from(f"<{length}f", self.data, at + 4))

    def tables(self, field: int) -> list["Table"]:
        """A vector of tables."""
        at = self.follow(field)
        (length,) = struct.unpack_from("<I", self.data, at)
        starts = [at + 4 + 4 * i for i in range(length)]
        return [Table(self.data, start + struct.unpack_from("<I", self.data, start)[0]) for start in starts]


def test_the_metadata_follow_the_schema(file: tuple[Path, bytes]) -> None:
    data = metadata(file[0])
    assert data[4:8] == b"M001"
    root = Table(data, struct.unpack_from("<I", data)[0])
    assert root.text(0) == "plainnet20"
    assert root.text(7) == "1.0.0"  # the least version of a parser
    (graph,) = root.tables(3)
    (pixels,), (probabilities,) = graph.tables(2), graph.tables(3)
    content = pixels.table(3)
    assert content.number(0, "B") == 2  # image properties
    assert content.table(1).number(0, "b") == 2  # gray
    size = content.table(1).table(1)
    assert (size.number(0, "I"), size.number(1, "I")) == (16, 12)
    (unit,) = pixels.tables(4)
    assert unit.number(0, "B") == 1  # normalization
    assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([0.0], [1.0])
    assert (pixels.table(5).floats(0), pixels.table(5).floats(1)) == ([255.0], [0.0])
    (labels,) = probabilities.tables(6)
    assert (labels.text(0), labels.number(2, "b")) == ("labels.txt", 2)


def test_labels_and_preprocessing_lie_in_a_zip_archive_in_the_file(file: tuple[Path, bytes]) -> None:
    with zipfile.ZipFile(file[0]) as archive:
        assert archive.namelist() == ["labels.txt", "classifier.json"]
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED
        assert archive.read("labels.txt").decode().splitlines() == ["one", "zwei", "três"]
    opened = LiteRTClassifier.open(file[0])
    assert opened.preprocessing == GREY
    assert opened.class_names == ("one", "zwei", "três")


def test_the_model_is_the_same(file: tuple[Path, bytes], tmp_path: Path) -> None:
    path, before = file
    (tmp_path / "before.tflite").write_bytes(before)
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 1), dtype=np.uint8)
    found, expected = (LiteRTModel(each)(images) for each in (path, tmp_path / "before.tflite"))
    for one, other in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert path.read_bytes()[4:8] == b"TFL3"
