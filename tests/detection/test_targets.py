"""Anchors and proposals that are trained on: which, and toward what."""

import numpy as np
import pytest

from resnet_keras.detection.targets import SamplingRules, sampled_anchors, sampled_regions

OBJECT = [10.0, 10.0, 30.0, 50.0]
PADDING = [0.0, 0.0, 0.0, 0.0]
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def keys(images: int, count: int) -> np.ndarray:
    return np.random.default_rng(0).random((images, count)).astype(np.float32)


def test_anchors_are_drawn_by_overlap_and_lead_to_their_object() -> None:
    anchors = np.array(
        [
            OBJECT,
            [10, 10, 30, 45],  # overlap 7/8: an object, too
            [10, 10, 30, 30],  # 1/2: neither
            [60, 60, 80, 90],  # background
            [20, 10, 40, 50],  # 1/3: neither
        ],
        np.float32,
    )
    boxes, labels = np.array([[OBJECT, PADDING]] * 2, np.float32), np.array([[3, 0], [0, 0]])
    rules = SamplingRules(anchors=4)
    sample, targets = sampled_anchors(anchors, boxes, labels, keys(2, 5), rules)
    indices, positive, valid, targets = map(np.asarray, (*sample, targets))
    assert sorted(indices[0, :2].tolist()) == [0, 1]
    assert indices[0, 2] == 3
    np.testing.assert_array_equal(positive, [[1, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(valid, [[1, 1, 1, 0], [1, 1, 1, 1]])  # without objects all are background
    second = targets[0, indices[0].tolist().index(1)]
    np.testing.assert_allclose(second, [0, 2.5 / 35, 0, np.log(40 / 35)], rtol=1e-5, atol=1e-6)
    assert not targets[1].any()


def test_the_best_anchor_of_an_object_has_it_in_any_case() -> None:
    anchors = np.array([[0, 0, 20, 20], [60, 60, 80, 80]], np.float32)
    boxes, labels = np.array([[OBJECT]], np.float32), np.array([[1]])
    sample, _ = sampled_anchors(anchors, boxes, labels, keys(1, 2), SamplingRules(anchors=4))
    assert np.asarray(sample.positive).tolist() == [[1, 0, 0, 0]]
    assert np.asarray(sample.indices)[0, 0] == 0


def test_regions_are_drawn_with_the_objects_among_them() -> None:
    proposals = np.array([[[10, 10, 30, 42], [12, 60, 40, 90], [10, 10, 30, 25], PADDING]], np.float32)
    valid = np.array([[True, True, True, False]])
    boxes, labels = np.array([[OBJECT, PADDING]], np.float32), np.array([[3, 0]])
    rules = SamplingRules(regions=6, positive_regions=0.5)
    sample, chosen, classes, targets = sampled_regions(proposals, valid, boxes, labels, keys(1, 6), rules, WEIGHTS)
    np.testing.assert_array_equal(np.asarray(sample.positive), [[1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(np.asarray(sample.valid), [[1, 1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(np.asarray(classes), [[3, 3, 0, 0, 0, 0]])
    rows = np.asarray(chosen)[0].tolist()
    assert sorted(rows[:2]) == [[10, 10, 30, 42], OBJECT]
    first = np.asarray(targets)[0, rows.index([10, 10, 30, 42])]
    np.testing.assert_allclose(first, [0, 10 * 4 / 32, 0, 5 * np.log(40 / 32)], rtol=1e-5, atol=1e-6)
    assert not np.asarray(targets)[0, 2:].any()


def test_background_may_need_some_overlap() -> None:
    proposals = np.array([[[12, 60, 40, 90], [10, 10, 30, 25]]] * 2, np.float32)
    valid = np.ones((2, 2), bool)
    boxes, labels = np.array([[OBJECT]] * 2, np.float32), np.array([[1], [0]])
    rules = SamplingRules(regions=4, background_overlap=0.1)
    sample, chosen, *_ = sampled_regions(proposals, valid, boxes, labels, keys(2, 3), rules, WEIGHTS)
    np.testing.assert_array_equal(np.asarray(sample.valid).sum(1), [2, 2])
    assert np.asarray(chosen)[0, 1].tolist() == [10, 10, 30, 25]


def test_targets_are_finite_whatever_a_proposal_is() -> None:
    proposals = np.array([[PADDING, [5, 5, 5, 90], OBJECT]], np.float32)
    boxes, labels = np.array([[PADDING, OBJECT]], np.float32), np.array([[0, 2]])
    rules = SamplingRules(regions=8, anchors=8)
    *_, targets = sampled_regions(proposals, np.ones((1, 3), bool), boxes, labels, keys(1, 5), rules, WEIGHTS)
    assert np.isfinite(np.asarray(targets)).all()
    _, targets = sampled_anchors(proposals[0], boxes, labels, keys(1, 3), rules)
    assert np.isfinite(np.asarray(targets)).all()


def test_thresholds_have_an_order() -> None:
    with pytest.raises(ValueError, match="at most `anchor_overlap`, 0.7. Received: 0.8"):
        SamplingRules(anchor_background=0.8)
