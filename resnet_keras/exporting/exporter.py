"""Exports of a run or a file: every artifact is written aside and verified, and only then published."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import check_one_label
from resnet_keras.data.opening import DataSource
from resnet_keras.distributed.processor import has_bfloat16
from resnet_keras.exporting.artifact_process import default_threads, measure_latencies
from resnet_keras.exporting.artifacts import ExportJob, write_and_verify
from resnet_keras.exporting.child_process import space_expected
from resnet_keras.exporting.formats import FORMATS, Format
from resnet_keras.exporting.model_card import model_card
from resnet_keras.exporting.onnx_file import require_onnx
from resnet_keras.exporting.options import ExportOptions
from resnet_keras.exporting.reference import read_reference
from resnet_keras.exporting.report import export_report
from resnet_keras.exporting.reuse import CARD, REPORT, input_hashes, remove_artifacts
from resnet_keras.exporting.unlabeled import NOISE
from resnet_keras.exporting.verification import Verification
from resnet_keras.runs.folder import dataset_of, knows_dataset, name_of_source
from resnet_keras.surgery.quantization import is_quantized
from resnet_keras.weights.finite import check_finite_model

_log = logging.getLogger(__name__)
_LATENCY_BATCHES, _LATENCY_SECONDS = (1, 8), 0.5


@dataclass(frozen=True)
class Export:
    """A published version: its folder, and the measurements of each artifact in it."""

    path: Path
    verifications: tuple[Verification, ...]


class ExportRefused(ValueError):
    """An artifact is outside its tolerance and left out; the others are published.

    Attributes:
        verifications: Measurements of all artifacts.
        published: The version with the artifacts that have passed; `None` if there are none.
    """

    def __init__(self, verifications: Sequence[Verification], report: Path, published: Export | None) -> None:
        failures = "\n".join(f"  {each.format}: {failure}" for each in verifications for failure in each.failures)
        refused = " ".join(each.format for each in verifications if each.failures)
        there, advice = "Nothing is published.", ""
        if published is not None:
            formats = ", ".join(each.format for each in published.verifications)
            there = f"{formats} passed and {'are' if ',' in formats else 'is'} published in {published.path}."
            advice = f"export --formats {refused} and "
        super().__init__(
            f"Expected artifacts that compute the same as their classifier. {there} Received:\n"
            f"{failures}\nThe report is in {report}. Next: {advice}allow more with --agreement or a tolerance; for "
            "integers, try more --calibration-images or quantization-aware training"
        )
        self.verifications, self.published = tuple(verifications), published


def export(
    source: str | Path | Classifier,
    to: str | Path = "saved_models",
    *,
    name: str | None = None,
    version: int | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    images: str | Path | None = None,
    skip_broken: bool = False,
    **options: Any,
) -> Export:
    """Publishes a classifier in `to/name/version`: a SavedModel, LiteRT or ONNX files, a report and a model card.

    Every artifact is run on real images, in a process without this package, and compared with the classifier. A
    version has only artifacts that have passed; if none has, there is no version. Images without labels show the same,
    except for the accuracy. Without any, it is noise, on which integer formats cannot be calibrated.

    Args:
        source: A run's folder, another source of `Classifier.from_pretrained`, or a classifier.
        to: Folder of all exports.
        name: Name of the export; that of the run's folder, of the file or of the classifier's network if `None`.
        version: Number of the version; the next free one if `None`.
        dataset: Data set of the calibration (training images) and the verification (test images); the run's own if
            `None`.
        data_dir: Folder of the data set; the run's own if `None`.
        images: Folder of images without labels, instead of a data set, or "noise". Noise also serves a source that is
            no run and comes without `dataset`.
        skip_broken: Skip images that are broken or have no class; see `open_split`.
        **options: Fields of `ExportOptions`, such as `formats`, `precision` and the tolerances.

    Returns:
        The folder and the measurements of each artifact.

    Raises:
        FileNotFoundError: The run, the file or the data set is not there.
        FileExistsError: The version exists.
        ValueError: Weights are not finite, a format or an option is unknown, the data set has other classes, `dataset`
            and `images` are both given, or integers are to be calibrated on noise.
        OSError: The disk is full.
        ArtifactError: An artifact could not be made or run. Nothing is published or replaced.
        ExportRefused: An artifact is outside its tolerance. It is left out, and the others are published. Nothing is
            replaced.
        MissingExtra: A package for ONNX is not installed.
    """
    chosen = ExportOptions(**options)
    chosen = replace(chosen, agreement=chosen.least_agreement)
    classifier = source if isinstance(source, Classifier) else Classifier.from_pretrained(source)
    check_one_label(classifier.model, "an export")
    check_finite_model(classifier.model)
    formats = chosen.formats_for(quantization_aware=is_quantized(classifier.model))
    if "onnx" in formats:
        require_onnx()
    title = classifier.model.name if isinstance(source, Classifier) else str(source)
    dataset, data_dir, images = _images_of(title, dataset, data_dir, images)
    if str(images) == NOISE:
        formats = _formats_for_noise(formats, chosen, classifier)
    home = Path(to) / (name or (title if isinstance(source, Classifier) else name_of_source(source)))
    if version is not None and (folder := home / str(version)).exists():
        raise FileExistsError(f"Expected a version that does not exist yet. Received: {folder}")
    place = DataSource(data_dir=data_dir, on_corrupt="skip" if skip_broken else "raise")
    reference = read_reference(classifier, formats, chosen, dataset, place, images)
    _tell_few_images(len(reference.pixels), chosen.least_agreement)
    if chosen.precision == "bfloat16" and "saved_model" in formats and has_bfloat16() is False:
        _log.warning(
            "this processor has no instructions for bfloat16: here a SavedModel in bfloat16 is half as large as one in "
            "float32, and slower"
        )
    hashes = input_hashes(classifier, formats, chosen, reference, home.name)
    job = ExportJob(classifier, formats, chosen, home, reference, hashes)
    with files.new_version(home, version) as new, space_expected(new.path):
        verifications = _with_latencies(job, list(write_and_verify(job, new.aside)), new.aside)

        def report(shown: list[Verification]) -> dict[str, Any]:
            calibrated = len(reference.calibration)
            return export_report(
                title,
                classifier,
                dataset,
                chosen,
                shown,
                job.layers,
                hashes,
                calibration_images=calibrated,
                images=None if images is None else Path(images).name,
            )

        passed = [each for each in verifications if not each.failures]
        if not passed:
            raise ExportRefused(verifications, _write_refused(new.path, report(verifications)), None)
        remove_artifacts(new.aside, {each.format for each in passed})
        files.write_json(new.aside / REPORT, report(passed))
        files.write_text(new.aside / CARD, model_card(report(passed)))
    published = Export(new.path, tuple(passed))
    if len(passed) < len(verifications):
        raise ExportRefused(verifications, _write_refused(new.path, report(verifications)), published)
    _refused(new.path).unlink(missing_ok=True)
    return published


def _images_of(
    title: str, dataset: str | None, data_dir: str | Path | None, images: str | Path | None
) -> tuple[str | None, str | Path | None, str | Path | None]:
    """Returns the data set and its folder, or images without labels: noise where nothing names any."""
    if images is not None and (dataset is not None or data_dir is not None):
        raise ValueError(f"Expected `dataset` and `data_dir`, or `images`. Received: both, `images` {images}")
    if images is not None:
        return None, None, images
    if dataset is None and data_dir is None and not knows_dataset(title):
        return None, None, NOISE
    return *dataset_of(title, dataset, data_dir), None


def _refused(version: Path) -> Path:
    """Returns the file of the report on what a version lacks."""
    return version.with_name(f"refused-{version.name}.json")


def _write_refused(version: Path, report: dict[str, Any]) -> Path:
    files.write_json(_refused(version), report)
    return _refused(version)


def _formats_for_noise(
    formats: tuple[Format, ...], options: ExportOptions, classifier: Classifier
) -> tuple[Format, ...]:
    """Returns the formats that need no calibration, and warns.

    Raises:
        ValueError: One that needs it was asked for.
    """
    calibrated = [] if is_quantized(classifier.model) else [name for name in formats if FORMATS[name].integer]
    if calibrated and options.formats is not None:
        raise ValueError(
            f"Expected images to calibrate {' and '.join(calibrated)} on: `images`, a folder of them without labels, "
            "or `dataset`. Received: noise"
        )
    left = f" {' and '.join(calibrated)} needs them." if calibrated else ""
    _log.warning(
        f"artifacts are verified on noise; `images` names a folder of real images, which need no labels.{left}"
    )
    return tuple(name for name in formats if name not in calibrated)


def _tell_few_images(images: int, agreement: float) -> None:
    """Logs that a verification has so few images that one of them is beyond the tolerance."""
    if agreement < 1 and images * (1 - agreement) < 1:
        _log.warning(
            f"{images} test images decide little: the top-1 of each is {1 / images:.1%} of the agreement, so one may "
            "differ"
        )


def _with_latencies(job: ExportJob, verifications: list[Verification], folder: Path) -> list[Verification]:
    """Returns the verifications with latencies, if the options ask for them."""
    if not job.options.latency:
        return verifications
    artifacts = [(FORMATS[each.format].runtime, folder / each.file) for each in verifications]
    speeds = measure_latencies(artifacts, threads=default_threads(), batches=_LATENCY_BATCHES, seconds=_LATENCY_SECONDS)
    found = [replace(each, latencies=speed.latencies) for each, speed in zip(verifications, speeds, strict=True)]
    for each in found:
        _log.info("%-13s %.2f ms for one image on all cores", each.format, each.latency_ms)
    return found
