"""What an export says of itself, for machines: what it was made from, and what was measured on each artifact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from resnet_keras.applications.classifier import RUN_MODEL, Classifier
from resnet_keras.exporting.layer_errors import LayerError
from resnet_keras.exporting.options import ExportOptions
from resnet_keras.exporting.verification import Tolerance, Verification
from resnet_keras.runs.folder import versions
from resnet_keras.surgery.quantization import is_quantized


def export_report(
    source: str | Path,
    classifier: Classifier,
    dataset: str,
    options: ExportOptions,
    proofs: Sequence[Verification],
    tolerances: Mapping[Any, Tolerance],
    layers: Mapping[Any, Sequence[LayerError]],
    *,
    calibration_images: int,
) -> dict[str, Any]:
    """Returns an export's report, as JSON can hold it.

    Args:
        source: A run's folder or a `.keras` file.
        classifier: That was in it.
        dataset: That it was calibrated and compared on.
        options: Of the export.
        proofs: What was measured on each artifact.
        tolerances: What each was allowed.
        layers: Of those that agree little, the errors of their layers.
        calibration_images: How many set the scales of integers.
    """
    path = Path(source)
    recipe = path / "recipe.json"
    return {
        "source": str(source),
        "weights_sha256": hashlib.sha256((path / RUN_MODEL if path.is_dir() else path).read_bytes()).hexdigest(),
        "recipe": json.loads(recipe.read_text(encoding="utf-8")) if recipe.is_file() else None,
        "model": classifier.model.name,
        "trained_for_int8": is_quantized(classifier.model),
        "dataset": dataset,
        "class_names": list(classifier.class_names),
        "preprocessing": classifier.preprocessing.to_json(),
        "options": asdict(options),
        "calibration_images": calibration_images,
        "versions": {**versions(), "ai-edge-litert": metadata.version("ai-edge-litert")},
        "artifacts": [
            {
                **asdict(proof),
                "tolerance": asdict(tolerances[proof.form]),
                "layers": [asdict(each) for each in layers.get(proof.form, ())],
            }
            for proof in proofs
        ],
    }
