"""Settings of a run, and the network that a run has written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
from images import PATCHES_OF_IMAGE

from resnet_keras.runs import RunFolder

REPORT_STEPS = 100
"""Steps between two printed lines, and between two checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of network and training. The paper's baseline has 16 blocks, 64 channels, 300,000 steps, peak_lr 1e-4.

    Raises:
        ValueError: A number is out of its range.
    """

    scale: Literal[2, 3, 4] = 2
    """Factor of the enlargement."""
    blocks: int = 8
    """Number of residual blocks."""
    channels: int = 32
    """Channels of the convolutions."""
    weights: str | None = None
    """Folder of a run of another scale with the initial weights; random ones if None."""
    steps: int = 1000
    """Number of training steps."""
    batch_size: int = 16
    """Patches in a batch."""
    patch_size: int = 48
    """Height and width of a patch, in pixels of the small image."""
    peak_lr: float = 1e-3
    """Peak learning rate of Adam; cosine decay follows, to 0."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Precision policy of Keras in training; the result is in float32."""
    seed: int = 0
    """Seed of the initial weights and the patches."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "patch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1. Received: {getattr(self, name)}")
        if self.steps % REPORT_STEPS:
            raise ValueError(f"Expected `steps` to be a multiple of {REPORT_STEPS}. Received: {self.steps}")
        if self.batch_size % PATCHES_OF_IMAGE:
            raise ValueError(
                f"Expected `batch_size` to be a multiple of {PATCHES_OF_IMAGE}. Received: {self.batch_size}"
            )
        if not self.peak_lr > 0 or not 0 < self.warmup_steps < self.steps:
            raise ValueError(
                "Expected `peak_lr` above 0 and `warmup_steps` between 0 and `steps`. "
                f"Received: {self.peak_lr}, {self.warmup_steps} and {self.steps}"
            )


def settings_of(path: Path) -> Settings:
    """Returns the settings of a run.

    Raises:
        FileNotFoundError: The folder holds none.
    """
    file = path / "recipe.json"
    if not file.is_file():
        raise FileNotFoundError(f"Expected the folder of a run. Received: {path}, without {file.name}")
    return Settings(**json.loads(file.read_text(encoding="utf-8")))


def open_run(path: Path) -> keras.Model:
    """Returns the network of a finished run.

    Raises:
        FileNotFoundError: There is none.
    """
    file = RunFolder(path).model
    if not file.is_file():
        raise FileNotFoundError(f"Expected the folder of a finished run. Received: {path}, without {file.name}")
    return keras.saving.load_model(file, compile=False)
