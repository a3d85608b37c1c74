"""What torchvision computes of boxes that are drawn here, in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

IMAGE_SIZE, MAP_SIZES = (96, 160), ((24, 40), (12, 20), (6, 10), (3, 5), (2, 3))
ANCHOR_SIZES, ANCHOR_RATIOS = ((8,), (16,), (32,), (64,), (128,)), (0.5, 1.0, 2.0)
STRIDES = (4, 8, 16, 32)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)

# A process of its own, because PyTorch and TensorFlow do not always bear each other in one.
_THEIRS = """
import sys
from collections import OrderedDict
import numpy as np
import torch
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

folder = sys.argv[1]
given = {name: torch.from_numpy(value) for name, value in np.load(f"{folder}/given.npz").items()}
boxes, others, groups = given["boxes"], given["others"], given["groups"]
found = {}
generator = AnchorGenerator(ANCHOR_SIZES, (ANCHOR_RATIOS,) * len(ANCHOR_SIZES))
images = ImageList(torch.zeros(1, 3, *IMAGE_SIZE), [IMAGE_SIZE])
found["anchors"] = generator(images, [torch.zeros(1, 1, *size) for size in MAP_SIZES])[0]
coder = BoxCoder(BOX_WEIGHTS)
found["encoded"] = coder.encode_single(boxes, others)
found["decoded"] = coder.decode_single(given["offsets"], others)
found["clipped"] = ops.clip_boxes_to_image(found["decoded"], IMAGE_SIZE)
found["iou"] = ops.box_iou(boxes, others)
found["rpn_matches"] = Matcher(0.7, 0.3, True)(found["iou"][:5])
found["roi_matches"] = Matcher(0.5, 0.5, False)(found["iou"][:5])
for name, scores in (("kept", given["scores"]), ("kept_of_equal", given["scores"].round(decimals=1))):
    found[name] = ops.batched_nms(boxes, scores, groups, 0.4)
maps = OrderedDict((str(i), given[f"map{i}"].permute(0, 3, 1, 2)) for i in range(4))
per_image = list(given["rois"])
for size, ratio in ((7, 2), (3, 1)):
    pool = ops.MultiScaleRoIAlign(list(maps), size, ratio)
    found[f"pooled_{size}_{ratio}"] = pool(maps, per_image, [IMAGE_SIZE] * 2).permute(0, 2, 3, 1)
for aligned in (False, True):
    pooled = ops.roi_align(maps["2"], per_image, 14, 1 / 16, 2, aligned)
    found[f"pooled_c4_{aligned}"] = pooled.permute(0, 2, 3, 1)
np.savez(f"{folder}/found.npz", **{name: value.numpy() for name, value in found.items()})
"""


def drawn_boxes() -> dict[str, np.ndarray]:
    """Boxes within an image, offsets, scores, groups, and feature maps."""
    rng = np.random.default_rng(3)

    def boxes(*shape: int) -> np.ndarray:
        corners = rng.uniform(0, 1, (*shape, 2, 2)) * np.float32(IMAGE_SIZE[::-1])
        corners.sort(axis=-2)
        corners[..., 1, :] = np.minimum(corners[..., 1, :] + 1, IMAGE_SIZE[::-1])
        return corners.reshape(*shape, 4).astype(np.float32)

    maps = {f"map{i}": rng.normal(size=(2, *size, 6)).astype(np.float32) for i, size in enumerate(MAP_SIZES[:4])}
    rois = boxes(2, 30) * np.float32(4)  # of all levels; some go beyond the image
    return {
        "boxes": boxes(200),
        "others": boxes(200),
        "offsets": rng.normal(scale=4, size=(200, 4)).astype(np.float32),
        "scores": rng.uniform(size=200).astype(np.float32),
        "groups": rng.integers(0, 3, 200),
        "rois": np.concatenate([rois / 16, rois / 4, rois], axis=1),
        **maps,
    }


def torchvision_boxes(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What is given, and what torchvision computes of it; the test is skipped without torchvision."""
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    given = drawn_boxes()
    np.savez(folder / "given.npz", **given)
    values = {
        "ANCHOR_SIZES": ANCHOR_SIZES,
        "ANCHOR_RATIOS": ANCHOR_RATIOS,
        "IMAGE_SIZE": IMAGE_SIZE,
        "MAP_SIZES": MAP_SIZES,
        "BOX_WEIGHTS": BOX_WEIGHTS,
    }
    program = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + _THEIRS
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as found:
        return given, dict(found)
