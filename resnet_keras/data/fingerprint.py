"""Fingerprints of data sets: what tells whether images have changed, wherever they are."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnet_keras.data.sampling import evenly_spaced
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split

_READ_FILES = 1000  # of a split, evenly over its classes; of the others, the names and sizes count
_READ_BYTES = 1 << 16  # at the start of a file
_NAMED = 5  # in a message
_DIGITS = 16  # of a hash
_IMAGES_OF = {"train": "training images", "test": "test images", "validation": "validation images"}


def data_fingerprint(splits: Mapping[str, Split]) -> dict[str, Any]:
    """Returns class names, numbers of images, and hashes of each part of a data set, as JSON has them.

    The hash of the images in a class is of their pixels, if they are in memory. Of files it is of their names below
    the class folder and their sizes, in their order, and of the first 64 KiB of about 1,000 files of a part. The place
    of the data does not count. Of a set of TFDS, version, numbers, and sizes of the records count.

    Args:
        splits: The parts, by their names: "train", "test", and perhaps "validation".
    """
    return {part: _of_split(split) for part, split in splits.items()}


def digest(found: Mapping[str, Any]) -> str:
    """Returns a hash of a fingerprint."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns what differs between two fingerprints, a few words for each difference; empty if nothing does."""
    found = [f"{_IMAGES_OF[part]} removed" for part in before if part not in now]
    found += [f"{_IMAGES_OF[part]} added" for part in now if part not in before]
    said: set[str] = set()
    for part in before:
        if part in now:
            different = _changes(before[part], now[part], _IMAGES_OF[part])
            found += [each for each in different if each not in said]  # the classes of all parts change together
            said.update(different)
    return found


def listed(found: Sequence[str]) -> str:
    """Returns the first changes in words, and how many more there are."""
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(found[:_NAMED]) + more


def _of_split(split: Split) -> dict[str, Any]:
    found: dict[str, Any] = {"class_names": list(split.class_names), "images": len(split)}
    if isinstance(split, RecordSplit):
        return found | _of_records(split)
    labels = np.asarray(split.labels, np.int64)
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.searchsorted(labels[order], np.arange(1, len(split.class_names))))
    hashes = [
        _of_array(split.images[each]) if isinstance(split, ArraySplit) else _of_files(split, each) for each in members
    ]
    classes = [[len(each), value] for each, value in zip(members, hashes, strict=True)]
    return found | {"version": split.info.version, "order": _of_array(labels), "classes": classes}


def _of_records(split: RecordSplit) -> dict[str, Any]:
    info = split.builder.info
    whole = info.splits[re.split(r"[\[+]", split.split)[0]]
    facts = [split.split, list(split.left_out), split.limit, whole.num_bytes, list(whole.shard_lengths)]
    return {"version": str(info.version), "records": hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:_DIGITS]}


def _of_array(values: np.ndarray) -> str:
    state = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
    state.update(np.ascontiguousarray(values).tobytes())
    return state.hexdigest()[:_DIGITS]


def _of_files(split: FileSplit, indices: np.ndarray) -> str:
    return hash_of_files([split.paths[i] for i in indices], max(_READ_FILES // len(split.class_names), 1))


def hash_of_files(paths: Sequence[str], most: int = _READ_FILES) -> str:
    """Returns a hash of files: of their names and sizes in this order, and of the start of up to `most` of them."""
    state = hashlib.sha256()
    root = os.path.commonpath([os.path.dirname(path) for path in (min(paths), max(paths))]) if paths else ""
    read = set(evenly_spaced(len(paths), most).tolist())
    for i, path in enumerate(paths):
        name = path[len(root) :].replace(os.sep, "/")
        state.update(f"{name}\0{os.stat(path).st_size}\n".encode())
        if i in read:
            with open(path, "rb") as file:
                state.update(file.read(_READ_BYTES))
    return state.hexdigest()[:_DIGITS]


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], images: str) -> list[str]:
    """Returns the differences of a part."""
    found = []
    if before.get("version") != now.get("version"):
        found.append(f"version {now.get('version')} of the data set (begun with {before.get('version')})")
    old, new = before["class_names"], now["class_names"]
    if old != new:
        added, removed = ([name for name in one if name not in other] for one, other in ((new, old), (old, new)))
        found += [f"classes added: {_some(added)}"] * bool(added)
        found += [f"classes removed: {_some(removed)}"] * bool(removed)
        found += [f"other order of the classes: {_some(new)}"] * (not added and not removed)
        return found
    if "classes" not in before or "classes" not in now:
        if before["images"] != now["images"]:
            found.append(f"{now['images']:,} {images} (begun with {before['images']:,})")
        elif before.get("records") != now.get("records"):
            found.append(f"other {images}")
        return found
    others = []
    for name, (old_count, old_hash), (count, value) in zip(new, before["classes"], now["classes"], strict=True):
        if count != old_count:
            found.append(f"{count:,} {images} of {name} (begun with {old_count:,})")
        elif value != old_hash:
            others.append(name)
    found += [f"other {images} of {_some(others)}"] * bool(others)
    same = before["classes"] == now["classes"]
    return found + [f"other order of the {images}"] * (same and before["order"] != now["order"])


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
