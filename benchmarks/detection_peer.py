"""What `torchvision_detector.py` is told of a recipe's network, and the interpreter that it runs in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import resnet_keras
from resnet_keras import detection

PEER = Path(__file__).with_name("torchvision_detector.py")
_HAS_PEER = """
import importlib.util, sys
sys.exit(not all(importlib.util.find_spec(name) for name in ("safetensors", "torch", "torchvision")))
"""


def has_peer(python: str) -> bool:
    """Returns whether an interpreter has torchvision, and safetensors for the weights."""
    return not subprocess.run([python, "-c", _HAS_PEER], capture_output=True, check=False).returncode


def network_settings(recipe: resnet_keras.Recipe, image_size: tuple[int, int], classes: int) -> dict[str, Any]:
    """Returns the shapes of a recipe's network with a pyramid, and how it is trained.

    Args:
        recipe: Recipe with a `detector`.
        image_size: Height and width of all images in pixels.
        classes: Classes without background.
    """
    settings, row = recipe.detection, detection.DETECTORS[recipe.detection.detector or "fpn"]
    assert settings.canvas is not None and settings.fit is None
    scale = min(canvas / side for canvas, side in zip(settings.canvas, image_size, strict=True))
    return {
        "backbone": recipe.network.model,
        "fit": sorted(int(scale * side) for side in image_size),
        "channels": settings.pyramid_channels or row.channels,
        "box_units": settings.box_units or row.box_units,
        "anchor_sizes": list(settings.anchor_sizes) or [size for (size,) in row.anchor_sizes],
        "proposals_before": list(row.proposals_before),
        "proposals": [settings.train_proposals or row.proposals[0], settings.test_proposals or row.proposals[1]],
        "sampled_anchors": settings.sampled_anchors,
        "sampled_regions": settings.sampled_regions,
        "classes": classes,
        "l2": recipe.optimization.l2,
        "clip_norm": recipe.optimization.clip_norm,
        "batch_size": recipe.data.batch_size,
        "seed": recipe.seed,
    }
