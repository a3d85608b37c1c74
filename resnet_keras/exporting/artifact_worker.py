"""Runs one artifact, of this package or of any other, without this package; a program of its own.

Arguments: the kind and the path of the artifact, and the number of threads. Each line of its input is a command in
JSON, and each line that it prints is the answer, so that several artifacts can be measured in turns. The artifact's
library is imported at once; the artifact is opened at the first command.

| command | answer |
|---|---|
| `{"command": "describe"}` | inputs, operators, those that XNNPACK does not run, forbidden modules that were imported |
| `{"command": "run", "images": FILE, "outputs": FILE, "batch": N, "signature": NAME or null}` | `{}`, once the outputs are in the .npz file |
| `{"command": "time", "batch": N, "calls": N}` | the milliseconds of each call, on images of noise |
"""  # noqa: E501

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

FORBIDDEN_MODULES = ("keras", "resnet_keras", "tf_keras")
"""Modules that an artifact must not need."""

_ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(uint8)": "uint8",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
}
_FREE_SIDE = 224  # height and width of the noise for an artifact that takes images of any size


class SavedModel:
    """A SavedModel, run by one of its signatures."""

    def __init__(self, path: str | Path, *, threads: int, signature: str = "serving_default") -> None:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self._path, self._signature = path, signature
        self._constant = tf.constant
        self._loaded = tf.saved_model.load(str(path))
        specs = self._function(signature).structured_input_signature[1]
        self.inputs = {name: {"type": spec.dtype.name, "shape": list(spec.shape)} for name, spec in specs.items()}
        self.undelegated: list[str] = []

    def operators(self) -> dict[str, int]:
        """Returns the number of each operator in the graph and in the functions that it calls."""
        definition = self._function(self._signature).graph.as_graph_def()
        nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
        return dict(Counter(node.op for node in nodes))

    def __call__(self, images: np.ndarray, signature: str | None = None) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch, from `signature` if it is given."""
        given = {name: self._constant(images.astype(info["type"])) for name, info in self.inputs.items()}
        outputs = self._function(signature or self._signature)(**given)
        return {name: value.numpy() for name, value in outputs.items()}

    def _function(self, signature: str) -> Any:
        if signature not in self._loaded.signatures:
            known = ", ".join(self._loaded.signatures)
            raise ValueError(
                f"Expected a SavedModel with the signature {signature} (it has {known}). Received: {self._path}"
            )
        return self._loaded.signatures[signature]


class LiteRTModel:
    """A `.tflite` file of one input."""

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            named = ", ".join(each["name"] for each in inputs)
            raise ValueError(f"Expected a .tflite file of one input, images. Received: {path} with {named or 'none'}")
        (self._input,) = inputs
        self._outputs = self._interpreter.get_output_details()
        shape = [None if side < 0 else int(side) for side in self._input["shape_signature"]]
        self.inputs = {self._input["name"]: {"type": self.input_type, "shape": shape}}
        self.undelegated = self._undelegated()

    @property
    def input_type(self) -> str:
        """Type of the pixels (0–255)."""
        return np.dtype(self._input["dtype"]).name

    def operators(self) -> dict[str, int]:
        """Returns the number of each operator in the graph."""
        names = [op["op_name"] for op in self._interpreter._get_ops_details()]
        return dict(Counter(name for name in names if name != "DELEGATE"))

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch, dequantized: pixels 0–255 (N, H, W, C) -> (N, ...) each."""
        interpreter, index = self._interpreter, self._input["index"]
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(index, images.shape, strict=True)
            interpreter.allocate_tensors()
        interpreter.set_tensor(index, _quantized(images, self._input))
        interpreter.invoke()
        found = {output["name"]: (interpreter.get_tensor(output["index"]), output) for output in self._outputs}
        return {name: _real(values, tensor) for name, (values, tensor) in found.items()}

    def _undelegated(self) -> list[str]:
        """Returns the operators that run in the interpreter itself and not in XNNPACK."""
        operators = self._interpreter._get_ops_details()
        maker = {tensor: op for op in operators if op["op_name"] != "DELEGATE" for tensor in op["outputs"]}
        taken: set[int] = set()
        for delegate in (op for op in operators if op["op_name"] == "DELEGATE"):
            # A delegate runs the operators between its inputs and its outputs.
            given, wanted = set(delegate["inputs"]), list(delegate["outputs"])
            while wanted:
                tensor = wanted.pop()
                if tensor not in given and tensor in maker and maker[tensor]["index"] not in taken:
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
        """Returns the number of each operator in the compiled graph."""
        return dict(
            Counter(str(node.get_rt_info()["layerType"].value) for node in self._model.get_runtime_model().get_ops())
        )

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch."""
        given = {name: images.astype(info["type"]) for name, info in self.inputs.items()}
        return {str(number): np.asarray(value) for number, value in enumerate(self._model(given).values())}


class ONNXModel:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: str | Path, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        if other := [tensor.type for tensor in self._session.get_inputs() if tensor.type not in _ONNX_TYPES]:
            raise ValueError(f"Expected an .onnx file of {', '.join(_ONNX_TYPES)}. Received: {path} of {other[0]}")
        self.inputs: dict[str, dict[str, Any]] = {
            tensor.name: {
                "type": _ONNX_TYPES[tensor.type],
                "shape": [side if isinstance(side, int) else None for side in tensor.shape],
            }
            for tensor in self._session.get_inputs()
        }
        self.undelegated: list[str] = []

    def operators(self) -> dict[str, int]:
        """Returns nothing, because the runtime does not list them."""
        return {}

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch."""
        given = {name: images.astype(info["type"]) for name, info in self.inputs.items()}
        names = [tensor.name for tensor in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, given), strict=True))


_KINDS: dict[str, tuple[Any, str, str | None]] = {
    "saved_model": (SavedModel, "tensorflow", "signature"),
    "litert": (LiteRTModel, "ai_edge_litert.interpreter", None),
    "openvino": (OpenVINOModel, "openvino", "precision"),
    "onnx": (ONNXModel, "onnxruntime", None),
}
"""Class of each kind, the module that it imports, and the argument that stands after a colon."""


def open_artifact(kind: str, path: str, threads: int) -> Any:
    """Returns the artifact. `kind` is a key of `_KINDS` and, after a colon, its signature or precision."""
    name, _, value = kind.partition(":")
    opened, _, argument = _KINDS[name]
    return opened(path, threads=threads, **({argument: value} if argument and value else {}))


def noise_images(inputs: dict[str, dict[str, Any]], batch: int) -> np.ndarray:
    """Returns images of noise, 0–255, in the shape and type of the first input."""
    (info, *_) = inputs.values()
    sides = [_FREE_SIDE if side is None else side for side in info["shape"][1:]]
    return np.random.default_rng(0).integers(0, 256, (batch, *sides)).astype(info["type"])


def respond(model: Any, message: dict[str, Any]) -> Any:
    """Returns the answer to a command."""
    if message["command"] == "describe":
        return {
            "inputs": model.inputs,
            "operators": dict(sorted(model.operators().items())),
            "undelegated": model.undelegated,
            "forbidden_modules": [name for name in FORBIDDEN_MODULES if sys.modules.get(name) is not None],
        }
    if message["command"] == "run":
        images, batch = np.load(message["images"], allow_pickle=False), message["batch"]
        options = {"signature": message["signature"]} if message.get("signature") else {}
        parts = [model(images[first : first + batch], **options) for first in range(0, len(images), batch)]
        outputs: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        np.savez(message["outputs"], **outputs)
        return {}
    images, times = noise_images(model.inputs, message["batch"]), []
    for _ in range(message["calls"]):
        start = time.perf_counter()
        model(images)
        times.append(1000 * (time.perf_counter() - start))
    return times


def _quantized(images: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    scale, zero = tensor["quantization"]
    if np.dtype(tensor["dtype"]).kind != "i" or not scale:
        return images.astype(tensor["dtype"])  # floats; and pixels in uint8, whose scale is 1
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(images / scale + zero), limits.min, limits.max).astype(tensor["dtype"])


def _real(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    scale, zero = tensor["quantization"]
    return values if values.dtype.kind == "f" or not scale else ((values.astype(np.float32) - zero) * scale)


def main(arguments: list[str]) -> None:
    """Answers commands until there are no more."""
    kind, path, threads = arguments
    # Libraries print to the standard output, too, where only answers may be.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for name in FORBIDDEN_MODULES if kind.startswith("saved_model") else ():
        sys.modules[name] = None  # type: ignore[assignment]  # TensorFlow would import Keras if it found it
    importlib.import_module(_KINDS[kind.partition(":")[0]][1])
    model = None
    for line in sys.stdin:
        model = model or open_artifact(kind, path, int(threads))
        print(json.dumps(respond(model, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
