"""Export of segmentation networks to SavedModel and LiteRT, each verified by the masks of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from resnet_keras import files
from resnet_keras.checks.extras import required
from resnet_keras.data.image_limits import few_scans, header_size
from resnet_keras.data.image_ops import decode_jpeg_or_png, stretched
from resnet_keras.exporting.constant_weights import with_fixed_weights
from resnet_keras.exporting.dense_formats import (
    artifact_paths,
    bounded,
    check_agreement,
    check_formats,
    expect_builtin,
    expected_files,
    export_content,
    few,
    size_of,
)
from resnet_keras.exporting.litert import convert_to_litert
from resnet_keras.exporting.serving import absorb_normalization
from resnet_keras.exporting.unlabeled import spread_images
from resnet_keras.segmentation.full_size import largest_at
from resnet_keras.segmentation.measures import MaskConfusion, scores_of
from resnet_keras.segmentation.segmenter import Segmenter
from resnet_keras.surgery.folding import fold

MaskFormat = Literal["saved_model", "float32", "float16", "dynamic_range", "int8"]
AGREEMENT: dict[MaskFormat, float] = {
    "saved_model": 0.999,
    "float32": 0.999,
    "float16": 0.995,
    "dynamic_range": 0.95,
    "int8": 0.95,
}
"""Smallest fraction of the pixels whose class is that of the model, by format."""
MASK_FORMATS: tuple[MaskFormat, ...] = tuple(AGREEMENT)
MOST_COMPARED = 16
"""Most image files, or images of a run's data, to compare on."""


class MaskDisagreement(ValueError):
    """An artifact has other masks than the model; nothing is published."""


@dataclass(frozen=True)
class MaskArtifact:
    """A verified artifact of a segmentation network.

    Attributes:
        format: Format of the artifact.
        path: Its file or folder.
        size_bytes: Its size.
        images: Number of images that it was compared on.
        agreement: Fraction of the pixels whose class is that of the model, 0 to 1.
        mean_iou: Mean intersection over union of its masks and the model's.
    """

    format: MaskFormat
    path: str
    size_bytes: int
    images: int
    agreement: float
    mean_iou: float


def export_segmenter(
    segmenter: Segmenter,
    folder: str | Path,
    images: Any,
    *,
    formats: Sequence[str] | None = None,
    agreement: float | None = None,
) -> list[MaskArtifact]:
    """Writes a segmenter as SavedModel and LiteRT files, after comparing the masks of each with the model's.

    The SavedModel takes images of any size and returns masks of the same size: `serving_default` takes `images`
    (N, H, W, C) of uint8 and returns `masks` (N, H, W) of uint8; `serve_bytes` takes `image_bytes` (N,), JPEG or PNG
    files, and returns `masks` (N,), PNG files. The LiteRT files take one image of the network's size, float32 pixels
    0–255 ("int8": uint8), and return its mask at that size, int32; they have builtin operators only.

    Args:
        segmenter: Network, preprocessing and class names.
        folder: New folder of the artifacts; nothing is there unless all agree.
        images: Images to compare on, and for "int8" to calibrate with, at least one; see `Segmenter.predict`. Of more
            than `MOST_COMPARED` files, so many are taken, spread evenly.
        formats: Formats to write; all if `None`.
        agreement: Smallest fraction of equal pixels for all formats; those of `AGREEMENT` if `None`.

    Returns:
        An artifact for each format, also in `export.json`.

    Raises:
        ValueError: A format is unknown, there are more than 256 classes or no images, or an artifact does not agree
            (`MaskDisagreement`; the message names it and the fraction).
        resnet_keras.exporting.ArtifactError: The converter failed.
        MissingExtra: A package of the extra `export` is missing.
    """
    shown, _ = spread_images(images, MOST_COMPARED)
    with files.new_folder(folder) as aside:
        found = write_mask_artifacts(segmenter, aside, shown, formats=formats, agreement=agreement)
        content = export_content("segmentation", segmenter.class_names, segmenter.preprocessing, found)
        files.write_json(aside / "export.json", content)
    return [replace(each, path=str(Path(folder) / each.path)) for each in found]


def write_mask_artifacts(
    segmenter: Segmenter, aside: Path, images: Any, *, formats: Sequence[str] | None, agreement: float | None
) -> list[MaskArtifact]:
    """Writes a segmenter in some formats to a folder that is not published yet, and returns them by their names.

    Args:
        segmenter: See `export_segmenter`.
        aside: The folder.
        images: Images to compare on; all are in memory together.
        formats: See `export_segmenter`.
        agreement: See `export_segmenter`.
    """
    chosen = check_formats(formats, MASK_FORMATS)
    check_agreement(agreement)
    if len(segmenter.class_names) > 256:
        raise ValueError(f"Expected at most 256 classes, for masks of 8 bits. Received: {len(segmenter.class_names)}")
    pairs = list(segmenter.masks(images))
    if not pairs:
        raise ValueError("Expected images to compare the artifacts on. Received: none")
    network = _serving_network(segmenter)
    paths, lite = artifact_paths(aside, chosen)
    resized = np.stack([stretched(pixels, segmenter.preprocessing).numpy() for pixels, _ in pairs])
    if "saved_model" in paths:
        _write_saved_model(segmenter, network, paths["saved_model"])
    if lite:
        with required("export", "LiteRT"):
            convert_to_litert(_mask_network(network), np.rint(resized).astype(np.uint8), lite, batch=1)
    resized_pairs = list(zip(resized, segmenter.predict(list(resized)), strict=True)) if lite else []
    return [
        _compared(
            name,
            path,
            segmenter.class_names,
            pairs if name == "saved_model" else resized_pairs,
            AGREEMENT[name] if agreement is None else agreement,
        )
        for name, path in paths.items()
    ]


def _serving_network(segmenter: Segmenter) -> keras.Model:
    """Returns a network of float32 RGB pixels 0–255 (N, *image_size, C) to scores, for inference."""
    preprocessing, model = segmenter.preprocessing, segmenter.model
    network = fold(keras.Model(model.input, scores_of(model.output), name=model.name))
    pixels = keras.Input((*preprocessing.image_size, preprocessing.channels), dtype="float32", name="images")
    network, normalized = absorb_normalization(network, preprocessing, pixels)
    return keras.Model(pixels, network(normalized), name=model.name)


def _mask_network(network: keras.Model) -> keras.Model:
    """Returns a network of float32 pixels to the index of the largest score, int32 (N, H, W)."""
    pixels = keras.Input(network.input_shape[1:], dtype="float32", name="images")
    # `keras.ops.argmax` treats zeros by their sign, with operations that LiteRT does not have.
    largest = keras.layers.Lambda(
        lambda scores: tf.argmax(scores, -1, tf.int32), output_shape=network.input_shape[1:3], name="masks"
    )
    return keras.Model(pixels, largest(network(pixels)), name=network.name)


def _write_saved_model(segmenter: Segmenter, network: keras.Model, folder: Path) -> None:
    preprocessing, module = segmenter.preprocessing, tf.Module()
    compute, module.weights = with_fixed_weights(network)
    spec = tf.TensorSpec((None, None, None, preprocessing.channels), tf.uint8, name="images")

    @tf.function(input_signature=[tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)], autograph=False)
    def scores(pixels: tf.Tensor) -> tf.Tensor:
        return compute(pixels)

    def mask_of(image: tf.Tensor) -> tf.Tensor:
        found = scores(stretched(image[None], preprocessing))[0]
        return largest_at(tf.ensure_shape(found, (None, None, len(segmenter.class_names))), tf.shape(image)[:2])

    @tf.function(input_signature=[spec], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([bounded(tf.shape(images)[1:3]), few(tf.shape(images)[0])]):
            given = tf.identity(images)
        mask = tf.TensorSpec((None, None), tf.uint8)
        return {"masks": tf.map_fn(mask_of, given, parallel_iterations=1, fn_output_signature=mask)}

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def serve_file(file: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([bounded(header_size(file)), few_scans(file)]):
            image = decode_jpeg_or_png(tf.identity(file), preprocessing.channels)
        return tf.io.encode_png(mask_of(image)[..., None])

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")], autograph=False)
    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"masks": tf.map_fn(serve_file, expected_files(image_bytes), parallel_iterations=1)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve, "serve_bytes": serve_bytes})


def _compared(
    name: MaskFormat,
    path: Path,
    class_names: tuple[str, ...],
    pairs: list[tuple[np.ndarray, np.ndarray]],
    least: float,
) -> MaskArtifact:
    """Returns the artifact, by the name of its file, with its agreement with the masks of `pairs`.

    Raises:
        MaskDisagreement: Fewer pixels are equal than have to be.
        ValueError: A LiteRT file has operators that are not builtin.
    """
    confusion = MaskConfusion(class_names, ignored=-1)
    if name == "saved_model":
        run = tf.saved_model.load(str(path)).signatures["serving_default"]
        found = [run(tf.constant(np.rint(pixels)[None].astype(np.uint8)))["masks"].numpy()[0] for pixels, _ in pairs]
    else:
        expect_builtin(name, path)
        run_file = _interpreter(path)
        found = [run_file(pixels) for pixels, _ in pairs]
    for mask, (_, reference) in zip(found, pairs, strict=True):
        confusion.add(reference, mask)
    result = confusion.result()
    if result.pixel_accuracy < least:
        raise MaskDisagreement(
            f"Expected {name} to have at least {least:.2%} of the model's pixels on {len(pairs)} images (`agreement`); "
            f"leave it out by `formats`, or calibrate with other images. Received: {result.pixel_accuracy:.2%}"
        )
    return MaskArtifact(name, path.name, size_of(path), len(pairs), result.pixel_accuracy, result.mean_iou)


def _interpreter(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of a LiteRT file: pixels (H, W, C) to a mask (H, W)."""
    with required("export", "LiteRT"):
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], np.rint(pixels)[None].astype(taken["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])[0]

    return run
