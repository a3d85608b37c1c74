"""Losses equal to torchvision's, number by number, with samples that are given."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from resnet_keras.detection.losses import (
    LOSSES,
    DetectorLoss,
    PartOfLoss,
    proposal_losses,
    region_losses,
    smooth_l1,
)
from resnet_keras.detection.sampling import Sample

IMAGES, ANCHORS, REGIONS, CLASSES = 3, 40, 8, 5
TORCHVISION = (1.685192, 0.8595762, 4.426468, 2.721878)
"""The four losses by torchvision 0.29.1."""


def arrays() -> dict[str, np.ndarray]:
    """Outputs of a network and what they should be: 3 images, the last one without objects."""
    random = np.random.default_rng(0)
    labels = random.choice([-1.0, 0.0, 1.0], (IMAGES, ANCHORS), p=[0.3, 0.5, 0.2])
    labels[2] = np.minimum(labels[2], 0)
    classes = random.integers(0, CLASSES, (IMAGES, REGIONS))
    classes[2] = 0
    found = {
        "logits": random.normal(0, 3, (IMAGES, ANCHORS)),
        "deltas": random.normal(0, 1, (IMAGES, ANCHORS, 4)),
        "labels": labels,
        "targets": random.normal(0, 1, (IMAGES, ANCHORS, 4)),
        "scores": random.normal(0, 3, (IMAGES, REGIONS, CLASSES)),
        "boxes": random.normal(0, 1, (IMAGES, REGIONS, CLASSES * 4)),
        "classes": classes,
        "regions": random.normal(0, 1, (IMAGES, REGIONS, 4)),
    }
    return {name: value.astype(np.int64 if name == "classes" else np.float32) for name, value in found.items()}


def losses(found: dict[str, np.ndarray]) -> list[float]:
    """The four losses, with all anchors that are not -1 as the sample."""
    order = np.argsort(-found["labels"], axis=1, kind="stable").astype(np.int32)
    ordered = np.take_along_axis(found["labels"], order, 1)
    anchors = Sample(order, (ordered > 0).astype(np.float32), (ordered >= 0).astype(np.float32))
    targets = np.take_along_axis(found["targets"], order[..., None], 1)
    valid = np.ones((IMAGES, REGIONS), np.float32)
    boxes = found["boxes"].reshape(IMAGES, REGIONS, CLASSES, 4)
    sums = [
        *proposal_losses(found["logits"], found["deltas"], targets, anchors),
        *region_losses(found["scores"], boxes, found["classes"], found["regions"], valid),
        anchors.valid.sum(1),
        valid.sum(1),
    ]
    columns = np.stack([np.asarray(each) for each in sums], 1)
    parts = [PartOfLoss(name) for name in LOSSES]
    for part in parts:
        part.update_state(None, columns[:1])
        part.update_state(None, columns[1:])
    values = [float(part.result()) for part in parts]
    assert float(DetectorLoss()(np.zeros(len(columns)), columns)) == pytest.approx(sum(values), rel=1e-6)
    return values


def test_losses_are_those_of_torchvision() -> None:
    np.testing.assert_allclose(losses(arrays()), TORCHVISION, rtol=2e-6)


BY_TORCHVISION = """
import sys
import numpy as np
import torch
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork

class AllSampled:
    def __call__(self, labels):
        return [(each >= 1).to(torch.uint8) for each in labels], [(each == 0).to(torch.uint8) for each in labels]

found = {name: torch.from_numpy(value) for name, value in np.load(sys.argv[1]).items()}
network = RegionProposalNetwork.__new__(RegionProposalNetwork)
torch.nn.Module.__init__(network)
network.fg_bg_sampler = AllSampled()
flat = lambda name, width: found[name].reshape(-1, width)
first = network.compute_loss(
    flat("logits", 1), flat("deltas", 4), list(found["labels"]), list(found["targets"])
)
second = fastrcnn_loss(
    found["scores"].flatten(0, 1), found["boxes"].flatten(0, 1), list(found["classes"]), list(found["regions"])
)
print(*(float(value) for value in (*first, *second)))
"""


def test_torchvision_computes_the_stored_losses(tmp_path: Path) -> None:
    # In a process of its own: torch and TensorFlow do not go together in one.
    if subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False).returncode:
        pytest.skip("torchvision is not installed")
    np.savez(tmp_path / "a.npz", **arrays())
    command = [sys.executable, "-c", BY_TORCHVISION, str(tmp_path / "a.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    np.testing.assert_allclose([float(value) for value in done.stdout.split()], TORCHVISION, rtol=1e-6)


def test_smooth_l1_is_square_and_then_linear() -> None:
    values = ops.convert_to_numpy(smooth_l1(np.array([0, 1 / 18, -1 / 9, 1.0], np.float32)))
    np.testing.assert_allclose(values, [0, 1 / 72, 1 / 18, 17 / 18], rtol=1e-6)


def test_padding_counts_for_nothing_whatever_it_holds() -> None:
    found = arrays()
    clean = losses(found)
    skipped = found["labels"] < 0
    found["targets"][skipped] = np.inf
    found["deltas"][skipped] = np.nan
    background = found["classes"] == 0
    found["regions"][background] = np.inf
    np.testing.assert_array_equal(losses(found), clean)


def test_without_any_sample_losses_are_0() -> None:
    nothing = Sample(np.zeros((2, 4), np.int32), np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32))
    zeros = np.zeros
    first = proposal_losses(zeros((2, 9)), zeros((2, 9, 4)), zeros((2, 4, 4), np.float32), nothing)
    second = region_losses(zeros((2, 4, 3)), zeros((2, 4, 3, 4)), zeros((2, 4)), zeros((2, 4, 4)), zeros((2, 4)))
    columns = np.stack([*map(np.asarray, (*first, *second)), np.zeros(2), np.zeros(2)], 1).astype(np.float32)
    assert not columns.any()
    assert float(DetectorLoss()(np.zeros(len(columns)), columns)) == 0
