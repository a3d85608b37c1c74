"""Export of detectors to SavedModel and LiteRT, with non-maximum suppression inside, verified by their detections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from resnet_keras import files
from resnet_keras.checks.extras import required
from resnet_keras.data.input_images import read_images
from resnet_keras.detection.average_precision import FoundBoxes, coco_average_precision
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.detector import Detector
from resnet_keras.detection.image_reading import image_files
from resnet_keras.exporting.dense_formats import (
    artifact_paths,
    check_agreement,
    check_formats,
    expect_builtin,
    export_content,
    size_of,
)
from resnet_keras.exporting.detection_agreement import Agreement, agreement_of
from resnet_keras.exporting.detector_graphs import write_litert_graph, write_saved_model
from resnet_keras.exporting.int8_detector import int8_detector
from resnet_keras.exporting.litert import convert_saved_model
from resnet_keras.exporting.unlabeled import spread_images

DetectorFormat = Literal["saved_model", "float32", "float16", "dynamic_range", "int8"]
DETECTION_AGREEMENT: dict[DetectorFormat, float] = {
    "saved_model": 0.99,
    "float32": 0.99,
    "float16": 0.95,
    "dynamic_range": 0.8,
    "int8": 0.8,
}
"""Smallest fraction of equal detections, by format; with objects to measure by, those of "int8" are not counted."""
DETECTOR_FORMATS: tuple[DetectorFormat, ...] = ("saved_model", "float32", "float16", "dynamic_range")
"""Formats that are written without `formats`."""
AP_LOSS = 0.01
"""Largest loss of average precision of "int8"."""
MOST_COMPARED = 64
"""Most image files, or images of a run's data, to compare on."""


class DetectionDisagreement(ValueError):
    """An artifact has other detections than the model; nothing is published."""


@dataclass(frozen=True)
class DetectorArtifact:
    """A verified artifact of a detector.

    Attributes:
        format: Format of the artifact.
        path: Its file or folder.
        size_bytes: Its size.
        images: Number of images that it was compared on.
        detections: Detections of the model in them.
        agreement: Fraction of detections, the artifact's and the model's, that the other has, too: 0 to 1.
        box_difference: Largest difference of an edge of these, in pixels of the images.
        score_difference: Largest difference of their scores.
        ap: Its average precision on the images, 0 to 1, if their objects are known.
        model_ap: That of the model.
    """

    format: DetectorFormat
    path: str
    size_bytes: int
    images: int
    detections: int
    agreement: float
    box_difference: float
    score_difference: float
    ap: float | None = None
    model_ap: float | None = None


def export_detector(
    detector: Detector,
    folder: str | Path,
    images: Any,
    *,
    formats: Sequence[str] | None = None,
    agreement: float | None = None,
) -> list[DetectorArtifact]:
    """Writes a detector as SavedModel and LiteRT files, after comparing the detections of each with the model's.

    All have non-maximum suppression inside and return `boxes`, float32 (N, detections, 4), left, top, right, and bottom
    edge in pixels; `scores`, float32 (N, detections), falling; `labels`, int32 (N, detections), 0 for the first class;
    and `number`, int32 (N,), the detections of each image.

    The SavedModel takes images of any size, and its boxes are in their pixels: `serving_default` takes `images`
    (N, H, W, C) of uint8, `serve_bytes` takes `image_bytes` (N,), JPEG or PNG files of different sizes. It has the
    class names as `class_names`. The LiteRT files have builtin operators only. They take one image on the canvas:
    `images`, float32 pixels 0–255 (1, *image_size, C), resized without antialiasing to the upper left, and `sizes`, its
    height and width there, int32 (1, 2); boxes are in pixels of the canvas. In "int8", backbone and pyramid compute in
    8 bits, with ranges from `images`, and heads and boxes in float32.

    Args:
        detector: Network, preprocessing and class names.
        folder: New folder of the artifacts; nothing is there unless all agree.
        images: Images to compare on, at least one; see `Detector.predict`. They should have objects. Of more than
            `MOST_COMPARED` files, so many are taken, spread evenly. If it is a
            `BoxSplit`, which has their objects, the average precision of each artifact is measured, too, and "int8" may
            lose `AP_LOSS` of it, however many detections are equal.
        formats: Formats to write; those of `DETECTOR_FORMATS`, which are all but "int8", if `None`.
        agreement: Smallest fraction of equal detections for all formats; those of `DETECTION_AGREEMENT` if `None`.

    Returns:
        An artifact for each format, also in `export.json`.

    Raises:
        ValueError: A format is unknown, there are no images or no detections in them, or an artifact does not agree
            (`DetectionDisagreement`; the message names it and the fraction).
        resnet_keras.exporting.ArtifactError: The converter failed.
        MissingExtra: A package of the extra `export` is missing.
    """
    shown, _ = spread_images(images, MOST_COMPARED)
    with files.new_folder(folder) as aside:
        found = write_detector_artifacts(detector, aside, shown, formats=formats, agreement=agreement)
        content = export_content("detection", detector.class_names, detector.preprocessing, found)
        files.write_json(aside / "export.json", {**content, "fit": detector.fit})
    return [replace(each, path=str(Path(folder) / each.path)) for each in found]


def write_detector_artifacts(
    detector: Detector, aside: Path, images: Any, *, formats: Sequence[str] | None, agreement: float | None = None
) -> list[DetectorArtifact]:
    """Writes a detector in some formats to a folder that is not published yet, and returns them by their names.

    Args:
        detector: See `export_detector`.
        aside: The folder.
        images: Images to compare on; see `export_detector`. Files and those of a `BoxSplit` are read again for each
            format, and not held.
        formats: See `export_detector`.
        agreement: See `export_detector`.
    """
    chosen = check_formats(formats, DETECTION_AGREEMENT, DETECTOR_FORMATS)
    check_agreement(agreement)
    shown = list(images) if isinstance(images, Iterator) else images
    reference = _Reference(detector, shown, detector.predict(_again(shown)), agreement)
    if not any(len(found.scores) for found in reference.expected):
        raise ValueError(
            "Expected images with objects that the detector finds, to compare the artifacts on. Received: "
            f"{len(reference.expected)} images, without detections"
        )
    paths, lite = artifact_paths(aside, chosen)
    if "saved_model" in paths:
        write_saved_model(detector, paths["saved_model"])
    with required("export", "LiteRT") if lite else nullcontext(), files.scratch_folder() as scratch:
        if plain := {name: path for name, path in lite.items() if name != "int8"}:
            write_litert_graph(detector, detector.model, scratch / "graph")
            convert_saved_model(scratch / "graph", plain)
        if "int8" in lite:
            network = int8_detector(detector.model, detector.preprocessing.std, _canvases(detector, reference.pixels()))
            write_litert_graph(detector, network, scratch / "int8")
            convert_saved_model(scratch / "int8", {"int8": lite["int8"]}, quantization_aware=True)
    return [_compared(name, path, reference) for name, path in paths.items()]


def litert_detector(path: str | Path, detector: Detector) -> Callable[[np.ndarray], FoundBoxes]:
    """Returns the function of a LiteRT file: pixels of an image (H, W, C) to the objects in it, in its own pixels.

    Args:
        path: A file of `export_detector`.
        detector: The detector that it was made from, whose preprocessing applies.
    """
    with required("export", "LiteRT"):
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(str(path))
    run = interpreter.get_signature_runner()
    canvas = detector.preprocessing.image_size

    def found_in(pixels: np.ndarray) -> FoundBoxes:
        size = resized_size(tf.constant(pixels.shape[:2]), canvas, detector.fit)
        placed = np.zeros((1, *canvas, detector.preprocessing.channels), np.float32)
        placed[0, : size[0], : size[1]] = tf.image.resize(pixels, size, "bilinear", antialias=False)
        outputs = run(images=placed, sizes=size.numpy()[None])
        return _in_pixels(outputs, np.array(pixels.shape[:2]) / size.numpy())

    return found_in


def _again(images: Any) -> Any:
    """Returns images that can be read once more: the files of a `BoxSplit`, or what else there is."""
    return image_files(images) if isinstance(images, BoxSplit) else images


def _canvases(detector: Detector, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields each image alone on its canvas, normalized (1, H, W, C)."""
    for pixels in images:
        size = resized_size(tf.constant(pixels.shape[:2]), detector.preprocessing.image_size, detector.fit)
        yield on_canvas(pixels, detector.preprocessing, size).numpy()[None]


@dataclass(frozen=True, eq=False)
class _Reference:
    """What artifacts are compared with: the model's detections in images, whose objects may be known."""

    detector: Detector
    images: Any
    expected: list[FoundBoxes]
    agreement: float | None

    def pixels(self) -> Iterator[np.ndarray]:
        """Yields the pixels of each image (H, W, C)."""
        return (each.pixels for each in read_images(_again(self.images), self.detector.preprocessing.channels))

    def average_precision(self, found: Sequence[FoundBoxes]) -> float | None:
        """Returns that of detections in the images; `None` if their objects are not known."""
        return coco_average_precision(self.images, found).ap if isinstance(self.images, BoxSplit) else None


def _compared(name: DetectorFormat, path: Path, reference: _Reference) -> DetectorArtifact:
    """Returns the artifact, by the name of its file, with its agreement with the model.

    Raises:
        DetectionDisagreement: Fewer detections are equal than have to be, or int8 loses too much precision.
        ValueError: A LiteRT file has operators that are not builtin.
    """
    if name != "saved_model":
        expect_builtin(name, path)
    detect = _saved_model_detector(path) if name == "saved_model" else litert_detector(path, reference.detector)
    found, expected = list(map(detect, reference.pixels())), reference.expected
    total = sum((agreement_of(*pair) for pair in zip(expected, found, strict=True)), Agreement())
    ap, model_ap = reference.average_precision(found), reference.average_precision(expected)
    least = DETECTION_AGREEMENT[name] if reference.agreement is None else reference.agreement
    if name == "int8" and reference.agreement is None and ap is not None and model_ap is not None:
        if model_ap - ap > AP_LOSS:
            raise DetectionDisagreement(
                f"Expected {name} to lose at most {AP_LOSS:.1%} of average precision; leave it out by `formats`, or "
                f"compare on more images, which set its ranges, too. Received: {ap:.2%} instead of the model's "
                f"{model_ap:.2%} on {len(found)} images"
            )
    elif total.fraction < least:
        raise DetectionDisagreement(
            f"Expected {name} to have at least {least:.2%} of the model's detections in {len(found)} images, and no "
            "others (`agreement`); leave it out by `formats`, or compare on images with more objects. Received: "
            f"{total.fraction:.2%}"
        )
    return DetectorArtifact(
        name,
        path.name,
        size_of(path),
        len(found),
        total.expected,
        total.fraction,
        total.box_difference,
        total.score_difference,
        ap,
        model_ap,
    )


def _saved_model_detector(path: Path) -> Callable[[np.ndarray], FoundBoxes]:
    run = tf.saved_model.load(str(path)).signatures["serving_default"]

    def found_in(pixels: np.ndarray) -> FoundBoxes:
        outputs = run(tf.constant(np.rint(pixels)[None].astype(np.uint8)))
        return _in_pixels({key: value.numpy() for key, value in outputs.items()}, np.ones(2))

    return found_in


def _in_pixels(outputs: dict[str, np.ndarray], ratio: np.ndarray) -> FoundBoxes:
    """Returns the detections of the only image, enlarged by ratios of height and width."""
    count = int(outputs["number"][0])
    boxes, scores, labels = (outputs[name][0][:count] for name in ("boxes", "scores", "labels"))
    return FoundBoxes(boxes * np.tile(ratio[::-1], 2), scores, labels)
