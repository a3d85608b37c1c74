"""What the exports of segmentation networks and of detectors share: formats, limits of requests, files, reports."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import tensorflow as tf

from resnet_keras import files
from resnet_keras.applications.classifier import RUN_MODEL
from resnet_keras.data.image_limits import header_size
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.image_bytes import MOST_IMAGES, MOST_PIXELS, together
from resnet_keras.exporting.litert import operators
from resnet_keras.exporting.report import initial_weights
from resnet_keras.runs.machine import versions

Name = TypeVar("Name", bound=str)

SAVED_MODEL = "saved_model"


def check_formats(
    names: Sequence[str] | None, known: Collection[Name], default: Sequence[Name] | None = None
) -> tuple[Name, ...]:
    """Returns the formats of an export in the order of `known`.

    Args:
        names: Names of formats; the default ones if `None`.
        known: All formats.
        default: Formats without `names`; all if `None`.

    Raises:
        ValueError: A format is unknown, or there is none.
    """
    if names is None:
        return tuple(known if default is None else default)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"Expected `formats` among {', '.join(known)}. Received: {', '.join(unknown) or 'none'}")
    return tuple(name for name in known if name in names)


def artifact_paths(folder: Path, formats: Sequence[Name]) -> tuple[dict[Name, Path], dict[Name, Path]]:
    """Returns the file or folder of each format, and those of the LiteRT files alone."""
    paths = {name: folder / (SAVED_MODEL if name == SAVED_MODEL else f"{name}.tflite") for name in formats}
    return paths, {name: path for name, path in paths.items() if name != SAVED_MODEL}


def expect_builtin(name: str, path: Path) -> None:
    """Checks that a LiteRT file has builtin operators alone.

    Raises:
        ValueError: It has others.
    """
    if custom := [each for each in operators(path) if each.startswith(("custom", "FLEX"))]:
        raise ValueError(f"Expected a LiteRT file of builtin operators. Received: {name}, with {', '.join(custom)}")


def size_of(path: Path) -> int:
    """Returns the bytes of an artifact."""
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())


def bounded(size: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a height and width (2,) of no pixels or too many."""
    pixels = tf.reduce_prod(tf.cast(size, tf.float64))
    return tf.debugging.Assert(
        (tf.reduce_min(size) > 0) & (pixels <= MOST_PIXELS),
        [f"Expected images of 1 to {MOST_PIXELS} pixels. Received a height and width of", size],
    )


def few(number: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a request of no images or too many."""
    return tf.debugging.Assert(
        (number > 0) & (number <= MOST_IMAGES), [f"Expected 1 to {MOST_IMAGES} images in a request. Received", number]
    )


def expected_files(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the image files of a request (N,) unchanged.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs: there are none or more than `MOST_IMAGES`, a header is
            damaged, or their images have more than `MOST_PIXELS_OF_REQUEST` together.
    """
    with tf.control_dependencies([few(tf.size(encoded))]):
        files_in = tf.identity(encoded)
    sizes = tf.map_fn(header_size, files_in, fn_output_signature=tf.TensorSpec((2,), tf.int64))
    with tf.control_dependencies([together(tf.reduce_sum(tf.reduce_prod(tf.cast(sizes, tf.float64), -1)))]):
        return tf.identity(encoded)


def export_content(
    task: Literal["segmentation", "detection"],
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    artifacts: Sequence[Any],
) -> dict[str, Any]:
    """Returns what `export.json` tells of each network and its artifacts."""
    return {
        "task": task,
        "class_names": list(class_names),
        "preprocessing": preprocessing.to_json(),
        "artifacts": [asdict(each) for each in artifacts],
    }


def version_report(source: str | Path, model: str, content: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Returns the report of a published version, for JSON.

    Args:
        source: A run's folder, or a file.
        model: Name of the network.
        content: What `export_content` returns, and more.
        options: Options of the export.
    """
    path = Path(source)
    recipe = path / "recipe.json"
    settings = files.read_json(recipe) if recipe.is_file() else None
    file = path / RUN_MODEL if path.is_dir() else path
    return {
        "source": str(source),
        "weights_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "recipe": settings,
        "initial_weights": initial_weights(str(source), settings),
        "model": model,
        **content,
        "options": options,
        "versions": {**versions(), "ai-edge-litert": metadata.version("ai-edge-litert")},
    }


def check_agreement(agreement: float | None) -> None:
    """Checks the smallest fraction that has to be equal; `None` passes.

    Raises:
        ValueError: It is no number from 0 to 1.
    """
    if agreement is not None and not 0 <= agreement <= 1:
        raise ValueError(f"Expected `agreement` from 0 to 1. Received: {agreement}")


def how_many(report: dict[str, Any]) -> str:
    """Returns the number of images that artifacts were compared on, and of how many, for a model card."""
    compared, there = report["artifacts"][0]["images"], report["images_there"] or 0
    return f"{compared:,} of {there:,}" if compared < there else f"{compared:,}"


def origin(report: dict[str, Any]) -> list[str]:
    """Returns the paragraph of a model card about the initial weights and their license, if they are known."""
    initial = report["initial_weights"]
    if initial["source"] is None:
        return []
    return [f"Initial weights: {', '.join(part for part in (initial['source'], initial['license']) if part)}."]
