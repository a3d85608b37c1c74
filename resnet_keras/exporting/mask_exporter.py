"""Exports of segmentation networks from runs or files: a version of verified artifacts, a report, and a model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.data.opening import DataSource
from resnet_keras.data.sampling import evenly_spaced
from resnet_keras.exporting.child_process import space_expected
from resnet_keras.exporting.dense_formats import export_content, how_many, origin, version_report
from resnet_keras.exporting.mask_export import AGREEMENT, MOST_COMPARED, MaskArtifact, write_mask_artifacts
from resnet_keras.exporting.reuse import CARD, REPORT
from resnet_keras.exporting.unlabeled import spread_images
from resnet_keras.runs.folder import RunFolder, dataset_of, name_of_source
from resnet_keras.segmentation.mask_sets import open_part
from resnet_keras.segmentation.measures import SegmentationResult
from resnet_keras.segmentation.segmenter import Segmenter
from resnet_keras.tables import markdown_table


@dataclass(frozen=True)
class MaskExport:
    """A published version of a segmentation network: its folder, and its artifacts."""

    path: Path
    artifacts: tuple[MaskArtifact, ...]


def export_masks(
    source: str | Path,
    to: str | Path = "saved_models",
    *,
    name: str | None = None,
    version: int | None = None,
    data_dir: str | Path | None = None,
    images: Any = None,
    formats: Sequence[str] | None = None,
    agreement: float | None = None,
) -> MaskExport:
    """Publishes a segmenter in `to/name/version`: artifacts whose masks agree with its own, a report and a model card.

    Args:
        source: A run's folder, or a file of a `Segmenter`.
        to: Folder of all exports.
        name: Name of the export; that of the run's folder or of the file if `None`.
        version: Number of the version; the next free one if `None`.
        data_dir: Folder of the run's data; the run's own if `None`.
        images: Images to compare on; see `export_segmenter`. If `None`, some test images of the run.
        formats: Formats to write; all if `None`.
        agreement: Smallest fraction of equal pixels for all formats; those of `AGREEMENT` if `None`.

    Returns:
        The folder and the artifacts.

    Raises:
        FileNotFoundError: The run, the file or the data are not there.
        FileExistsError: The version exists.
        ValueError: `source` is a file and there are no `images`; or see `export_segmenter`.
    """
    segmenter = Segmenter.load(source)
    run = RunFolder(source) if (Path(source) / "recipe.json").is_file() else None
    if images is None and run is None:
        raise ValueError(f"Expected `images`, a folder of them, with a file of a segmenter. Received: {source}")
    shown, there = spread_images(images, MOST_COMPARED)
    if images is None and run:
        shown, there = _test_images(source, run, segmenter, data_dir)
    with files.new_version(Path(to) / (name or name_of_source(source)), version) as new, space_expected(new.path):
        found = write_mask_artifacts(segmenter, new.aside, shown, formats=formats, agreement=agreement)
        recipe, result = (run.recipe(), run.evaluation()) if run else (None, None)
        content = export_content("segmentation", segmenter.class_names, segmenter.preprocessing, found) | {
            "images_there": there,
            "network": recipe.network.title if recipe else segmenter.model.name,
            "evaluation": asdict(result) if isinstance(result, SegmentationResult) else None,
        }
        options = {"agreement": AGREEMENT if agreement is None else agreement}
        report = version_report(source, segmenter.model.name, content, options)
        files.write_json(new.aside / REPORT, report)
        files.write_text(new.aside / CARD, mask_card(report))
    return MaskExport(new.path, tuple(found))


def mask_card(report: dict[str, Any]) -> str:
    """Returns the model card of a segmentation network in Markdown, from the report of its export alone."""
    height, width = report["preprocessing"]["image_size"]
    rows = [
        (each["format"], f"{each['size_bytes'] / 1e6:.1f}", *(f"{100 * each[key]:.2f}" for key in _MEASURES))
        for each in report["artifacts"]
    ]
    parts = [
        f"# {report['model']}",
        f"{report['network']}, {len(report['class_names'])} classes, from `{report['source']}` (SHA-256 of the weights "
        f"{report['weights_sha256'][:16]}).",
        *origin(report),
        f"Masks of {how_many(report)} images were compared with the model's own, on one machine:",
        markdown_table(("format", "size, MB", "equal pixels, %", "mean IoU with the model's masks, %"), rows),
        *_quality(report["evaluation"]),
        "## Use",
        f"- `saved_model`: `serving_default` takes `images`, uint8 (N, H, W, {report['preprocessing']['channels']}) of "
        "any size, and returns `masks`, uint8 (N, H, W); `serve_bytes` takes `image_bytes`, JPEG or PNG files, and "
        "returns `masks`, PNG files.\n"
        f"- `.tflite`: one image of {height}x{width} pixels, 0 to 255 (float32; uint8 for int8), to its mask, int32. "
        "Builtin operators only.\n"
        f"- Labels are the places in: {', '.join(report['class_names'])}.",
    ]
    return "\n\n".join(parts) + "\n"


_MEASURES = ("agreement", "mean_iou")


def _quality(evaluation: dict[str, Any] | None) -> list[str]:
    """Returns what is known of the model on its test images."""
    if evaluation is None:
        return []
    classes = [(name, "–" if iou is None else f"{100 * iou:.2f}") for name, iou in evaluation["class_iou"].items()]
    return [
        f"On the {evaluation['images']:,} test images of its run, at their full size, the model has a mean IoU of "
        f"{evaluation['mean_iou']:.2%} and a pixel accuracy of {evaluation['pixel_accuracy']:.2%}:",
        markdown_table(("class", "IoU, %"), classes),
    ]


def _test_images(
    source: str | Path, run: RunFolder, segmenter: Segmenter, data_dir: str | Path | None
) -> tuple[list[Any], int]:
    """Returns some test images of a run, spread evenly, and how many there are."""
    name, place = dataset_of(source, None, data_dir)
    split = open_part(
        name,
        "test",
        DataSource(data_dir=place),
        ignored=run.recipe().data.ignored_label,
        class_names=segmenter.class_names,
    )
    return [split.images[i] for i in evenly_spaced(len(split), MOST_COMPARED)], len(split)
