"""Warm-up requests, which TensorFlow Serving sends to a new version before it serves any other request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_keras.checks import extras
from resnet_keras.data.preprocessing import Preprocessing

with extras.required("export", "warm-up requests"):
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

WARM_UP = "assets.extra/tf_serving_warmup_requests"


def write_warmup_requests(folder: Path, name: str, preprocessing: Preprocessing, pixels: str) -> None:
    """Writes a request for each signature of a SavedModel: a gray image, as pixels or as a file.

    Args:
        folder: Folder of the SavedModel.
        name: Name of the model in TensorFlow Serving.
        preprocessing: Preprocessing of the classifier.
        pixels: Type of `images`, "uint8" or "float32".
    """
    gray = np.full((*preprocessing.image_size, preprocessing.channels), 128, np.uint8)
    images = {"images": tf.make_tensor_proto(gray[None].astype(pixels))}
    file = {"image_bytes": tf.make_tensor_proto([tf.io.encode_jpeg(gray).numpy()], tf.string)}
    inputs = {"serving_default": images, "serve_bytes": file, "features": images}
    (folder / WARM_UP).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARM_UP)) as writer:
        for signature, given in inputs.items():
            request = predict_pb2.PredictRequest(inputs=given)
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
