"""Training steps of PyTorch for `training_step.py`: `python torch_step.py NETWORK BATCH STEPS`.

Each line of input is the name of a way, "eager" or "compiled"; the answer is a line of JSON with the seconds of the
steps and their CPU seconds, or with the reason for which the way is not possible.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from gpu_peers import torch_resnet


def cifar_resnet20() -> Any:
    """Returns the CIFAR network of 20 layers with shortcuts of option A."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int, width: int) -> None:
            super().__init__()
            self.stride = 1 if channels == width else 2
            self.conv1 = nn.Conv2d(channels, width, 3, self.stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
            self.zeros = width - channels

        def forward(self, x: Any) -> Any:
            residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            if self.zeros:
                x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.zeros))
            return torch.relu(residual + x)

    widths = [16] * 3 + [32] * 3 + [64] * 3
    blocks = [Block(channels, width) for channels, width in zip([16, *widths], widths, strict=False)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


NETWORKS: dict[str, tuple[Callable[[], Any], int, int]] = {
    "resnet20": (cifar_resnet20, 32, 10),
    "resnet50": (lambda: torch_resnet((3, 4, 6, 3)), 224, 1000),
}
"""Maker, side of the images in pixels, and classes."""


def turns(network: str, batch: int, steps: int) -> dict[str, Callable[[], None]]:
    """Returns functions that train for some steps."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    make, side, classes = NETWORKS[network]
    images = torch.randn((batch, 3, side, side)).to(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,))

    def way(compiled: bool) -> Callable[[], None]:
        model = make().to(memory_format=torch.channels_last).train()
        forward = torch.compile(model) if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)

        def train() -> None:
            for _ in range(steps):
                torch.nn.functional.cross_entropy(forward(images), labels).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        return train

    return {"eager": way(compiled=False), "compiled": way(compiled=True)}


def main() -> None:
    """Answers until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be read as an answer
    network, batch, steps = sys.argv[1], *map(int, sys.argv[2:])
    ways = turns(network, batch, steps)
    for line in sys.stdin:
        start, used = time.perf_counter(), sum(os.times()[:2])
        try:
            ways[line.strip()]()
            answer: Any = [time.perf_counter() - start, sum(os.times()[:2]) - used]
        except Exception as error:  # such as a compiler that is missing
            answer = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
