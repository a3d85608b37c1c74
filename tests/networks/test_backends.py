"""Networks saved by TensorFlow compute the same on Keras's other backends, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build

NEEDS = {"openvino": ("openvino", "scipy"), "jax": ("jax",), "torch": ("torch",)}

BOTTLENECK = {"stem": "imagenet", "block": "bottleneck", "repeats": (1, 2), "widths": (8, 16)}
CIFAR = {"stem": "cifar", "block": "basic", "repeats": (2, 1, 1), "widths": (8, 16, 32), "shortcut": "A"}
# A network's name or how it differs from the bottleneck, and the builder's other arguments.
NETWORKS: dict[str, tuple[str | dict[str, Any], dict[str, Any]]] = {
    "cifar_a": (CIFAR, {"input_shape": (32, 32, 3)}),
    "cifar_both_sides": (CIFAR, {"input_shape": (32, 32, 3), "zero_channels": "both_sides"}),
    "cifar_b": (CIFAR, {"input_shape": (32, 32, 3), "shortcut": "B"}),
    "cifar_free": (CIFAR, {"input_shape": (None, None, 3)}),
    "bottleneck": ({}, {"input_shape": (32, 32, 3), "classes": 10}),
    "bottleneck_c": ({}, {"input_shape": (32, 32, 3), "shortcut": "C", "bottleneck_stride": "3x3"}),
    "grouped": ({"groups": 4, "se_reduction": 2}, {"input_shape": (32, 32, 3)}),
    "before": ({"activation": "before", "projection": "bare"}, {"input_shape": (32, 32, 3)}),
    "deep_stem": ({"stem": "deep", "projection": "pooled"}, {"input_shape": (32, 32, 3)}),
    "resnet8": ("resnet8", {}),
}

CHILD = """
import functools
import json
import sys
from pathlib import Path
import keras
import numpy as np
from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.networks.architecture import Architecture

folder, backend, networks = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
assert keras.backend.backend() == backend
images = np.load(folder / "images.npy")

BOTTLENECK = json.loads(sys.argv[4])

def write_logits(precision):
    for name, (network, arguments) in networks.items():
        network = network if isinstance(network, str) else Architecture(**BOTTLENECK).replace(**network)
        weights = folder / f"{name}.weights.h5"
        model = build_with_weights(network, weights=weights, classifier_activation=None, **arguments)
        np.save(folder / f"{name}_{backend}_{precision}.npy", np.asarray(model.predict_on_batch(images)))

write_logits("default")
if backend == "openvino":
    import openvino
    # On a processor that has bfloat16, OpenVINO computes in it by default, and Keras does not change that.
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    openvino.compile_model = functools.partial(openvino.compile_model, config=hint)
write_logits("float32")
assert "tensorflow" not in sys.modules
"""


def images() -> np.ndarray:
    return np.random.default_rng(6).normal(size=(4, 32, 32, 3)).astype("float32")


def lacking(backend: str) -> list[str]:
    return [module for module in NEEDS[backend] if importlib.util.find_spec(module) is None]


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of every network, the images, and the logits that TensorFlow computes of them."""
    folder = tmp_path_factory.mktemp("backends")
    np.save(folder / "images.npy", images())
    rng = np.random.default_rng(10)
    keras.utils.set_random_seed(11)
    for name, (network, arguments) in NETWORKS.items():
        own = network if isinstance(network, str) else Architecture(**BOTTLENECK).replace(**network)
        model = build(own, classifier_activation=None, **arguments)
        for layer in model.layers:
            # As after training: the moving statistics of a new layer would make it the identity.
            if isinstance(layer, keras.layers.BatchNormalization):
                size = layer.gamma.shape
                layer.set_weights(
                    [
                        rng.uniform(0.2, 0.6, size),
                        rng.normal(scale=0.1, size=size),
                        rng.normal(scale=0.1, size=size),
                        rng.uniform(0.5, 1.5, size),
                    ]
                )
        model.save_weights(folder / f"{name}.weights.h5")
        np.save(folder / f"{name}.npy", model.predict_on_batch(images()))
    return folder


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name == "openvino")) for name in NEEDS]
)
def elsewhere(request: pytest.FixtureRequest, on_tensorflow: Path) -> tuple[str, Path]:
    """The name of a backend, and the folder with the logits that it computes of all networks, in one process."""
    backend = request.param
    if backend == "openvino":
        request.getfixturevalue("recent_keras")
    if lacking(backend):
        pytest.skip(f"Keras's {backend} backend needs {' and '.join(lacking(backend))}, which is not installed")
    environment = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", CHILD, str(on_tensorflow), backend, json.dumps(NETWORKS), json.dumps(BOTTLENECK)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return backend, on_tensorflow


@pytest.mark.parametrize("network", NETWORKS)
def test_logits_in_float32_are_those_of_tensorflow(elsewhere: tuple[str, Path], network: str) -> None:
    backend, folder = elsewhere
    expected, received = np.load(folder / f"{network}.npy"), np.load(folder / f"{network}_{backend}_float32.npy")
    assert 0.1 < np.abs(expected).max() < 100
    assert np.ptp(expected, axis=0).max() > 0.01
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_logits_in_the_precision_of_the_backend_are_near_those_of_tensorflow(
    elsewhere: tuple[str, Path], network: str
) -> None:
    backend, folder = elsewhere
    expected, received = np.load(folder / f"{network}.npy"), np.load(folder / f"{network}_{backend}_default.npy")
    assert np.abs(received - expected).max() < 0.05 * np.abs(expected).max()
