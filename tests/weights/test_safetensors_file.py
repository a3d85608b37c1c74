"""Safetensors in shards, as the index of the Hugging Face hub lists them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.foreign_weights import SMALL, foreign, write_safetensors, zeros

from resnet_keras.weights.safetensors_file import read_safetensors
from resnet_keras.weights.sources import open_weights

INDEX = "model.safetensors.index.json"


def shards(folder: Path, arrays: dict[str, np.ndarray], parts: int = 3) -> Path:
    """Writes arrays to shards, in turn, with their index, whose path is returned."""
    places = {name: f"model-{i % parts + 1:05}-of-{parts:05}.safetensors" for i, name in enumerate(arrays)}
    for file in set(places.values()):
        write_safetensors({name: arrays[name] for name, place in places.items() if place == file}, folder / file)
    content = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(content))
    return folder / INDEX


def test_shards_are_one_network_by_index_and_by_folder(tmp_path: Path) -> None:
    arrays = {name: array + 1 for name, array in foreign(zeros(SMALL), "cifar").items()}
    index = shards(tmp_path, arrays)
    assert {name: array.sum() for name, array in read_safetensors(index).items()} == {
        name: array.sum() for name, array in arrays.items()
    }
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(i): f"c{i}" for i in range(10)}}))
    for source in (index, tmp_path):
        found = open_weights(source)
        assert len(found.tensors) == 27 and found.class_names == tuple(f"c{i}" for i in range(10))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("[]", "Expected an index of shards"),
        ("{", "Expected an index of shards"),
        ({"weight_map": {}}, "files that are not beside it"),
        ({"weight_map": {"a": "../x.safetensors"}}, "files that are not beside it"),
        ({"weight_map": {"a": "/etc/passwd"}}, "files that are not beside it"),
        ({"weight_map": {"a": 3}}, "Expected an index of shards"),
        ({"weight_map": {"a": "none.safetensors"}}, r"no file none\.safetensors"),
        ({"weight_map": {"b": "one.safetensors"}}, "shards without b"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, content: Any, match: str) -> None:
    write_safetensors({"a": np.zeros(3, "float32")}, tmp_path / "one.safetensors")
    (tmp_path / INDEX).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        read_safetensors(tmp_path / INDEX)
