"""Exports a run or a file, e.g. `resnet export runs/digits_resnet20 --to saved_models`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import tyro

import resnet_keras
from resnet_keras.cli.program import run
from resnet_keras.exporting.options import ExportOptions

SECTIONS = {
    "Output": ("to", "name", "formats", "precision", "latency"),
    "Images of calibration and verification": ("dataset", "data-dir", "images", "calibration-images"),
    "SavedModel": ("sizes", "top-k"),
}
"""Everyday flags, which the short help shows."""

_MASK_OPTIONS = ("formats", "agreement")
REFUSED = 1
"""Exit status when an artifact is outside its tolerance, or could not be made or run."""


def export(
    source: tyro.conf.Positional[str],
    *,
    to: Path = Path("saved_models"),
    name: str | None = None,
    version: int | None = None,
    dataset: str | None = None,
    data_dir: Path | None = None,
    images: Path | None = None,
    options: tyro.conf.OmitArgPrefixes[ExportOptions] = ExportOptions(),  # noqa: B008  (frozen)
    skip_broken: bool = False,
) -> int:
    """Publishes a SavedModel, LiteRT and ONNX files, after each has given the classifier's answers on real images.

    Of a segmentation network, SavedModel and LiteRT files return masks, of a detector boxes. They are compared on test
    images, or on those of --images.

    Args:
        source: Folder of a finished run, a file of weights, or a name of weights in the package: resnet20_digits.
        to: Folder of all exports.
        name: Name of the export; that of the source if None.
        version: Number of the version; the next free one if None.
        dataset: Data set of calibration and verification; the run's own if None.
        data_dir: Folder of the data set; the run's own if None.
        images: Folder of images without labels, instead of a data set; or the word noise, for made-up images.
        options: Formats, types, and tolerances of the verification.
        skip_broken: Skip and count broken images, labels outside the classes and empty classes.
    """
    exporting = resnet_keras.exporting
    publish: Callable[..., Any]
    others = {"dataset": dataset, "skip_broken": skip_broken or None}
    if resnet_keras.segmentation.is_segmenter(source):
        _expect_few(options, others, f"a segmentation network. Received: {source}")
        publish, chosen = exporting.export_masks, {"data_dir": data_dir, "images": images, **_few(options)}
    elif resnet_keras.detection.is_localizer(source):
        raise ValueError(
            f"Expected a classifier, a segmentation network, or a detector. Received: {source}, a localizer, whose "
            "`.keras` file has plain Keras layers"
        )
    elif resnet_keras.detection.is_detector(source):
        _expect_few(options, others, f"a detector. Received: {source}")
        publish, chosen = exporting.export_detections, {"data_dir": data_dir, "images": images, **_few(options)}
    else:
        publish, chosen = resnet_keras.export, {"dataset": dataset, "data_dir": data_dir, "images": images}
        chosen |= {"skip_broken": skip_broken, **asdict(options)}
    try:
        done = publish(source, to, name=name, version=version, **chosen)
    except (
        exporting.ExportRefused,
        exporting.MaskDisagreement,
        exporting.DetectionDisagreement,
        exporting.ArtifactError,
    ) as error:
        print(f"resnet export: {error}", file=sys.stderr)
        return REFUSED
    print(f"published {done.path}; see {done.path / 'README.md'}")
    return 0


def _few(options: ExportOptions) -> dict[str, Any]:
    """Returns the options that exports of all tasks have."""
    return {"formats": options.formats, "agreement": options.agreement}


def _expect_few(options: ExportOptions, others: Mapping[str, object], what: str) -> None:
    """Raises an error if there are options other than formats and agreement."""
    plain = ExportOptions()
    changed = [
        field.name
        for field in fields(options)
        if field.name not in _MASK_OPTIONS and getattr(options, field.name) != getattr(plain, field.name)
    ]
    if wrong := [*changed, *(name for name, value in others.items() if value is not None)]:
        raise ValueError(f"Expected no `{wrong[0]}` with {what}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet export`."""
    return run(export, "resnet export", argv, sections=SECTIONS, progress="stdout")
