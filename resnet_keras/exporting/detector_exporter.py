"""Exports of detectors from runs or files: a version of verified artifacts, a report, and a model card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.applications.classifier import RUN_MODEL
from resnet_keras.detection.detector import Detector
from resnet_keras.exporting.detector_export import (
    DETECTION_AGREEMENT,
    DETECTOR_FORMATS,
    DetectorArtifact,
    DetectorFormat,
    write_detector_artifacts,
)
from resnet_keras.exporting.reuse import CARD, REPORT
from resnet_keras.runs.machine import versions
from resnet_keras.tables import markdown_table


@dataclass(frozen=True)
class DetectorExport:
    """A published version of a detector: its folder, and its artifacts."""

    path: Path
    artifacts: tuple[DetectorArtifact, ...]


def export_detections(
    source: str | Path,
    to: str | Path = "saved_models",
    *,
    images: Any,
    name: str | None = None,
    version: int | None = None,
    formats: Sequence[str] | None = None,
    agreement: float | None = None,
) -> DetectorExport:
    """Publishes a detector in `to/name/version`: artifacts whose detections agree with its own, a report and a card.

    Args:
        source: A run's folder, or a file of a `Detector`.
        to: Folder of all exports.
        images: Images with objects to compare on; see `Detector.predict`.
        name: Name of the export; that of the run's folder or of the file if `None`.
        version: Number of the version; the next free one if `None`.
        formats: Formats to write; all if `None`.
        agreement: Smallest fraction of equal detections for all formats; those of `DETECTION_AGREEMENT` if `None`.

    Returns:
        The folder and the artifacts.

    Raises:
        FileNotFoundError: The run, the file or the images are not there.
        FileExistsError: The version exists.
        ValueError: See `export_detector`.
    """
    file = Path(source, RUN_MODEL) if Path(source).is_dir() else Path(source)
    detector = Detector.load(file)
    if unknown := [each for each in formats or () if each not in DETECTOR_FORMATS]:
        raise ValueError(f"Expected `formats` among {', '.join(DETECTOR_FORMATS)}. Received: {', '.join(unknown)}")
    chosen: tuple[DetectorFormat, ...] = tuple(each for each in DETECTOR_FORMATS if formats is None or each in formats)
    with files.new_version(Path(to) / (name or Path(source).resolve().stem), version) as new:
        found = write_detector_artifacts(detector, new.aside, images, formats=chosen, agreement=agreement)
        report = {
            "source": str(source),
            "weights_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "model": detector.model.name,
            "class_names": list(detector.class_names),
            "preprocessing": detector.preprocessing.to_json(),
            "fit": detector.fit,
            "options": {"agreement": DETECTION_AGREEMENT if agreement is None else agreement},
            "versions": {**versions(), "ai-edge-litert": metadata.version("ai-edge-litert")},
            "artifacts": [asdict(each) for each in found],
        }
        files.write_json(new.aside / REPORT, report)
        files.write_text(new.aside / CARD, detector_card(report))
    return DetectorExport(new.path, tuple(found))


def detector_card(report: dict[str, Any]) -> str:
    """Returns the model card of a detector in Markdown, from the report of its export alone."""
    height, width = report["preprocessing"]["image_size"]
    channels, first = report["preprocessing"]["channels"], report["artifacts"][0]
    fit = "to fill it"
    if report["fit"]:
        fit = f"to a shorter side of {report['fit'][0]} pixels and a longer one of at most {report['fit'][1]}, in it"
    rows = [
        (
            each["format"],
            f"{each['size_bytes'] / 1e6:.1f}",
            f"{100 * each['agreement']:.2f}",
            f"{each['box_difference']:.2g}",
            f"{each['score_difference']:.2g}",
        )
        for each in report["artifacts"]
    ]
    columns = ("format", "size, MB", "equal detections, %", "largest difference of edges, pixels", "of scores")
    parts = [
        f"# {report['model']}",
        f"A detector of {len(report['class_names'])} classes, from `{report['source']}` (SHA-256 of the weights "
        f"{report['weights_sha256'][:16]}).",
        f"The model's {first['detections']:,} detections in {first['images']} images were compared with those of each "
        "artifact, on one machine. Equal ones have the same class and overlap by 0.95 and more:",
        markdown_table(columns, rows),
        "## Use",
        "Outputs are `boxes`, float32 (N, detections, 4), left, top, right, and bottom edge; `scores`; `labels`; and "
        "`number`, the detections of each image. Non-maximum suppression is inside.\n\n"
        f"- `saved_model`: `serving_default` takes `images`, uint8 (N, H, W, {channels}) of any size; `serve_bytes` "
        "takes `image_bytes`, JPEG or PNG files. Boxes are in pixels of these images.\n"
        f"- `.tflite`: `images`, one canvas of {height}x{width} pixels, 0 to 255 in float32, with the image resized "
        f"{fit}, at the upper left; and `sizes`, its height and width there, int32 (1, 2). Boxes are in pixels of the "
        "canvas. Builtin operators only.\n"
        f"- Labels are the places in: {', '.join(report['class_names'])}.",
    ]
    return "\n\n".join(parts) + "\n"
