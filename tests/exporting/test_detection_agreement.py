"""Agreement of detections: pairs, classes, differences."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.exporting.detection_agreement import Agreement, agreement_of


def found(*rows: tuple[float, ...]) -> FoundBoxes:
    """Detections of rows of left, top, right, bottom, score, label."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return FoundBoxes(table[:, :4], table[:, 4], table[:, 5].astype(int))


def test_a_detection_agrees_with_one_of_its_class_and_place() -> None:
    model = found((0, 0, 100, 100, 0.9, 0), (200, 0, 300, 100, 0.8, 1), (0, 200, 100, 300, 0.7, 1))
    artifact = found((0, 0, 100, 102, 0.85, 0), (200, 0, 300, 100, 0.8, 2), (0, 200, 100, 300, 0.7, 1))
    result = agreement_of(model, artifact)
    assert (result.expected, result.found, result.equal) == (3, 3, 2)
    assert result.fraction == pytest.approx(2 / 3)
    assert result.box_difference == pytest.approx(2)
    assert result.score_difference == pytest.approx(0.05)


def test_each_detection_agrees_once_and_others_count_against() -> None:
    twice = found((0, 0, 100, 100, 0.9, 0), (0, 0, 100, 100, 0.4, 0))
    assert agreement_of(twice, found((0, 0, 100, 100, 0.4, 0))).fraction == pytest.approx(2 / 3)
    assert agreement_of(twice, twice).score_difference == 0
    assert agreement_of(found(), twice).fraction == 0
    assert agreement_of(twice, found()).fraction == 0
    assert (agreement_of(found(), found()) + Agreement()).fraction == 1
