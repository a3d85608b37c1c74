"""The two peers of `gpu.py`, each in a process of its own: `python gpu_peers.py ours|theirs SETTINGS`."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

Turns = dict[str, Callable[[], float]]
"""Ways to train a network, by name; each runs its steps and returns the seconds."""


@dataclass(frozen=True)
class Settings:
    """Settings of both peers.

    Attributes:
        batch: Images per step.
        steps: Steps per turn.
        image_size: Height and width in pixels.
        precision: Keras's precision policy; under mixed_bfloat16 PyTorch uses autocast.
        compiled: Whether PyTorch compiles; ours always does.
    """

    batch: int
    steps: int
    image_size: int
    precision: str
    compiled: bool


def keras_turns(model: Any, batch: int, side: int, steps: int) -> Turns:
    """Returns the ways to train a Keras model with logits as output, on the JAX backend."""
    import jax
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.001, momentum=0.9)
    optimizer.build(model.trainable_variables)
    images = jax.random.normal(jax.random.key(0), (batch, side, side, 3))
    labels = jax.random.randint(jax.random.key(1), (batch,), 0, model.output_shape[-1])

    def step(state: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        trainable, moving, slots = state

        def loss_of(trainable: Any) -> tuple[Any, Any]:
            logits, after = model.stateless_call(trainable, moving, images, training=True)
            return loss(labels, logits), after

        (value, moving), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, moving, slots), value

    compiled = jax.jit(step, donate_argnums=0)
    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    # Copies, because donated arrays are deleted and `fit` needs those of the model.
    state = [[jax.numpy.copy(variable.value) for variable in group] for group in groups]

    def loop() -> float:
        nonlocal state
        begun = time.perf_counter()
        for _ in range(steps):
            state, value = compiled(state, images, labels)
        jax.block_until_ready(state)
        seconds = time.perf_counter() - begun
        _expect_finite(float(value))
        return seconds

    class Clock(keras.callbacks.Callback):
        # Of epochs only: after each batch, Keras would wait for the device before it calls a callback.
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds = time.perf_counter() - self.begun
            _expect_finite(logs["loss"])

    def batches() -> Iterator[tuple[Any, Any]]:
        while True:
            yield images, labels

    clock = Clock()
    model.compile(keras.optimizers.SGD(0.001, momentum=0.9), loss, jit_compile=True)

    def fit() -> float:
        model.fit(batches(), steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[clock])
        return clock.seconds

    return {"ours, jitted step": loop, "ours, model.fit": fit}


def torch_turns(model: Any, batch: int, side: int, steps: int, half: bool, compiled: bool) -> Turns:
    """Returns the way to train a PyTorch model with logits as output, on the first GPU if there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32, which is the default of JAX
    model = model.to(device, memory_format=torch.channels_last).train()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9, fused=device == "cuda")
    images = torch.randn((batch, 3, side, side), device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(model.fc.out_features, (batch,), device=device)

    def loop() -> float:
        _wait(torch)
        begun = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device, torch.bfloat16, enabled=half):
                value = torch.nn.functional.cross_entropy(forward(images), labels)
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        _wait(torch)
        seconds = time.perf_counter() - begun
        _expect_finite(value.item())
        return seconds

    return {"PyTorch": loop}


def _wait(torch: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _expect_finite(loss: float) -> None:
    if not abs(loss) < float("inf"):
        raise FloatingPointError(f"Expected a finite loss. Received: {loss}")


def torch_resnet(repeats: Sequence[int], width: int = 64, classes: int = 1000) -> Any:
    """Returns a bottleneck network with torchvision's names and the stride in the 3x3 convolution."""
    import torch
    from torch import nn

    def norm_conv(channels: int, to: int, kernel: int = 1, stride: int = 1) -> tuple[Any, Any]:
        conv = nn.Conv2d(channels, to, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return conv, nn.BatchNorm2d(to)

    class Bottleneck(nn.Module):
        def __init__(self, channels: int, width: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = norm_conv(channels, width)
            self.conv2, self.bn2 = norm_conv(width, width, 3, stride)
            self.conv3, self.bn3 = norm_conv(width, 4 * width)
            projects = stride > 1 or channels != 4 * width
            self.downsample = nn.Sequential(*norm_conv(channels, 4 * width, 1, stride)) if projects else None

        def forward(self, x: Any) -> Any:
            residual = torch.relu(self.bn1(self.conv1(x)))
            residual = torch.relu(self.bn2(self.conv2(residual)))
            shortcut = x if self.downsample is None else self.downsample(x)
            return torch.relu(self.bn3(self.conv3(residual)) + shortcut)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = norm_conv(3, width, 7, 2)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            channels = width
            for i, count in enumerate(repeats):
                blocks = []
                for j in range(count):
                    blocks.append(Bottleneck(channels, width << i, 2 if i and not j else 1))
                    channels = 4 * (width << i)
                setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            self.fc = nn.Linear(channels, classes)

        def forward(self, x: Any) -> Any:
            x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
            for i in range(len(repeats)):
                x = getattr(self, f"layer{i + 1}")(x)
            return self.fc(x.mean((2, 3)))

    return Network()


def torch_resnet50() -> Any:
    """Returns torchvision's ResNet-50, or the same network if torchvision is not installed."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("torchvision").models.resnet50()
    return torch_resnet((3, 4, 6, 3))


def ours(settings: Settings) -> tuple[Turns, int, str]:
    """Returns the turns of our network, its trainable parameters, and the device."""
    import jax
    import keras

    sys.path.insert(0, str(ROOT))  # the package, which would need TensorFlow, need not be installed
    from resnet_keras.networks import build

    keras.config.set_dtype_policy(settings.precision)
    side = settings.image_size
    model = build("resnet50", input_shape=(side, side, 3), classifier_activation=None, bottleneck_stride="3x3")
    turns = keras_turns(model, settings.batch, side, settings.steps)
    kind = "CPU" if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
    return turns, sum(variable.value.size for variable in model.trainable_variables), kind


def theirs(settings: Settings) -> tuple[Turns, int, str]:
    """Returns the turns of PyTorch's network, its trainable parameters, and the device."""
    import torch

    model = torch_resnet50()
    half = settings.precision == "mixed_bfloat16"
    turns = torch_turns(model, settings.batch, settings.image_size, settings.steps, half, settings.compiled)
    kind = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    return turns, sum(parameter.numel() for parameter in model.parameters()), kind


PEERS = {"ours": ours, "theirs": theirs}


def main(peer: str, settings: Settings) -> None:
    """Compiles, prints its facts, and runs a turn for each line of input; each answer is a line of JSON."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be read as an answer
    turns, parameters, device = PEERS[peer](settings)
    for turn in turns.values():
        turn()
    print(json.dumps({"parameters": parameters, "device": device}), file=answers)
    for _ in sys.stdin:
        print(json.dumps({name: turn() for name, turn in turns.items()}), file=answers)


if __name__ == "__main__":
    main(sys.argv[1], Settings(**json.loads(sys.argv[2])))
