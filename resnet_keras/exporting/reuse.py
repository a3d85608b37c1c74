"""Artifacts of earlier versions that a new export would make again: the same inputs give the same artifact."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.exporting.formats import FORMATS, Format
from resnet_keras.exporting.litert_classifier import CLASSIFIER, LABELS
from resnet_keras.exporting.onnx_file import PACKAGES
from resnet_keras.exporting.options import ExportOptions
from resnet_keras.exporting.reference import Reference
from resnet_keras.runs.file_hashes import artifact_digest
from resnet_keras.runs.machine import versions

REPORT, CARD = "export.json", "README.md"
"""The files of a version beside its artifacts."""

_VERIFICATION_ALONE = (
    *("formats", "test_images", "latency", "agreement"),
    *("probability_tolerance", "float16_tolerance", "bfloat16_tolerance"),
)

_log = logging.getLogger(__name__)


def input_hashes(
    classifier: Classifier, formats: Sequence[Format], options: ExportOptions, reference: Reference, name: str
) -> dict[Format, str]:
    """Returns a SHA-256 of everything that each format is made from: weights, settings, versions of the libraries.

    Args:
        classifier: Network, preprocessing and class names.
        formats: Formats of the export.
        options: Options of the export; those of the verification do not count.
        reference: Its calibration images count for formats of integers.
        name: Name of the export, which the warm-up requests of the SavedModel have.
    """
    shared = hashlib.sha256(classifier.model.to_json().encode())
    for weight in classifier.model.get_weights():
        shared.update(weight.tobytes())
    made_by = {key: value for key, value in asdict(options).items() if key not in _VERIFICATION_ALONE}
    settings = [classifier.preprocessing.to_json(), classifier.class_names, made_by, versions(), name]
    shared.update(json.dumps(settings).encode())
    hashes: dict[Format, str] = {}
    for format_name in formats:
        own = shared.copy()
        runtime = FORMATS[format_name].runtime
        packages = PACKAGES if runtime == "onnx" else ()
        members = (LABELS, CLASSIFIER) if runtime == "litert" else ()  # earlier versions had the labels alone
        own.update(json.dumps([format_name, *(metadata.version(package) for package in packages), *members]).encode())
        if FORMATS[format_name].integer:
            own.update(reference.calibration.tobytes())
        hashes[format_name] = own.hexdigest()
    return hashes


def reuse_artifact(name: Format, inputs: str, home: Path, folder: Path) -> bool:
    """Copies an artifact of an earlier version into a folder; returns whether there was one.

    Args:
        name: The format.
        inputs: Hash of its inputs; see `input_hashes`.
        home: Folder of the versions.
        folder: Folder of the new version.
    """
    for version, artifact in _artifacts(home):
        if artifact.get("format") != name or artifact.get("inputs_sha256") != inputs:
            continue
        parts = _parts(version, name, str(artifact.get("file")))
        main = version if name == "saved_model" else parts[0]
        if not main.exists() or artifact_digest(main) != artifact.get("sha256"):
            continue
        for part in parts:
            (shutil.copytree if part.is_dir() else shutil.copy2)(part, folder / part.name)
        _log.info("%-13s is that of version %s", name, version.name)
        return True
    return False


def remove_artifacts(folder: Path, kept: set[str]) -> None:
    """Removes the artifacts from the folder of a version except those of some formats."""
    for part in list(folder.iterdir()):
        if format_of(part.name) not in kept:
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def format_of(file: str) -> str:
    """Returns the format that a file or folder of a version belongs to."""
    if file.endswith(".onnx"):
        return "onnx"
    return file.removesuffix(".tflite") if file.endswith(".tflite") else "saved_model"


def _parts(version: Path, name: Format, file: str) -> list[Path]:
    if name == "saved_model":
        return [path for path in version.iterdir() if path.name not in (REPORT, CARD) and format_of(path.name) == name]
    return [version / Path(file).name]


def _artifacts(home: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields version and description of each artifact that reports tell of; damaged reports tell of none."""
    for report in sorted(home.glob(f"*/{REPORT}")):
        try:
            artifacts = files.parse_json(report.read_text(encoding="utf-8"))["artifacts"]
            found = [each for each in artifacts if isinstance(each, dict)]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        for each in found:
            yield report.parent, each
