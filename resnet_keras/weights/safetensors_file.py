"""Reads safetensors, in one file or in the shards that an index lists."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from resnet_keras import files

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
"""Of the index that the Hugging Face hub keeps beside shards: `{"weight_map": {tensor: file}}`."""

_NUMBER_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64,
    "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_MOST_BYTES = 2**26  # of an index
_MOST_SHARDS = 1000


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by their names, or of all shards if the file is their index.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A file is damaged, or the index does not fit its shards.
    """
    if not path.name.endswith(INDEX_SUFFIX):
        return _read_one(path)
    places = weight_map(path)
    tensors: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(places.values()):
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"Expected all shards beside {path}. Received: no file {name}")
        tensors |= _read_one(path.parent / name)
    lacking = [name for name in places if name not in tensors]
    if lacking:
        raise ValueError(f"Expected the tensors of {path} in its shards. Received: shards without {lacking[0]}")
    return tensors


def _read_one(path: Path) -> dict[str, np.ndarray]:
    try:
        content = safetensors.deserialize(path.read_bytes())
        return {
            name: np.frombuffer(metadata["data"], _NUMBER_TYPES[metadata["dtype"]]).reshape(metadata["shape"])
            for name, metadata in content
        }
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"Expected a whole safetensors file. Received: {path}, which can't be read: {error}"
        ) from error


def weight_map(path: Path) -> dict[str, str]:
    """Returns the file of each tensor; files are in the folder of the index.

    Raises:
        ValueError: The file is not an index, or lists files that are not in its folder or more than 1,000.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        places = files.parse_json(path.read_text(encoding="utf-8"))["weight_map"]
        names = set(places.values())
        if not names or any(name != Path(name).name or not name.endswith(SUFFIX) for name in names):
            raise ValueError("files that are not beside it")
        if len(names) > _MOST_SHARDS:
            raise ValueError(f"{len(names):,} files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'Expected an index of shards, {{"weight_map": {{tensor: file}}}}. Received: {path}: {error!r}'
        ) from error
    return dict(places)
