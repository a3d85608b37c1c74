"""Classifies image files on TensorFlow Serving, over REST: `python rest_client.py digits_resnet20 seven.png three.jpg`.

It needs only the standard library.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

SECONDS = 60


def request_body(images: Sequence[bytes]) -> bytes:
    """Returns a predict request for image files, a row for each, as JSON."""
    rows = [{"image_bytes": {"b64": base64.b64encode(image).decode()}} for image in images]
    return json.dumps({"signature_name": "serve_bytes", "instances": rows}).encode()


def answers(response: bytes) -> list[list[tuple[str, float]]]:
    """Returns the names and probabilities of each image's most probable classes."""
    rows = json.loads(response)["predictions"]
    return [list(zip(row["names"], row["probabilities"], strict=True)) for row in rows]


def classify(server: str, model: str, images: Sequence[bytes]) -> list[list[tuple[str, float]]]:
    """Classifies images in one request.

    Raises:
        ConnectionError: There is no such server.
        ValueError: The server refused the request: no such model, or an image that it cannot read.
    """
    url = f"{server.rstrip('/')}/v1/models/{urllib.parse.quote(model, safe='')}:predict"
    request = urllib.request.Request(url, request_body(images), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return answers(response.read())
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(f"{url} answered {error.code}: {_reason(error.read())}") from error
    except (urllib.error.URLError, TimeoutError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"Expected TensorFlow Serving's REST at {server}. Received: {reason}") from error


def _reason(response: bytes) -> str:
    try:
        return json.loads(response)["error"]
    except (ValueError, TypeError, KeyError):
        return response.decode(errors="replace")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the classes of each image; returns 1 if the server is missing or refuses, 2 if a file cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name of the model on the server, such as digits_resnet20")
    parser.add_argument("images", nargs="+", type=Path, metavar="image", help="JPEG or PNG file")
    parser.add_argument("--server", default="http://127.0.0.1:8501", help="its REST address (default: %(default)s)")
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
