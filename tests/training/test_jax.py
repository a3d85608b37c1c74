"""Training on Keras's JAX backend, in processes of their own: on one device, on two, and what it cannot do."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import logging, sys
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.trainer import train
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
ARCHITECTURES["little"] = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")
recipe = RECIPES["digits"].replace(model="little", epochs=3, batch_size=64, warmup_steps=4, flip=True)
result = train(recipe.replace(ema=float(sys.argv[2])), sys.argv[1])
assert result.images == 359
assert result.top1_error < 0.85, result
"""


def trained(folder: Path, devices: int, ema: float = 0.0) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-c", CHILD, str(folder), str(ema)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_recipe_trains_on_jax(tmp_path: Path, devices: int) -> None:
    done = trained(tmp_path, devices)
    assert done.returncode == 0, done.stderr
    assert ("no validation before the end" in done.stdout) == (devices == 2)  # of 359 images


def test_what_needs_tensorflow_raises(tmp_path: Path) -> None:
    done = trained(tmp_path, 1, ema=0.9)
    assert "ValueError: Expected KERAS_BACKEND=tensorflow for ema. Received: jax" in done.stderr
