"""Exports of detectors from runs or files: a version of verified artifacts, a report, and a model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.data.opening import DataSource
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.detector import Detector
from resnet_keras.detection.tfds_boxes import open_part_of_boxes
from resnet_keras.exporting.child_process import space_expected
from resnet_keras.exporting.dense_formats import export_content, how_many, origin, version_report
from resnet_keras.exporting.detector_export import (
    AP_LOSS,
    DETECTION_AGREEMENT,
    MOST_COMPARED,
    DetectorArtifact,
    write_detector_artifacts,
)
from resnet_keras.exporting.reuse import CARD, REPORT
from resnet_keras.exporting.unlabeled import spread_images
from resnet_keras.runs.folder import dataset_of, name_of_source
from resnet_keras.tables import markdown_table
from resnet_keras.training.box_data import evenly


@dataclass(frozen=True)
class DetectorExport:
    """A published version of a detector: its folder, and its artifacts."""

    path: Path
    artifacts: tuple[DetectorArtifact, ...]


def export_detections(
    source: str | Path,
    to: str | Path = "saved_models",
    *,
    name: str | None = None,
    version: int | None = None,
    data_dir: str | Path | None = None,
    images: Any = None,
    formats: Sequence[str] | None = None,
    agreement: float | None = None,
) -> DetectorExport:
    """Publishes a detector in `to/name/version`: artifacts whose detections agree with its own, a report and a card.

    Args:
        source: A run's folder, or a file of a `Detector`.
        to: Folder of all exports.
        name: Name of the export; that of the run's folder or of the file if `None`.
        version: Number of the version; the next free one if `None`.
        data_dir: Folder of images with boxes, of whose test part some are compared on and their average precision is
            measured; that of the run if `None`.
        images: Images with objects to compare on instead; see `Detector.predict`.
        formats: Formats to write; those of `DETECTOR_FORMATS` if `None`.
        agreement: Smallest fraction of equal detections for all formats; those of `DETECTION_AGREEMENT` if `None`.

    Returns:
        The folder and the artifacts.

    Raises:
        FileNotFoundError: The run, the file or the images are not there.
        FileExistsError: The version exists.
        ValueError: There are neither images nor a run's data; or see `export_detector`.
    """
    detector = Detector.load(source)
    shown, there = spread_images(images, MOST_COMPARED)
    if images is None:
        part = _test_images(source, detector, data_dir)
        shown, there = evenly(part, MOST_COMPARED), len(part)
    with files.new_version(Path(to) / (name or name_of_source(source)), version) as new, space_expected(new.path):
        found = write_detector_artifacts(detector, new.aside, shown, formats=formats, agreement=agreement)
        content = export_content("detection", detector.class_names, detector.preprocessing, found)
        content |= {"fit": detector.fit, "images_there": there}
        options = {"agreement": DETECTION_AGREEMENT if agreement is None else agreement, "ap_loss": AP_LOSS}
        report = version_report(source, detector.model.name, content, options)
        files.write_json(new.aside / REPORT, report)
        files.write_text(new.aside / CARD, detector_card(report))
    return DetectorExport(new.path, tuple(found))


def _test_images(source: str | Path, detector: Detector, data_dir: str | Path | None) -> BoxSplit:
    """Returns images with boxes of the test part of a folder, or of a run's own data."""
    name, place = "folder", data_dir
    if Path(source).is_dir():
        name, place = dataset_of(source, None, data_dir)
    elif place is None:
        raise ValueError(
            "Expected `images`, a folder of images with objects, or `data_dir`, one of images with boxes, with a "
            f"detector. Received: {source}"
        )
    data = DataSource(data_dir=place, on_corrupt="skip")
    return open_part_of_boxes(name, "test", data, class_names=detector.class_names)


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
            *([] if first["ap"] is None else [f"{100 * each['ap']:.2f}"]),
        )
        for each in report["artifacts"]
    ]
    columns = ["format", "size, MB", "equal detections, %", "largest difference of edges, pixels", "of scores"]
    measured = []
    if first["ap"] is not None:
        columns.append("AP, %")
        measured = [f"On these images the model itself has an AP of {first['model_ap']:.2%}."]
    parts = [
        f"# {report['model']}",
        f"A detector of {len(report['class_names'])} classes, from `{report['source']}` (SHA-256 of the weights "
        f"{report['weights_sha256'][:16]}).",
        *origin(report),
        f"The model's {first['detections']:,} detections in {how_many(report)} images were compared with those of each "
        "artifact, on one machine. Equal ones have the same class and overlap by 0.95 and more:",
        markdown_table(columns, rows),
        *measured,
        "## Use",
        "Outputs are `boxes`, float32 (N, detections, 4), left, top, right, and bottom edge; `scores`; `labels`; and "
        "`number`, the detections of each image. Non-maximum suppression is inside.\n\n"
        f"- `saved_model`: `serving_default` takes `images`, uint8 (N, H, W, {channels}) of any size; `serve_bytes` "
        "takes `image_bytes`, JPEG or PNG files. Boxes are in pixels of these images.\n"
        f"- `.tflite`: `images`, one canvas of {height}x{width} pixels, 0 to 255 in float32, with the image resized "
        f"{fit}, at the upper left; and `sizes`, its height and width there, int32 (1, 2). Boxes are in pixels of the "
        "canvas. Builtin operators only; in `int8`, heads and boxes are in float32.\n"
        f"- Labels are the places in: {', '.join(report['class_names'])}.",
    ]
    return "\n\n".join(parts) + "\n"
