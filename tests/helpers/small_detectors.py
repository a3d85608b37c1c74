"""Small detectors whose weights are drawn, and images for them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from helpers.small_networks import drawn, images
from resnet_keras.detection import DETECTORS, FasterRCNN
from resnet_keras.networks.architecture import Architecture

BACKBONE = Architecture(stem="imagenet", block="basic", repeats=(1, 1, 1, 1), widths=(4, 6, 8, 8))
FPN = DETECTORS["fpn"].replace(
    channels=8,
    box_units=16,
    anchor_sizes=((8,), (16,), (32,), (48,), (64,)),
    proposals_before=(60, 40),
    proposals=(50, 30),
    detections=20,
)
C4 = DETECTORS["c4"].replace(
    channels=8,
    anchor_sizes=((8, 16, 32),),
    proposals_before=(60, 40),
    proposals=(50, 30),
    detections=20,
    proposal_side=2,
)
SIZES = np.int32([[64, 96], [50, 61]])


def small_detector(row: Any = FPN, **options: Any) -> keras.Model:
    """Returns a detector of 3 classes for images of 64x96."""
    return drawn(FasterRCNN(BACKBONE, 3, detector=row, **{"input_shape": (64, 96, 3), **options}))


def inputs() -> dict[str, np.ndarray]:
    """Returns two images; the second is padded."""
    pixels = images(2, 64, 96, 3)
    pixels[1, 50:] = pixels[1, :, 61:] = 0
    return {"images": pixels, "sizes": SIZES}
