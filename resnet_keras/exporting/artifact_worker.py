"""Runs one artifact, ours or anybody's, as a stranger would: without this package; a program of its own.

Arguments: the artifact's kind and place, and the number of threads. Each line of its input is a command in JSON, and
each line that it prints the answer, so that several artifacts can be measured in turns.

| command | answer |
|---|---|
| `{"do": "about"}` | inputs, operators, what XNNPACK does not do, whether Keras or this package was needed |
| `{"do": "answer", "images": FILE, "to": FILE, "batch": N}` | `{}`, once the outputs are in the .npz file |
| `{"do": "time", "batch": N, "calls": N}` | the milliseconds of each call, on images of noise |
| `{"do": "memory"}` | the most bytes that the process has held |
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

STRANGERS = ("keras", "resnet_keras", "tf_keras")
"""What an artifact must not need."""

_ANY_SIDE = 224  # where an artifact takes images of any size


class SavedModel:
    """A SavedModel's signature."""

    def __init__(self, path: str | Path, *, threads: int, signature: str = "serving_default") -> None:
        for stranger in STRANGERS:
            # TensorFlow loads Keras where it finds it; here it finds none.
            sys.modules[stranger] = None  # type: ignore[assignment]
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self._constant = tf.constant
        self._loaded = tf.saved_model.load(str(path))
        if signature not in self._loaded.signatures:
            known = ", ".join(self._loaded.signatures)
            raise ValueError(f"Expected a SavedModel with the signature {signature} (it has {known}). Received: {path}")
        self._serve = self._loaded.signatures[signature]
        specs = self._serve.structured_input_signature[1]
        self.inputs = {name: {"type": spec.dtype.name, "shape": list(spec.shape)} for name, spec in specs.items()}
        self.undelegated: list[str] = []

    def operators(self) -> dict[str, int]:
        """Returns how often each operator stands in the graph and in the functions that it calls."""
        definition = self._serve.graph.as_graph_def()
        nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
        return dict(Counter(node.op for node in nodes))

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch."""
        given = {name: self._constant(images.astype(about["type"])) for name, about in self.inputs.items()}
        return {name: value.numpy() for name, value in self._serve(**given).items()}


class LiteRTModel:
    """A `.tflite` file of one input."""

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        shape = [None if side < 0 else int(side) for side in self._input["shape_signature"]]
        self.inputs = {self._input["name"]: {"type": self.input_type, "shape": shape}}
        self.undelegated = self._undelegated()

    @property
    def input_type(self) -> str:
        """What the pixels (0–255) are given as."""
        return np.dtype(self._input["dtype"]).name

    def operators(self) -> dict[str, int]:
        """Returns how often each operator stands in the graph."""
        names = [op["op_name"] for op in self._interpreter._get_ops_details()]
        return dict(Counter(name for name in names if name != "DELEGATE"))

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch, as real numbers: pixels 0–255 (N, H, W, C) -> (N, ...) each."""
        interpreter, place = self._interpreter, self._input["index"]
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(place, images.shape, strict=True)
            interpreter.allocate_tensors()
        interpreter.set_tensor(place, _quantized(images, self._input))
        interpreter.invoke()
        found = {output["name"]: (interpreter.get_tensor(output["index"]), output) for output in self._outputs}
        return {name: _real(values, about) for name, (values, about) in found.items()}

    def _undelegated(self) -> list[str]:
        """Returns the operators that are left to the interpreter, where others run in XNNPACK."""
        operators = self._interpreter._get_ops_details()
        maker = {tensor: op for op in operators if op["op_name"] != "DELEGATE" for tensor in op["outputs"]}
        taken: set[int] = set()
        for delegate in (op for op in operators if op["op_name"] == "DELEGATE"):
            # What lies between a delegate's inputs and its outputs is what it does.
            come, wanted = set(delegate["inputs"]), list(delegate["outputs"])
            while wanted:
                tensor = wanted.pop()
                if tensor not in come and tensor in maker and maker[tensor]["index"] not in taken:
                    taken.add(maker[tensor]["index"])
                    wanted.extend(maker[tensor]["inputs"])
        return sorted(op["op_name"] for op in operators if op["op_name"] != "DELEGATE" and op["index"] not in taken)


class OpenVINOModel:
    """A SavedModel or an ONNX file in OpenVINO, in `precision` f32 or bf16."""

    def __init__(self, path: str | Path, *, threads: int, precision: str = "f32") -> None:
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._model = core.compile_model(openvino.convert_model(str(path)), "CPU", settings)
        self.inputs = {
            port.any_name: {
                "type": port.element_type.to_dtype().name,
                "shape": [None if side.is_dynamic else side.get_length() for side in port.partial_shape],
            }
            for port in self._model.inputs
        }
        self.undelegated: list[str] = []

    def operators(self) -> dict[str, int]:
        """Returns how often each operator stands in the compiled graph."""
        return dict(
            Counter(str(node.get_rt_info()["layerType"].value) for node in self._model.get_runtime_model().get_ops())
        )

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch."""
        given = {name: images.astype(about["type"]) for name, about in self.inputs.items()}
        return {str(number): np.asarray(value) for number, value in enumerate(self._model(given).values())}


class ONNXModel:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: str | Path, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        types = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
        self.inputs: dict[str, dict[str, Any]] = {
            about.name: {
                "type": types[about.type],
                "shape": [side if isinstance(side, int) else None for side in about.shape],
            }
            for about in self._session.get_inputs()
        }
        self.undelegated: list[str] = []

    def operators(self) -> dict[str, int]:
        """Returns nothing: the runtime does not tell."""
        return {}

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch."""
        given = {name: images.astype(about["type"]) for name, about in self.inputs.items()}
        names = [about.name for about in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, given), strict=True))


def open_artifact(kind: str, path: str, threads: int) -> Any:
    """Returns the artifact; `kind` is a class's name, and after a colon what tells its signature or precision."""
    name, _, which = kind.partition(":")
    classes: dict[str, Any] = {
        "saved_model": SavedModel,
        "litert": LiteRTModel,
        "openvino": OpenVINOModel,
        "onnx": ONNXModel,
    }
    options = {{"saved_model": "signature", "openvino": "precision"}[name]: which} if which else {}
    return classes[name](path, threads=threads, **options)


def noise_images(inputs: dict[str, dict[str, Any]], batch: int) -> np.ndarray:
    """Returns images of noise, 0–255, of the shape that the first input takes."""
    (about, *_) = inputs.values()
    sides = [_ANY_SIDE if side is None else side for side in about["shape"][1:]]
    return np.random.default_rng(0).integers(0, 256, (batch, *sides)).astype(about["type"])


def respond(model: Any, order: dict[str, Any]) -> Any:
    """Returns what a command asks for."""
    if order["do"] == "about":
        return {
            "inputs": model.inputs,
            "operators": dict(sorted(model.operators().items())),
            "undelegated": model.undelegated,
            "strangers": [name for name in STRANGERS if sys.modules.get(name) is not None],
        }
    if order["do"] == "answer":
        images, batch = np.load(order["images"], allow_pickle=False), order["batch"]
        parts = [model(images[first : first + batch]) for first in range(0, len(images), batch)]
        outputs: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        np.savez(order["to"], **outputs)
        return {}
    if order["do"] == "time":
        images, times = noise_images(model.inputs, order["batch"]), []
        for _ in range(order["calls"]):
            start = time.perf_counter()
            model(images)
            times.append(1000 * (time.perf_counter() - start))
        return times
    return peak_memory()


def peak_memory() -> int:
    """Returns the most bytes that this process has held."""
    status = Path("/proc/self/status")
    if status.is_file():
        # `getrusage` would tell of the parent, too, as it was when it started this process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _quantized(images: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    scale, zero = about["quantization"]
    if np.dtype(about["dtype"]).kind != "i" or not scale:
        return images.astype(about["dtype"])  # floats; and pixels in uint8 stand for themselves
    limits = np.iinfo(about["dtype"])
    return np.clip(np.round(images / scale + zero), limits.min, limits.max).astype(about["dtype"])


def _real(values: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    scale, zero = about["quantization"]
    return values if values.dtype.kind == "f" or not scale else ((values.astype(np.float32) - zero) * scale)


def main(arguments: list[str]) -> None:
    """Answers commands until there are no more."""
    kind, path, threads = arguments
    # Libraries print as they please; the answers must stand alone.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    model = open_artifact(kind, path, int(threads))
    for line in sys.stdin:
        print(json.dumps(respond(model, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
