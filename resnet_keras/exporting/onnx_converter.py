"""Converts a SavedModel to ONNX; a program of its own.

`tf2onnx` prints and keeps its memory, so it runs in a child process, which imports nothing of this package. Each line
of its input is a job in JSON: the SavedModel, the file to write, the opset, and the name and the metadata of the
network. It prints a line of JSON for each file: the seconds that it took.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import time
from typing import Any

for _name in ("keras", "tf_keras"):
    sys.modules[_name] = None  # type: ignore[assignment]  # TensorFlow would import Keras, which takes a third longer

import onnx  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf2onnx  # noqa: E402
from tf2onnx.optimizer.optimizer_base import GraphOptimizerBase  # noqa: E402


def convert(job: dict[str, Any]) -> onnx.ModelProto:
    """Returns the model of the SavedModel's signature."""
    loaded = tf.saved_model.load(job["saved_model"])
    signature = loaded.signatures["serving_default"]
    (images,) = signature.structured_input_signature[1].values()
    serve = tf.function(lambda images: signature(images=images), input_signature=[images], autograph=False)
    model, _ = tf2onnx.convert.from_function(serve, input_signature=[images], opset=job["opset"])
    # tf2onnx adds the domain of classical models, which networks do not use.
    used = {node.domain for node in model.graph.node}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    model.graph.name, model.doc_string = job["name"], ""
    onnx.helper.set_model_props(model, job["metadata"])
    onnx.checker.check_model(model)
    return model


def collect_after_optimizers() -> None:
    """Frees the graphs that tf2onnx copies for each of its optimizers.

    They are in cycles of references, which Python collects by their number and not by their bytes: ResNet-50 took
    8.3 GB instead of 3.2 GB.
    """
    optimize = GraphOptimizerBase.optimize

    @functools.wraps(optimize)
    def collected(self: Any, *arguments: Any) -> Any:
        graph = optimize(self, *arguments)
        gc.collect()
        return graph

    GraphOptimizerBase.optimize = collected


def main() -> None:
    """Writes the file of each job."""
    # Libraries print to the standard output, too, where only answers may be.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    collect_after_optimizers()
    gc.freeze()  # a collection does not look at the libraries
    for line in sys.stdin:
        job, start = json.loads(line), time.monotonic()
        onnx.save(convert(job), job["path"])
        print(json.dumps({"seconds": time.monotonic() - start}), file=answers, flush=True)


if __name__ == "__main__":
    main()
