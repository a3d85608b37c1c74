"""Exports of a run or a file: every artifact is written aside and verified, and only then published."""

from __future__ import annotations

import errno
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.checks.tensorflow_errors import reason_of
from resnet_keras.data.opening import DataSource
from resnet_keras.exporting.artifact_process import default_threads, measure_latencies
from resnet_keras.exporting.formats import FORMATS, Format
from resnet_keras.exporting.layer_errors import LayerError, largest_errors, layer_errors
from resnet_keras.exporting.litert import convert_to_litert, litert_conversion
from resnet_keras.exporting.litert_metadata import add_metadata
from resnet_keras.exporting.model_card import model_card
from resnet_keras.exporting.options import ExportOptions
from resnet_keras.exporting.reference import Reference, read_reference
from resnet_keras.exporting.report import export_report
from resnet_keras.exporting.saved_model import write_saved_model
from resnet_keras.exporting.serving import probability_network, serving_network
from resnet_keras.exporting.verification import Tolerance, Verification, verify, verifying_process
from resnet_keras.exporting.warmup_requests import write_warmup_requests
from resnet_keras.runs.folder import dataset_of
from resnet_keras.surgery.quantization import is_quantized

REPORT = "export.json"
CARD = "README.md"

_log = logging.getLogger(__name__)
_LAYER_IMAGES = 16
_AGREEMENT_MARGIN = 0.01  # above the tolerance; up to there, the report has the errors of the layers
_LATENCY_BATCHES, _LATENCY_SECONDS = (1, 8), 0.5


@dataclass(frozen=True)
class Export:
    """A published version: its folder, and the measurements of each artifact in it."""

    path: Path
    verifications: tuple[Verification, ...]


class ExportRefused(ValueError):
    """An artifact is outside its tolerance; nothing was published."""

    def __init__(self, verifications: Sequence[Verification], report: Path) -> None:
        failures = "\n".join(f"  {each.format}: {failure}" for each in verifications for failure in each.failures)
        passed = [each.format for each in verifications if not each.failures]
        advice = f"export --formats {' '.join(passed)}, which passed, or " if passed else ""
        super().__init__(
            "Expected artifacts that compute the same as their classifier. Nothing is published. Received:\n"
            f"{failures}\nThe report is in {report}. Next: {advice}allow more with --agreement or a tolerance; for "
            "integers, try more --calibration-images or quantization-aware training"
        )
        self.verifications = tuple(verifications)


@dataclass
class _Job:
    """An export in progress: what it writes, and what its artifacts are compared with."""

    classifier: Classifier
    formats: tuple[Format, ...]
    options: ExportOptions
    name: str
    reference: Reference
    layers: dict[Format, list[LayerError]] = field(default_factory=dict)

    @property
    def quantization_aware(self) -> bool:
        return is_quantized(self.classifier.model)

    def tolerance(self, name: Format) -> Tolerance:
        # After quantization-aware training, a rounding to int8 may fall to the other side, with any difference.
        difference = None if self.quantization_aware else self.options.tolerance_of(name)
        return Tolerance(difference=difference, agreement=self.options.agreement)


def export(
    source: str | Path | Classifier,
    to: str | Path = "saved_models",
    *,
    name: str | None = None,
    version: int | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    skip_broken: bool = False,
    **options: Any,
) -> Export:
    """Publishes a classifier in `to/name/version`: a SavedModel, LiteRT files, a report and a model card.

    Every artifact is run on real images, in a process without this package, and compared with the classifier. A
    version appears only when all of them have passed.

    Args:
        source: A run's folder, another source of `Classifier.from_pretrained`, or a classifier.
        to: Folder of all exports.
        name: Name of the export; that of the run's folder, of the file or of the classifier's network if `None`.
        version: Number of the version; the next free one if `None`.
        dataset: Data set of the calibration (training images) and the verification (test images); the run's own if
            `None`.
        data_dir: Folder of the data set; the run's own if `None`.
        skip_broken: Skip images that are broken or have no class; see `open_split`.
        **options: Fields of `ExportOptions`, such as `formats`, `precision` and the tolerances.

    Returns:
        The folder and the measurements of each artifact.

    Raises:
        FileNotFoundError: The run, the file or the data set is not there.
        FileExistsError: The version exists.
        ValueError: A format or an option is unknown, the data set has other classes, or a source that is no run
            comes without `dataset`.
        OSError: The disk is full.
        ArtifactError: An artifact could not be made or run. Nothing is published or replaced.
        ExportRefused: An artifact is outside its tolerance. Nothing is published or replaced.
    """
    chosen = ExportOptions(**options)
    classifier = source if isinstance(source, Classifier) else Classifier.from_pretrained(source)
    formats = chosen.formats_for(quantization_aware=is_quantized(classifier.model))
    title = classifier.model.name if isinstance(source, Classifier) else str(source)
    dataset, data_dir = dataset_of(title, dataset, data_dir)
    home = Path(to) / (name or Path(title).resolve().stem)
    folder = home / str(_free_version(home) if version is None else version)
    if folder.exists():
        raise FileExistsError(f"Expected a version that does not exist yet. Received: {folder}")
    place = DataSource(data_dir=data_dir, on_corrupt="skip" if skip_broken else "raise")
    reference = read_reference(classifier, formats, chosen, dataset, place)
    job = _Job(classifier, formats, chosen, home.name, reference)
    with files.new_folder(folder) as aside, _explain_failures(folder):
        verifications = _with_latencies(job, list(_write_and_verify(job, aside)), aside)
        calibrated = len(reference.calibration)
        report = export_report(
            title, classifier, dataset, chosen, verifications, job.layers, calibration_images=calibrated
        )
        _write_report(report, verifications, aside, home / f"refused-{folder.name}.json")
    return Export(folder, tuple(verifications))


def _write_report(report: dict[str, Any], verifications: list[Verification], folder: Path, refused: Path) -> None:
    """Writes the report and the model card into `folder`, or the report into `refused`.

    Raises:
        ExportRefused: An artifact is outside its tolerance.
    """
    if any(each.failures for each in verifications):
        files.write_json(refused, report)
        raise ExportRefused(verifications, refused)
    files.write_json(folder / REPORT, report)
    files.write_text(folder / CARD, model_card(report))
    refused.unlink(missing_ok=True)


def _write_and_verify(job: _Job, folder: Path) -> Iterator[Verification]:
    """Writes the artifacts into `folder` and yields the verification of each, while LiteRT converts the next."""
    _log.info("writing %s", ", ".join(job.formats))
    network = serving_network(job.classifier)
    litert = {name: folder / f"{name}.tflite" for name in job.formats if FORMATS[name].runtime == "litert"}
    with ExitStack() as stack:
        converted: Iterator[Format] = iter(())
        if litert:
            converted = stack.enter_context(_conversion(job, network, litert))
        if "saved_model" in job.formats:
            with verifying_process("saved_model", folder) as process:
                _write_saved_model(job, network, folder)
                yield _verified(job, "saved_model", folder, process)
        for name in converted:
            add_metadata(litert[name], job.classifier)
            verification = _verified(job, name, litert[name])
            if FORMATS[name].integer and verification.agreement < job.options.agreement + _AGREEMENT_MARGIN:
                verification = _with_layer_errors(job, network, litert, verification)
            yield verification


@contextmanager
def _conversion(job: _Job, network: keras.Model, artifacts: Mapping[Format, Path]) -> Iterator[Iterator[Format]]:
    options = job.options
    with litert_conversion(
        probability_network(network),
        job.reference.calibration,
        artifacts,
        batch=options.batch,
        int8_input=options.int8_input,
        int8_output=options.int8_output,
    ) as converted:
        yield converted


def _write_saved_model(job: _Job, network: keras.Model, folder: Path) -> None:
    options = job.options
    write_saved_model(
        job.classifier,
        folder,
        network=network if options.precision == "float32" else None,
        precision=options.precision,
        pixels=options.pixels,
        sizes=options.sizes,
        top_k=options.top_k,
    )
    write_warmup_requests(folder, job.name, job.classifier.preprocessing, options.pixels)


def _verified(job: _Job, name: Format, path: Path, process: Any = None) -> Verification:
    verification = verify(name, path, job.reference, job.tolerance(name), process)
    _log.info("%s", verification)
    return verification


def _with_layer_errors(
    job: _Job, network: keras.Model, artifacts: Mapping[Format, Path], verification: Verification
) -> Verification:
    """Keeps the errors of the layers of an integer file, and names the largest of them if the file is refused."""
    if job.quantization_aware:
        return verification  # there is no float file to compare with
    pixels = job.reference.pixels[:_LAYER_IMAGES]
    with tempfile.TemporaryDirectory() as scratch:
        reference = artifacts.get("float32")
        if reference is None:
            reference = Path(scratch) / "float32.tflite"
            convert_to_litert(probability_network(network), pixels, {"float32": reference})
        errors = layer_errors(reference, artifacts[verification.format], pixels)
    job.layers[verification.format] = errors
    if not verification.failures or not errors:
        return verification
    return replace(verification, failures=(*verification.failures, largest_errors(errors)))


def _with_latencies(job: _Job, verifications: list[Verification], folder: Path) -> list[Verification]:
    """Returns the verifications with latencies, if the options ask for them."""
    if not job.options.latency:
        return verifications
    artifacts = [(FORMATS[each.format].runtime, folder / each.file) for each in verifications]
    speeds = measure_latencies(artifacts, threads=default_threads(), batches=_LATENCY_BATCHES, seconds=_LATENCY_SECONDS)
    found = [replace(each, latencies=speed.latencies) for each, speed in zip(verifications, speeds, strict=True)]
    for each in found:
        _log.info("%-13s %.2f ms for one image on all cores", each.format, each.latency_ms)
    return found


@contextmanager
def _explain_failures(folder: Path) -> Iterator[None]:
    """Turns TensorFlow's error for a full disk into one line."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.FailedPreconditionError, tf.errors.UnknownError) as error:
        if "No space left" not in error.message:
            raise
        message = f"Expected space on the disk for {folder}. Received: {reason_of(error.message)}; nothing is published"
        raise OSError(errno.ENOSPC, message) from None


def _free_version(home: Path) -> int:
    taken = [int(path.name) for path in home.glob("*") if path.name.isdigit()]
    return max(taken, default=0) + 1
