"""Exporting a run or a file: every artefact written aside, proven, and only then published."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_keras import atomic
from resnet_keras.broken_images import naming_broken_images, open_whole
from resnet_keras.classifier import Classifier
from resnet_keras.copies import in_float32
from resnet_keras.exporting.card import card
from resnet_keras.exporting.litert import LITERT_FORMATS, convert
from resnet_keras.exporting.pixel_model import pixel_model
from resnet_keras.exporting.proof import SAVED_MODEL, Proof, Tolerance, prove
from resnet_keras.exporting.saved_model import write_saved_model
from resnet_keras.images import normalize
from resnet_keras.input_pipeline import pixel_array
from resnet_keras.normalization import flat_layers
from resnet_keras.run_folder import dataset_of, versions
from resnet_keras.splits import sample

FORMATS = (SAVED_MODEL, *LITERT_FORMATS)
REPORT = "export.json"
CARD = "README.md"


@dataclass(frozen=True)
class Export:
    """A published version: its folder, and what was measured on each artefact in it."""

    path: Path
    proofs: tuple[Proof, ...]


class ExportRefused(ValueError):
    """An artefact lies outside its tolerance; nothing was published."""

    def __init__(self, proofs: Sequence[Proof], report: Path) -> None:
        faults = "\n".join(f"  {proof.form}: {fault}" for proof in proofs for fault in proof.faults)
        super().__init__(
            f"Expected artefacts that compute what their classifier does. Nothing is published. Received:\n{faults}\n"
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
    formats: Sequence[str] = FORMATS,
    test_images: int = 1000,
    calibration_images: int = 256,
    probability_tolerance: float = 1e-4,
    float16_tolerance: float = 1e-2,
    agreement: float = 0.98,
    skip_broken: bool = False,
    log: Callable[[str], None] = print,
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
        formats: Some of `FORMATS`.
        test_images: How many real test images each artefact is compared on, at most.
        calibration_images: How many real training images set the scales of "int8".
        probability_tolerance: Largest difference of a probability allowed to the SavedModel and to "float32".
        float16_tolerance: The same for "float16".
        agreement: Smallest fraction of equal top-1 classes allowed to any artefact.
        skip_broken: Leave out images that are broken or have no class; see `open_whole`.
        log: Takes the lines of progress.

    Raises:
        FileNotFoundError: No such run or file, or its data set is not where it was.
        FileExistsError: The version exists.
        ValueError: An unknown format; a data set of other classes; no data set named for a file.
        ExportRefused: An artefact is outside its tolerance. Nothing is published or replaced.
    """
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"Expected `formats` among {', '.join(FORMATS)}. Received: {', '.join(unknown) or 'none'}")
    classifier = Classifier.load(source)
    dataset, data_dir = dataset_of(source, dataset, data_dir)
    home = Path(to) / (name or Path(source).resolve().stem)
    folder = home / str(_free_version(home) if version is None else version)
    if folder.exists():
        raise FileExistsError(f"Expected a version that does not exist yet. Received: {folder}")

    skip = log if skip_broken else None
    test, train = (open_whole(dataset, split, data_dir=data_dir, skip=skip) for split in ("test", "train"))
    if len(test.class_names) != len(classifier.class_names):
        raise ValueError(
            f"Expected a data set of the classifier's {len(classifier.class_names)} classes. "
            f"Received: {dataset}, of {len(test.class_names)}"
        )
    with naming_broken_images(test, train):
        pixels, labels = pixel_array(sample(test, test_images), classifier.preprocessing)
        calibration, _ = pixel_array(sample(train, calibration_images), classifier.preprocessing)
    expected, trained = _expected(classifier, pixels)

    tolerances = {form: Tolerance(difference=None, agreement=agreement) for form in FORMATS}
    for form in (SAVED_MODEL, "float32"):
        tolerances[form] = Tolerance(difference=probability_tolerance, agreement=agreement)
    tolerances["float16"] = Tolerance(difference=float16_tolerance, agreement=agreement)

    with atomic.new_folder(folder) as aside:
        if not trained >= agreement:
            raise ValueError(
                f"Expected the network, in float32, to agree with itself as trained, in half precision, on "
                f"{agreement:.2%} of the images. Received: {trained:.2%}"
            )
        log(f"writing {', '.join(formats)}")
        artefacts = _write(classifier, aside, formats, calibration)
        proofs = []
        for form, path in artefacts.items():
            proofs.append(prove(form, path, pixels, labels, expected, tolerances[form]))
            log(_line(proofs[-1]))
        report = _report(source, classifier, dataset, proofs, tolerances, calibration_images=len(calibration))
        refused = home / f"refused-{folder.name}.json"
        if any(proof.faults for proof in proofs):
            atomic.write_json(refused, report)
            raise ExportRefused(proofs, refused)
        atomic.write_json(aside / REPORT, report)
        atomic.write_text(aside / CARD, card(report))
    refused.unlink(missing_ok=True)
    return Export(folder, tuple(proofs))


def _write(classifier: Classifier, folder: Path, formats: Sequence[str], calibration: np.ndarray) -> dict[str, Path]:
    """Writes the artefacts into `folder`; returns where each is."""
    model = pixel_model(classifier)
    artefacts: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if SAVED_MODEL in formats:
            written = Path(scratch) / "served"
            write_saved_model(model, written, classifier.class_names, pixels=tf.uint8)
            for part in written.iterdir():
                shutil.move(part, folder / part.name)
            artefacts[SAVED_MODEL] = folder
        litert = {form: folder / f"{form}.tflite" for form in LITERT_FORMATS if form in formats}
        if litert:
            # A graph of float32 pixels: the converter gives "int8" its uint8 input itself.
            source = Path(scratch) / "convertible"
            write_saved_model(model, source, classifier.class_names, pixels=tf.float32)
            convert(source, calibration, litert)
    return {**artefacts, **litert}


def _expected(classifier: Classifier, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the probabilities that artefacts must have, and how often their top-1 is that of the trained network.

    Artefacts compute in float32. A network of half precision is compared in float32 too: its own rounding, of the
    order of 1e-2, would hide an artefact's faults.
    """
    images = normalize(pixels, classifier.preprocessing)
    trained = classifier.probabilities(images)
    if all(layer.compute_dtype == "float32" for layer in flat_layers(classifier.model)):
        return trained, 1.0
    expected = replace(classifier, model=in_float32(classifier.model)).probabilities(images)
    return expected, float((expected.argmax(1) == trained.argmax(1)).mean())


def _free_version(home: Path) -> int:
    taken = [int(path.name) for path in home.glob("*") if path.name.isdigit()]
    return max(taken, default=0) + 1


def _report(
    source: str | Path,
    classifier: Classifier,
    dataset: str,
    proofs: Sequence[Proof],
    tolerances: dict[str, Tolerance],
    *,
    calibration_images: int,
) -> dict[str, Any]:
    return {
        "source": str(source),
        "model": classifier.model.name,
        "dataset": dataset,
        "class_names": list(classifier.class_names),
        "preprocessing": classifier.preprocessing.to_json(),
        "calibration_images": calibration_images,
        "versions": versions(),
        "artefacts": [{**asdict(proof), "tolerance": asdict(tolerances[proof.form])} for proof in proofs],
    }


def _line(proof: Proof) -> str:
    verdict = "passed" if not proof.faults else "REFUSED: " + "; ".join(proof.faults)
    return (
        f"{proof.form:13} {proof.size_bytes / 1e6:7.2f} MB, {proof.latency_ms:7.2f} ms, largest difference "
        f"{proof.difference:.1e}, top-1 agreement {proof.agreement:.2%}, accuracy {proof.accuracy:.2%}, {verdict}"
    )
