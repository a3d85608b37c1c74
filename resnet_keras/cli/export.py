"""Exports a run or a file, e.g. `resnet-export runs/digits_resnet20 --to saved_models`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

import resnet_keras
from resnet_keras.cli.program import run

REFUSED = 1
"""Exit status when an artefact lies outside its tolerance."""


def export(
    source: tyro.conf.Positional[Path],
    *,
    to: Path = Path("saved_models"),
    name: str | None = None,
    version: int | None = None,
    dataset: str | None = None,
    data_dir: Path | None = None,
    formats: tuple[Literal["saved_model", "float32", "float16", "dynamic_range", "int8"], ...] = (
        "saved_model",
        "float32",
        "float16",
        "dynamic_range",
        "int8",
    ),
    test_images: int = 1000,
    calibration_images: int = 256,
    probability_tolerance: float = 1e-4,
    float16_tolerance: float = 1e-2,
    agreement: float = 0.98,
    skip_broken: bool = False,
) -> int:
    """Publishes a SavedModel, and LiteRT files beside it, each proven equal to the classifier on real images.

    Args:
        source: Folder of a finished run, or a .keras file that one has written.
        to: Folder of all exports.
        name: Name of the export; the source's if None.
        version: Number of the version; the next free one if None.
        dataset: Data set to calibrate and compare on; the run's own if None.
        data_dir: Where it lies; where the run had it if None.
        formats: What to write.
        test_images: Test images to compare on, at most.
        calibration_images: Training images that set the scales of int8.
        probability_tolerance: Largest difference of a probability, for saved_model and float32.
        float16_tolerance: The same for float16.
        agreement: Smallest fraction of images with the same most probable class.
        skip_broken: Leave out and count broken images, labels outside the classes and empty classes.
    """
    options = {key: value for key, value in locals().items() if key != "source"}
    try:
        done = resnet_keras.export(source, **options)
    except resnet_keras.ExportRefused as refused:
        print(f"resnet-export: {refused}", file=sys.stderr)
        return REFUSED
    print(f"published {done.path}; see {done.path / 'README.md'}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet-export`."""
    return run(export, "resnet-export", argv)
