"""The loss and the metrics of localization, beside NumPy."""

import numpy as np
import pytest

from resnet_keras.detection import ClassAccuracy, LocalizationLoss, Localized
from resnet_keras.detection.localization_network import CANVAS_WEIGHTS

BOXES = np.array([[0.2, 0.1, 0.6, 0.5], [0.5, 0.5, 1.0, 1.0]])


def offsets(box: np.ndarray) -> np.ndarray:
    """Offsets from the unit square, by hand."""
    left, top, right, bottom = box
    plain = [(left + right) / 2 - 0.5, (top + bottom) / 2 - 0.5, np.log(right - left), np.log(bottom - top)]
    return np.array(plain) * CANVAS_WEIGHTS


def test_the_loss_is_cross_entropy_and_smooth_l1_of_the_own_class() -> None:
    targets = np.float32([[1, *offsets(BOXES[0])], [0, *offsets(BOXES[1])]])
    outputs = np.zeros((2, 3, 5), np.float32)
    outputs[:, :, 0] = [[1.0, 2.0, 0.5], [3.0, 0.0, 0.0]]
    outputs[0, 1, 1:] = targets[0, 1:] + [0.5, -2.0, 0, 0]
    outputs[1, 0, 1:] = targets[1, 1:]
    outputs[1, 1, 1:] = 100  # of another class
    logits = outputs[..., 0].astype(float)
    entropy = np.log(np.exp(logits).sum(-1)) - logits[[0, 1], [1, 0]]
    expected = np.mean(entropy + np.array([0.5 * 0.5**2 + 1.5, 0]))
    assert float(LocalizationLoss()(targets, outputs)) == pytest.approx(expected, rel=1e-5)


def test_metrics_count_classes_and_overlaps_of_one_half() -> None:
    targets = np.float32([[1, *offsets(BOXES[0])]] * 3)
    outputs = np.zeros((3, 2, 5), np.float32)
    outputs[:, :, 0] = [[0, 1], [0, 1], [1, 0]]
    outputs[0, 1, 1:] = offsets(np.array([0.2, 0.1, 0.6, 0.301]))
    outputs[1, 1, 1:] = offsets(np.array([0.2, 0.1, 0.6, 0.299]))
    outputs[2, 1, 1:] = targets[2, 1:]
    for metric, expected in ((ClassAccuracy(), 2 / 3), (Localized(), 1 / 3)):
        metric.update_state(targets, outputs)
        assert float(metric.result()) == pytest.approx(expected)
