"""Metadata and labels inside a LiteRT file, for mobile tools.

The format is TensorFlow Lite's metadata (`metadata_schema.fbs` of tflite-support, which MediaPipe, ML Kit and Android
Studio read): a flatbuffer of its own in one of the model's buffers, and the labels in a zip archive behind the model.
The archive has the preprocessing, too, which the format has no place for.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.checks import extras
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.litert_classifier import CLASSIFIER, LABELS

with extras.required("export", "LiteRT"):
    from ai_edge_litert import schema_py_generated as schema

_NAME = "TFLITE_METADATA"
_RGB, _GREY = 1, 2
_AXIS_LABELS = 2
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 2, 1  # in their unions


def add_metadata(path: Path, classifier: Classifier) -> None:
    """Adds metadata and labels to a `.tflite` file of pixels and probabilities.

    The graph normalizes the pixels, so the metadata ask a reader to subtract 0 and to divide by 1. `LiteRTClassifier`
    reads the preprocessing.
    """
    data = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    # Other entries of the converter, such as the least runtime version, stay.
    model.metadata = [each for each in model.metadata or [] if each.name != _NAME.encode()]
    model.buffers.append(_buffer(_described(classifier)))
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers) - 1
    model.metadata.append(entry)
    builder = flatbuffers.Builder(len(data) + (1 << 16))
    builder.Finish(model.Pack(builder), b"TFL3")
    whole = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(whole, "a") as archive:  # stored, so that a reader can map it
        archive.writestr(LABELS, "".join(f"{name}\n" for name in classifier.class_names))
        described = {"preprocessing": classifier.preprocessing.to_json(), "class_names": classifier.class_names}
        archive.writestr(CLASSIFIER, json.dumps(described))
    with files.new_file(path) as aside:
        aside.write_bytes(whole.getvalue())


def _buffer(data: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = list(data)
    return buffer


def _described(classifier: Classifier) -> bytes:
    """Returns the metadata's flatbuffer. Slots are numbered as the schema orders a table's fields."""
    builder = flatbuffers.Builder(1024)
    pixels, probabilities = _pixels(builder, classifier.preprocessing), _probabilities(builder)
    graph = _table(builder, 10, {2: _vector(builder, [pixels]), 3: _vector(builder, [probabilities])})
    root = _table(
        builder,
        8,
        {
            0: _text(builder, classifier.model.name),
            1: _text(builder, f"Classifies images into {len(classifier.class_names)} classes."),
            3: _vector(builder, [graph]),
            7: _text(builder, "1.0.0"),
        },
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def _pixels(builder: flatbuffers.Builder, preprocessing: Preprocessing) -> int:
    """Writes the table of the input."""
    height, width = preprocessing.image_size
    size = _table(builder, 2, {0: ("Uint32", width), 1: ("Uint32", height)})
    colors = _table(
        builder, 2, {0: ("Int8", _RGB if preprocessing.channels == 3 else _GREY), 1: ("UOffsetTRelative", size)}
    )
    content = _table(builder, 3, {0: ("Uint8", _IMAGE_PROPERTIES), 1: ("UOffsetTRelative", colors)})
    normalization = _table(builder, 2, {0: _floats(builder, [0.0]), 1: _floats(builder, [1.0])})
    unit = _table(builder, 2, {0: ("Uint8", _NORMALIZATION_OPTIONS), 1: ("UOffsetTRelative", normalization)})
    stats = _table(builder, 2, {0: _floats(builder, [255.0]), 1: _floats(builder, [0.0])})
    return _table(
        builder,
        7,
        {
            0: _text(builder, "image"),
            1: _text(builder, f"Pixels 0-255 of {height}x{width}. The graph normalizes them."),
            3: ("UOffsetTRelative", content),
            4: _vector(builder, [unit]),
            5: ("UOffsetTRelative", stats),
        },
    )


def _probabilities(builder: flatbuffers.Builder) -> int:
    """Writes the table of the output."""
    labels = _table(
        builder,
        5,
        {
            0: _text(builder, LABELS),
            1: _text(builder, "The classes, in the order of the probabilities."),
            2: ("Int8", _AXIS_LABELS),
        },
    )
    limits = _table(builder, 2, {0: _floats(builder, [1.0]), 1: _floats(builder, [0.0])})
    return _table(
        builder,
        7,
        {
            0: _text(builder, "probability"),
            1: _text(builder, "The probability of each class."),
            5: ("UOffsetTRelative", limits),
            6: _vector(builder, [labels]),
        },
    )


def _text(builder: flatbuffers.Builder, words: str) -> tuple[str, int]:
    return "UOffsetTRelative", builder.CreateString(words)


def _table(builder: flatbuffers.Builder, slots: int, fields: dict[int, tuple[str, int]]) -> int:
    builder.StartObject(slots)
    for slot, (kind, value) in fields.items():
        prepend: Callable[..., None] = getattr(builder, f"Prepend{kind}Slot")
        prepend(slot, value, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, tables: Sequence[int]) -> tuple[str, int]:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return "UOffsetTRelative", builder.EndVector()


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> tuple[str, int]:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return "UOffsetTRelative", builder.EndVector()
