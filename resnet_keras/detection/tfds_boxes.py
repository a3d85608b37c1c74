"""Images with boxes of TensorFlow Datasets, such as `voc` and `coco`, and of folders, by the name of the data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from resnet_keras.checks.fields import nearest
from resnet_keras.data.datasets import dataset
from resnet_keras.data.opening import DataSource, examples_of, prepared_set
from resnet_keras.detection.box_files import box_parts, open_boxes, run_part
from resnet_keras.detection.box_split import (
    BoxExample,
    BoxList,
    BoxSplit,
    Faults,
    RecordSource,
    WrongBox,
    image_size_of,
)
from resnet_keras.detection.image_reading import AS_BYTES, IMAGE, checked

_log = logging.getLogger(__name__)

_NAME, _NUMBER, _OBJECTS, _BOX, _LABEL = "image/filename", "image/id", "objects", "bbox", "label"
_DIFFICULT, _CROWD, _AREA = "is_difficult", "is_crowd", "area"
_FIRST_PIXEL = {"voc": 1}
"""Number of the first pixel in the boxes of a set; VOC's includes the last one, so that its right edge stays."""
_TRAINVAL = "trainval"
"""What the folders of VOC call the parts train and validation together, which are trained on where there is a test."""
_WITHOUT_BOXES = {"coco": "test"}
"""Beginning of the parts of a set that have images alone."""
_DIGITS = 3  # of a pixel, after boxes as fractions in float32


def parts_of_boxes(name: str, source: DataSource) -> list[str]:
    """Returns the parts of a data set of images with boxes: a folder, or a set of TFDS, also those that VOC joins.

    Raises:
        FileNotFoundError: The data are not there.
    """
    if dataset(name).source == "folder":
        if source.data_dir is None:
            raise FileNotFoundError("Expected a folder of images with boxes, as `data_dir`. Received: none")
        return box_parts(source.data_dir)
    builder = prepared_set(name, source.data_dir, source.download)
    without = _WITHOUT_BOXES.get(builder.info.name)
    known = [part for part in builder.info.splits if without is None or not part.startswith(without)]
    return [*known, *([_TRAINVAL] if {"train", "validation"} <= set(known) else [])]


def open_part_of_boxes(
    name: str, split: str, source: DataSource, *, class_names: Sequence[str] | None = None
) -> BoxSplit:
    """Opens a part of a data set of images with boxes.

    Args:
        name: "folder", see `open_boxes`, or a set of TFDS with the features `image` and `objects`, a sequence of `bbox`
            and `label`: NAME, or NAME/CONFIGURATION, such as voc/2007 and coco/2017. Images are read from its records
            when they are needed.
        split: A part that is there, or "train", "test", or "validation", as a run calls them; of a set of TFDS, also
            several, or a part of one: train+validation[:50%].
        source: Place of the data, and what to do about wrong boxes and images.
        class_names: Names of the classes, in the order of the labels; those of the data if `None`.

    Raises:
        FileNotFoundError: The data or the part are not there.
        ValueError: The set has other features, or something is wrong with an image or a box.
    """
    if dataset(name).source == "folder":
        if source.data_dir is None:
            raise FileNotFoundError("Expected a folder of images with boxes, as `data_dir`. Received: none")
        return open_boxes(source.data_dir, split, class_names=class_names, on_corrupt=source.on_corrupt)
    builder = prepared_set(name, source.data_dir, source.download)
    known = parts_of_boxes(name, source)
    pieces = [re.split(r"\[", each)[0] for each in split.split("+")]  # as in train+validation[:50%]
    whole = split == _TRAINVAL or _TRAINVAL not in pieces
    part = split if set(pieces) <= set(known) and whole else run_part(known, split)
    if part is None:
        raise FileNotFoundError(
            f"Expected a part of {name} with boxes, one of {', '.join(known)}. Received: {split!r}."
            f"{nearest(split, known)}"
        )
    return _records(builder, name, "train+validation" if part == _TRAINVAL else part, class_names, source)


def _records(
    builder: tfds.core.DatasetBuilder, name: str, part: str, class_names: Sequence[str] | None, source: DataSource
) -> BoxSplit:
    names = _class_names(builder, name)
    wanted = tuple(class_names) if class_names is not None else names
    _log.info(f"{name}/{part}: the boxes of {examples_of(builder, part, name):,} images are read")
    examples = builder.as_dataset(
        split=part,
        decoders=AS_BYTES,
        shuffle_files=False,
        read_config=tfds.ReadConfig(interleave_cycle_length=1),  # in the order in which they are numbered
    )
    faults, found = Faults(source.on_corrupt), []
    for number, record in enumerate(examples.as_numpy_iterator()):
        with faults.tolerated():
            called = record[_NAME].decode("utf-8", "replace") if _NAME in record else f"{number}"
            identity = int(record[_NUMBER]) if _NUMBER in record else Path(called).stem
            where = Path(f"{name}/{part}", called)
            found.append(_example(record, where, identity, number, names, wanted, builder.info.name, faults))
    return checked(BoxSplit(tuple(found), wanted, records=RecordSource(builder, part)), faults, f"{name}/{part}")


def _example(
    record: dict[str, Any],
    where: Path,
    identity: str | int,
    number: int,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    builder: str,
    faults: Faults,
) -> BoxExample:
    height, width = image_size_of(record[IMAGE], str(where))
    boxes, objects = BoxList(height, width, wanted), record[_OBJECTS]
    none = np.zeros(len(objects[_LABEL]))
    difficult, crowd = objects.get(_DIFFICULT, none), objects.get(_CROWD, none)
    first = _FIRST_PIXEL.get(builder, 0)
    edges = np.asarray(objects[_BOX], np.float64)[:, [1, 0, 3, 2]] * [width, height, width, height]
    edges = np.round(edges, _DIGITS) - [first, first, 0, 0]
    for index, label in enumerate(objects[_LABEL].tolist()):
        what = f"object {index + 1} in {where}"
        with faults.tolerated():
            if not 0 <= label < len(names):
                raise WrongBox(f"Expected labels from 0 to {len(names) - 1}. Received: {label} of {what}")
            boxes.add(
                edges[index].tolist(),
                boxes.label(names[label], what),
                what,
                difficult=bool(difficult[index]),
                crowd=bool(crowd[index]),
                area=float(objects[_AREA][index]) if _AREA in objects else None,
            )
    return boxes.example(where, identity, record=number)


def _class_names(builder: tfds.core.DatasetBuilder, name: str) -> tuple[str, ...]:
    """Returns the names of the classes of a set's objects, after checking its features."""
    features: Any = builder.info.features or {}
    objects: Any = {}
    if _OBJECTS in features:
        objects = getattr(features[_OBJECTS], "feature", {})
    kinds = {_BOX: tfds.features.BBoxFeature, _LABEL: tfds.features.ClassLabel}
    fits = all(each in objects and isinstance(objects[each], kind) for each, kind in kinds.items())
    if not (IMAGE in features and isinstance(features[IMAGE], tfds.features.Image) and fits):
        raise ValueError(
            f"Expected a TFDS set with the features {IMAGE} and {_OBJECTS}, of {_BOX} and {_LABEL}. Received: {name}, "
            f"with {', '.join(features)}"
        )
    return tuple(objects[_LABEL].names)
