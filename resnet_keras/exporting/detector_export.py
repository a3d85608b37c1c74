"""Export of detectors to SavedModel and LiteRT, with non-maximum suppression inside, verified by their detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from resnet_keras import files
from resnet_keras.checks.extras import required
from resnet_keras.data.image_limits import few_scans, header_size
from resnet_keras.data.image_ops import decode_jpeg_or_png, normalize
from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.detector import Detector
from resnet_keras.detection.pooling import portable_operations
from resnet_keras.exporting.constant_weights import with_constant_weights
from resnet_keras.exporting.detection_agreement import Agreement, agreement_of
from resnet_keras.exporting.image_bytes import MOST_IMAGES, MOST_PIXELS
from resnet_keras.exporting.litert import convert_saved_model, operators

DetectorFormat = Literal["saved_model", "float32", "float16", "dynamic_range"]
DETECTION_AGREEMENT: dict[DetectorFormat, float] = {
    "saved_model": 0.99,
    "float32": 0.99,
    "float16": 0.95,
    "dynamic_range": 0.8,
}
"""Smallest fraction of equal detections, by format."""
DETECTOR_FORMATS: tuple[DetectorFormat, ...] = tuple(DETECTION_AGREEMENT)


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
    """

    format: DetectorFormat
    path: str
    size_bytes: int
    images: int
    detections: int
    agreement: float
    box_difference: float
    score_difference: float


def export_detector(
    detector: Detector,
    folder: str | Path,
    images: Any,
    *,
    formats: Sequence[DetectorFormat] = DETECTOR_FORMATS,
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
    height and width there, int32 (1, 2); boxes are in pixels of the canvas.

    Args:
        detector: Network, preprocessing and class names.
        folder: New folder of the artifacts; nothing is there unless all agree.
        images: Images to compare on, at least one; see `Detector.predict`. They should have objects.
        formats: Formats to write.
        agreement: Smallest fraction of equal detections for all formats; those of `DETECTION_AGREEMENT` if `None`.

    Returns:
        An artifact for each format, also in `export.json`.

    Raises:
        ValueError: A format is unknown, there are no images or no detections in them, or an artifact does not agree
            (`DetectionDisagreement`; the message names it and the fraction).
        resnet_keras.exporting.ArtifactError: The converter failed.
        MissingExtra: A package of the extra `export` is missing.
    """
    with files.new_folder(folder) as aside:
        found = write_detector_artifacts(detector, aside, images, formats=formats, agreement=agreement)
        report = {
            "class_names": detector.class_names,
            "preprocessing": detector.preprocessing.to_json(),
            "fit": detector.fit,
            "artifacts": [asdict(each) for each in found],
        }
        files.write_json(aside / "export.json", report)
    return [replace(each, path=str(Path(folder) / each.path)) for each in found]


def write_detector_artifacts(
    detector: Detector, aside: Path, images: Any, *, formats: Sequence[DetectorFormat], agreement: float | None = None
) -> list[DetectorArtifact]:
    """Writes a detector in some formats to a folder that is not published yet, and returns them by their names.

    Args:
        detector: See `export_detector`.
        aside: The folder.
        images: See `export_detector`.
        formats: See `export_detector`.
        agreement: See `export_detector`.
    """
    unknown = [name for name in formats if name not in DETECTOR_FORMATS]
    if unknown or not formats:
        raise ValueError(
            f"Expected formats among {', '.join(DETECTOR_FORMATS)}. Received: {', '.join(unknown) or 'none'}"
        )
    if agreement is not None and not 0 <= agreement <= 1:
        raise ValueError(f"Expected `agreement` from 0 to 1. Received: {agreement}")
    pairs = list(detector.detections(images))
    if not any(len(found.scores) for _, found in pairs):
        raise ValueError(
            "Expected images with objects that the detector finds, to compare the artifacts on. Received: "
            f"{len(pairs)} images, without detections"
        )
    paths = {name: aside / ("saved_model" if name == "saved_model" else f"{name}.tflite") for name in formats}
    if "saved_model" in paths:
        _write_saved_model(detector, paths["saved_model"])
    if lite := {name: path for name, path in paths.items() if name != "saved_model"}:
        with required("export", "LiteRT"), files.scratch_folder() as scratch:
            _write_litert_graph(detector, scratch / "graph")
            convert_saved_model(scratch / "graph", lite)
    return [
        _compared(name, path, detector, pairs, DETECTION_AGREEMENT[name] if agreement is None else agreement)
        for name, path in paths.items()
    ]


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


def _write_saved_model(detector: Detector, folder: Path) -> None:
    preprocessing = detector.preprocessing
    canvas, channels = preprocessing.image_size, preprocessing.channels
    compute = with_constant_weights(detector.model)
    placed_spec = tf.TensorSpec((*canvas, channels), tf.float32), tf.TensorSpec((2,), tf.int32)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, *canvas, channels), tf.float32),
            *[tf.TensorSpec((None, 2), tf.int32)] * 2,
        ],
        autograph=False,
    )
    def detect(placed: tf.Tensor, sizes: tf.Tensor, full_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = compute({"images": placed, "sizes": sizes})
        ratio = tf.cast(full_sizes, tf.float32) / tf.cast(sizes, tf.float32)
        return {**outputs, "boxes": outputs["boxes"] * tf.tile(ratio[:, ::-1], [1, 2])[:, None]}

    def placed(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = resized_size(tf.shape(image)[:2], canvas, detector.fit)
        return on_canvas(image, preprocessing, size), size

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, channels), tf.uint8, name="images")], autograph=False
    )
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        full = tf.shape(images)[1:3]
        with tf.control_dependencies([_bounded(full), _few(tf.shape(images)[0])]):
            on_canvases, sizes = tf.map_fn(placed, tf.identity(images), fn_output_signature=placed_spec)
        return detect(on_canvases, sizes, tf.tile(full[None], [tf.shape(images)[0], 1]))

    def placed_file(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.control_dependencies([_bounded(header_size(file)), few_scans(file)]):
            image = decode_jpeg_or_png(tf.identity(file), channels)
        return *placed(image), tf.shape(image)[:2]

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")], autograph=False)
    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([_few(tf.size(image_bytes))]):
            given = tf.identity(image_bytes)
        signature = (*placed_spec, tf.TensorSpec((2,), tf.int32))
        return detect(*tf.map_fn(placed_file, given, parallel_iterations=1, fn_output_signature=signature))

    module = tf.Module()
    module.class_names = tf.Variable(detector.class_names, trainable=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve, "serve_bytes": serve_bytes})


def _write_litert_graph(detector: Detector, folder: Path) -> None:
    """Writes a SavedModel of one image on the canvas, whose operations LiteRT has."""
    preprocessing = detector.preprocessing
    height, width = preprocessing.image_size
    compute = with_constant_weights(detector.model)
    specs = [
        tf.TensorSpec((1, height, width, preprocessing.channels), tf.float32, name="images"),
        tf.TensorSpec((1, 2), tf.int32, name="sizes"),
    ]

    @tf.function(input_signature=specs, autograph=False)
    def serve(images: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, columns = tf.range(height)[None, :, None, None], tf.range(width)[None, None, :, None]
        image = (rows < sizes[0, 0]) & (columns < sizes[0, 1])  # whatever is in the padding becomes 0
        normalized = normalize(images, preprocessing) * tf.cast(image, tf.float32)
        return compute({"images": normalized, "sizes": sizes})

    with portable_operations():
        tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serve})


def _bounded(size: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a height and width (2,) of no pixels or too many."""
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    return tf.debugging.Assert(
        (tf.reduce_min(size) > 0) & (pixels <= MOST_PIXELS),
        [f"Expected images of 1 to {MOST_PIXELS} pixels. Received a height and width of", size],
    )


def _few(number: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a request of no images or too many."""
    return tf.debugging.Assert(
        (number > 0) & (number <= MOST_IMAGES), [f"Expected 1 to {MOST_IMAGES} images in a request. Received", number]
    )


def _compared(
    name: DetectorFormat,
    path: Path,
    detector: Detector,
    pairs: list[tuple[np.ndarray, FoundBoxes]],
    least: float,
) -> DetectorArtifact:
    """Returns the artifact, by the name of its file, with its agreement with the detections in `pairs`.

    Raises:
        DetectionDisagreement: Fewer detections are equal than have to be.
        ValueError: A LiteRT file has operators that are not builtin.
    """
    if name != "saved_model" and (custom := [each for each in operators(path) if each.startswith(("custom", "FLEX"))]):
        raise ValueError(f"Expected a LiteRT file of builtin operators. Received: {name}, with {', '.join(custom)}")
    found_in = _saved_model_detector(path) if name == "saved_model" else litert_detector(path, detector)
    total = sum((agreement_of(expected, found_in(pixels)) for pixels, expected in pairs), Agreement())
    if total.fraction < least:
        raise DetectionDisagreement(
            f"Expected {name} to have at least {least:.2%} of the model's detections in {len(pairs)} images, and no "
            "others (`agreement`); leave it out by `formats`, or compare on images with more objects. Received: "
            f"{total.fraction:.2%}"
        )
    size = sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())
    return DetectorArtifact(
        name,
        path.name,
        size,
        len(pairs),
        total.expected,
        total.fraction,
        total.box_difference,
        total.score_difference,
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
