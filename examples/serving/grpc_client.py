"""Classifies image files on TensorFlow Serving, over gRPC: `python grpc_client.py digits_resnet20 seven.png three.jpg`.

It needs `pip install tensorflow-serving-api`. Images are sent as bytes; Base64 would add a third.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

SECONDS = 60


def request_body(model: str, images: Sequence[bytes]) -> predict_pb2.PredictRequest:
    """Returns a predict request for image files."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serve_bytes"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(images, tf.string))
    return request


def answers(response: predict_pb2.PredictResponse) -> list[list[tuple[str, float]]]:
    """Returns the names and probabilities of each image's most probable classes."""
    names, probabilities = (tf.make_ndarray(response.outputs[name]) for name in ("names", "probabilities"))
    return [
        [(name.decode(), float(value)) for name, value in zip(*row, strict=True)]
        for row in zip(names, probabilities, strict=True)
    ]


def classify(server: str, model: str, images: Sequence[bytes]) -> list[list[tuple[str, float]]]:
    """Classifies images in one request.

    Raises:
        ConnectionError: There is no such server.
        ValueError: The server refused the request: no such model, or an image that it cannot read.
    """
    with grpc.insecure_channel(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            return answers(stub.Predict(request_body(model, images), timeout=SECONDS))
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ConnectionError(
                    f"Expected TensorFlow Serving's gRPC at {server}. Received: {error.details()}"
                ) from error
            raise ValueError(f"{server} answered {error.code().name}: {error.details()}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the classes of each image; returns 1 if the server is missing or refuses, 2 if a file cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name of the model on the server, such as digits_resnet20")
    parser.add_argument("images", nargs="+", type=Path, metavar="image", help="JPEG or PNG file")
    parser.add_argument("--server", default="127.0.0.1:8500", help="its gRPC address (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        images = [path.read_bytes() for path in arguments.images]
    except OSError as error:
        parser.error(f"Expected image files. Received: {error.filename} ({error.strerror})")
    try:
        found = classify(arguments.server, arguments.model, images)
    except (ConnectionError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for path, classes in zip(arguments.images, found, strict=True):
        print(f"{path}: " + ", ".join(f"{name} {probability:.2%}" for name, probability in classes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
