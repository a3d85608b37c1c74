"""Exporting a run or a file: every artifact written aside, proven, and only then published."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier, outputs_logits
from resnet_keras.data.broken_images import explain_broken_images, open_whole
from resnet_keras.data.evaluation_batches import pixel_array
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.sampling import class_balanced_sample, stratified_sample
from resnet_keras.evaluation.evaluator import align_classes
from resnet_keras.exporting.layer_errors import LayerError, layer_errors, worst
from resnet_keras.exporting.litert import LITERT_FORMATS, convert_to_litert
from resnet_keras.exporting.litert_metadata import add_metadata
from resnet_keras.exporting.model_card import model_card
from resnet_keras.exporting.options import ExportOptions, Format
from resnet_keras.exporting.pixel_model import pixel_model
from resnet_keras.exporting.report import export_report
from resnet_keras.exporting.saved_model import write_saved_model
from resnet_keras.exporting.verification import SAVED_MODEL, Tolerance, Verification, verify
from resnet_keras.exporting.warmup_requests import write_warmup_requests
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.runs.folder import dataset_of
from resnet_keras.surgery.cloning import clone_in_float32
from resnet_keras.surgery.quantization import is_quantized

REPORT = "export.json"
CARD = "README.md"

_LAYER_IMAGES = 16
_LOW = 0.01  # of agreement, above what is refused: from there on the layers are looked at


@dataclass(frozen=True)
class Export:
    """A published version: its folder, and what was measured on each artifact in it."""

    path: Path
    proofs: tuple[Verification, ...]


class ExportRefused(ValueError):
    """An artifact lies outside its tolerance; nothing was published."""

    def __init__(self, proofs: Sequence[Verification], report: Path) -> None:
        faults = "\n".join(f"  {proof.form}: {fault}" for proof in proofs for fault in proof.faults)
        super().__init__(
            f"Expected artifacts that compute what their classifier does. Nothing is published. Received:\n{faults}\n"
            f"The report lies in {report}"
        )
        self.proofs = tuple(proofs)


def export(
    source: str | Path,
    to: str | Path = "saved_models",
    *,
    name: str | None = None,
    version: int | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    skip_broken: bool = False,
    log: Callable[[str], None] = print,
    **options: Any,
) -> Export:
    """Publishes a classifier in `to/name/version`: a SavedModel, LiteRT files beside it, a report and a card.

    Args:
        source: A run's folder, or a `.keras` file with preprocessing and class names.
        to: Folder of all exports.
        name: Of the export; the run's folder or the file's name if `None`.
        version: A number; the next free one if `None`.
        dataset: Data set to calibrate on (its training images) and to compare on (its test images); the run's own if
            `None`.
        data_dir: Where it lies; where the run had it if `None`.
        skip_broken: Leave out images that are broken or have no class; see `open_whole`.
        log: Takes the lines of progress.
        **options: Fields of `ExportOptions`: formats, precision, tolerances.

    Raises:
        FileNotFoundError: No such run or file, or its data set is not where it was.
        FileExistsError: The version exists.
        ValueError: An unknown format or option; a data set of other classes; no data set named for a file.
        ExportRefused: An artifact is outside its tolerance. Nothing is published or replaced.
    """
    wanted = ExportOptions(**options)
    classifier = Classifier.load(source)
    formats = wanted.formats_for(quantized=is_quantized(classifier.model))
    dataset, data_dir = dataset_of(source, dataset, data_dir)
    home = Path(to) / (name or Path(source).resolve().stem)
    folder = home / str(_free_version(home) if version is None else version)
    if folder.exists():
        raise FileExistsError(f"Expected a version that does not exist yet. Received: {folder}")

    skip = log if skip_broken else None
    test, train = (open_whole(dataset, split, data_dir=data_dir, skip=skip) for split in ("test", "train"))
    test, train = (align_classes(split, classifier.class_names) for split in (test, train))
    with explain_broken_images(test, train):
        pixels, labels = pixel_array(stratified_sample(test, wanted.test_images), classifier.preprocessing)
        calibration, _ = pixel_array(class_balanced_sample(train, wanted.calibration_images), classifier.preprocessing)
    expected, trained = _expected(classifier, pixels)
    if not trained >= wanted.agreement:
        raise ValueError(
            f"Expected the network, in float32, to agree with itself as trained, in half precision, on "
            f"{wanted.agreement:.2%} of the images. Received: {trained:.2%}"
        )
    tolerances = {form: _tolerance(form, wanted, is_quantized(classifier.model)) for form in formats}
    refused = home / f"refused-{folder.name}.json"
    with files.new_folder(folder) as aside:
        log(f"writing {', '.join(formats)}")
        artifacts = _write(classifier, aside, home.name, formats, wanted, calibration, log)
        proofs, layers = [], {}
        for form, path in artifacts.items():
            proof = verify(form, path, pixels, labels, expected, tolerances[form])
            if form in ("int8", "int16") and proof.agreement < wanted.agreement + _LOW:
                layers[form] = _layers(classifier, artifacts, form, pixels[:_LAYER_IMAGES])
                if proof.faults and layers[form]:
                    proof = replace(proof, faults=(*proof.faults, worst(layers[form])))
            if form == SAVED_MODEL:
                proof = replace(proof, file=".")
            proofs.append(proof)
            log(_line(proof))
        report = export_report(
            source, classifier, dataset, wanted, proofs, tolerances, layers, calibration_images=len(calibration)
        )
        if any(proof.faults for proof in proofs):
            files.write_json(refused, report)
            raise ExportRefused(proofs, refused)
        files.write_json(aside / REPORT, report)
        files.write_text(aside / CARD, model_card(report))
    refused.unlink(missing_ok=True)
    return Export(folder, tuple(proofs))


def _tolerance(form: Format, options: ExportOptions, quantized: bool) -> Tolerance:
    """Returns what an artifact may differ by; where roundings to int8 fall may differ in all but the last bits."""
    difference = {
        SAVED_MODEL: options.bfloat16_tolerance if options.precision == "bfloat16" else options.probability_tolerance,
        "float32": options.probability_tolerance,
        "float16": options.float16_tolerance,
    }.get(form)
    return Tolerance(difference=None if quantized else difference, agreement=options.agreement)


def _write(
    classifier: Classifier,
    folder: Path,
    name: str,
    formats: Sequence[Format],
    options: ExportOptions,
    calibration: np.ndarray,
    log: Callable[[str], None],
) -> dict[Format, Path]:
    """Writes the artifacts into `folder`; returns where each is."""
    artifacts: dict[Format, Path] = {}
    if SAVED_MODEL in formats:
        with tempfile.TemporaryDirectory() as scratch:
            written = Path(scratch) / "served"
            write_saved_model(
                classifier,
                written,
                precision=options.precision,
                pixels=options.pixels,
                sizes=options.sizes,
                top_k=options.top_k,
            )
            write_warmup_requests(written, name, classifier.preprocessing, options.pixels)
            for part in written.iterdir():
                shutil.move(part, folder / part.name)
        artifacts["saved_model"] = folder
    litert = {form: folder / f"{form}.tflite" for form in LITERT_FORMATS if form in formats}
    if litert:
        convert_to_litert(
            pixel_model(classifier),
            calibration,
            litert,
            batch=options.batch,
            int8_input=options.int8_input,
            int8_output=options.int8_output,
            log=log,
        )
        for path in litert.values():
            add_metadata(path, classifier)
    return {**artifacts, **litert}  # type: ignore[dict-item]


def _layers(
    classifier: Classifier, artifacts: dict[Format, Path], form: Format, pixels: np.ndarray
) -> list[LayerError]:
    """Returns where a file in integers loses what one in floats computes."""
    if is_quantized(classifier.model):
        return []  # it has no file in floats to compare with
    with tempfile.TemporaryDirectory() as scratch:
        reference = artifacts.get("float32")
        if reference is None:
            reference = Path(scratch) / "float32.tflite"
            convert_to_litert(pixel_model(classifier), pixels, {"float32": reference})
        return layer_errors(reference, artifacts[form], pixels)


def _expected(classifier: Classifier, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the logits that artifacts must have, and how often their top-1 is that of the trained network.

    Artifacts compute in float32. A network of half precision is compared in float32 too: its own rounding, of the
    order of 1e-2, would hide an artifact's faults.
    """
    images = normalize(pixels, classifier.preprocessing)
    trained = _logits(classifier, images)
    if all(layer.compute_dtype == "float32" for layer in flat_layers(classifier.model)):
        return trained, 1.0
    expected = _logits(replace(classifier, model=clone_in_float32(classifier.model)), images)
    return expected, float((expected.argmax(1) == trained.argmax(1)).mean())


def _logits(classifier: Classifier, images: Any) -> np.ndarray:
    outputs = np.asarray(classifier.model.predict_on_batch(images), np.float32)
    return outputs if outputs_logits(classifier.model) else np.log(np.maximum(outputs, np.finfo(np.float32).tiny))


def _free_version(home: Path) -> int:
    taken = [int(path.name) for path in home.glob("*") if path.name.isdigit()]
    return max(taken, default=0) + 1


def _line(proof: Verification) -> str:
    verdict = "passed" if not proof.faults else "REFUSED: " + "; ".join(proof.faults)
    return (
        f"{proof.form:13} {proof.size_bytes / 1e6:7.2f} MB, {proof.latency_ms:7.2f} ms, largest difference "
        f"{proof.difference:.1e}, top-1 agreement {proof.agreement:.2%}, accuracy {proof.accuracy:.2%}, {verdict}"
    )
