"""Serves an export over HTTP in Python, for trials: `python plain_server.py ../../saved_models/digits_resnet20/1`.

    curl --data-binary @7.png http://127.0.0.1:8000

It needs only TensorFlow, and answers a POST of one image file with its classes as JSON. For more than a trial, use
TensorFlow Serving.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import tensorflow as tf

MOST_BYTES, SECONDS = 2**25, 30


class Handler(BaseHTTPRequestHandler):
    """Answers requests with the model that `serve` has loaded."""

    timeout = SECONDS
    model = None

    def do_POST(self) -> None:
        """Classifies the image in the request."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or not 0 < int(length) <= MOST_BYTES:
            self.answer(413, {"error": f"Expected an image of 1 to {MOST_BYTES:,} bytes. Received: {length or 'none'}"})
            return
        try:
            found = self.model.signatures["serve_bytes"](image_bytes=tf.constant([self.rfile.read(int(length))]))
        except tf.errors.InvalidArgumentError as error:
            reason = error.message.rpartition("assertion failed: ")[2]  # the graph's own words, if it has some
            self.answer(400, {"error": reason.partition("\n")[0]})
            return
        names, probabilities = (found[name][0].numpy().tolist() for name in ("names", "probabilities"))
        self.answer(200, {name.decode(): value for name, value in zip(names, probabilities, strict=True)})

    def answer(self, status: int, content: dict[str, object]) -> None:
        """Sends a status and JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(folder: Path, port: int = 8000) -> ThreadingHTTPServer:
    """Returns a server of the SavedModel in a folder, on this machine only; `serve_forever` runs it."""
    handler = type("Handler", (Handler,), {"model": tf.saved_model.load(str(folder))})
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "saved_model.pb").is_file():
        raise SystemExit(f"Expected the folder of a version of an export. Received: {' '.join(sys.argv[1:]) or 'none'}")
    serve(Path(sys.argv[1])).serve_forever()
