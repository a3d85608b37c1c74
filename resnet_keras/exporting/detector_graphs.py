"""The SavedModels of detectors: one to serve, and one that LiteRT files are made from."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from resnet_keras.data.image_limits import few_scans, header_size
from resnet_keras.data.image_ops import decode_jpeg_or_png, normalize
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.detector import Detector
from resnet_keras.detection.pooling import portable_operations
from resnet_keras.exporting.constant_weights import with_constant_weights
from resnet_keras.exporting.dense_formats import bounded, expected_files, few


def write_saved_model(detector: Detector, folder: Path) -> None:
    """Writes a SavedModel of images of any size and of files, with boxes in their pixels; see `export_detector`."""
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
        with tf.control_dependencies([bounded(full), few(tf.shape(images)[0])]):
            on_canvases, sizes = tf.map_fn(placed, tf.identity(images), fn_output_signature=placed_spec)
        return detect(on_canvases, sizes, tf.tile(full[None], [tf.shape(images)[0], 1]))

    def placed_file(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.control_dependencies([bounded(header_size(file)), few_scans(file)]):
            image = decode_jpeg_or_png(tf.identity(file), channels)
        return *placed(image), tf.shape(image)[:2]

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")], autograph=False)
    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        signature = (*placed_spec, tf.TensorSpec((2,), tf.int32))
        given = expected_files(image_bytes)
        return detect(*tf.map_fn(placed_file, given, parallel_iterations=1, fn_output_signature=signature))

    module = tf.Module()
    module.class_names = tf.Variable(detector.class_names, trainable=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve, "serve_bytes": serve_bytes})


def write_litert_graph(detector: Detector, network: keras.Model, folder: Path) -> None:
    """Writes a SavedModel of one image on the canvas, whose operations LiteRT has."""
    preprocessing = detector.preprocessing
    height, width = preprocessing.image_size
    compute = with_constant_weights(network)
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
