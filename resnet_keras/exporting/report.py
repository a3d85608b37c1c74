"""The report of an export, `export.json`: its source, options, and the measurements of each artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.applications.classifier import RUN_MODEL, Classifier
from resnet_keras.exporting.layer_errors import LayerError
from resnet_keras.exporting.onnx_file import PACKAGES
from resnet_keras.exporting.options import ExportOptions
from resnet_keras.exporting.verification import Verification
from resnet_keras.runs.machine import versions
from resnet_keras.surgery.quantization import is_quantized
from resnet_keras.weights.published import license_of

_RUNS = 10  # that began with the network of another


def export_report(
    source: str,
    classifier: Classifier,
    dataset: str | None,
    options: ExportOptions,
    verifications: Sequence[Verification],
    layers: Mapping[Any, Sequence[LayerError]],
    hashes: Mapping[Any, str],
    *,
    calibration_images: int,
    images: str | None = None,
) -> dict[str, Any]:
    """Returns the report of an export, for JSON.

    Args:
        source: A run's folder, a file, or the name of another source.
        classifier: The classifier of it.
        dataset: Data set of calibration and verification; `None` if their images had no labels.
        options: Options of the export.
        verifications: Measurements of each artifact.
        layers: Layer errors of the formats whose agreement is low.
        hashes: For each format, a hash of what its artifact is made from.
        calibration_images: Number of images that set the scales of integers.
        images: Name of the folder of images without labels, or "noise"; `None` with a data set.
    """
    packages = ("ai-edge-litert", *(PACKAGES if any(each.format == "onnx" for each in verifications) else ()))
    path = Path(source)
    recipe = path / "recipe.json"
    settings = files.read_json(recipe) if recipe.is_file() else None
    return {
        "task": "classification",
        "source": source,
        "weights_sha256": _sha256(path / RUN_MODEL if path.is_dir() else path, classifier),
        "recipe": settings,
        "initial_weights": initial_weights(source, settings),
        "model": classifier.model.name,
        "quantization_aware": is_quantized(classifier.model),
        "dataset": dataset,
        "images": images,
        "class_names": list(classifier.class_names),
        "preprocessing": classifier.preprocessing.to_json(),
        "options": asdict(options),
        "calibration_images": calibration_images,
        "versions": {**versions(), **{name: metadata.version(name) for name in packages}},
        "artifacts": [
            {
                **asdict(each),
                "inputs_sha256": hashes[each.format],
                "layers": [asdict(layer) for layer in layers.get(each.format, ())],
            }
            for each in verifications
        ],
    }


def initial_weights(source: str, recipe: dict[str, Any] | None) -> dict[str, str | None]:
    """Returns the name and the license of the published weights that a source is or was trained from."""
    for _ in range(_RUNS):
        if recipe is None:
            break
        network, schedule = (recipe.get(part) or {} for part in ("network", "schedule"))
        begun = network.get("weights") or schedule.get("continue_from")
        if begun is None:
            return {"source": None, "license": None}
        settings = Path(begun) / "recipe.json"
        if not settings.is_file():
            return {
                "source": Path(begun).name if Path(begun).is_absolute() else begun,
                "license": license_of(begun, network["model"]),
            }
        recipe = files.read_json(settings)
    return {"source": None, "license": license_of(source)}


def _sha256(file: Path, classifier: Classifier) -> str:
    """Returns the hash of a source's file, or of the weights themselves if there is no file."""
    if file.is_file():
        return hashlib.sha256(file.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for weight in classifier.model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()
