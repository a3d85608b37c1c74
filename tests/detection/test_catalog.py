"""Rows of detectors: their checks and numbers."""

from __future__ import annotations

from typing import Any

import pytest

from resnet_keras.detection.catalog import DETECTORS, detector_architecture
from resnet_keras.detection.targets import SamplingRules


def test_the_paper_takes_nine_anchors_and_300_proposals_from_c4() -> None:
    row = DETECTORS["c4"]
    assert (row.anchors_per_place, row.proposals[1], row.strides) == (9, 300, (16,))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"anchor_sizes": ((32,), (64,))}, "`anchor_sizes` of 5 maps for neck='fpn'"),
        ({"anchor_sizes": ((32,), (64,), (128,), (256,), (1, 2))}, "as many sizes for each"),
        ({"proposals": (0, 300)}, "`proposals` to be 2 positive numbers"),
        ({"neck": "c5"}, "Did you mean c4?"),
        ({"neck": "c4", "anchor_sizes": ((8,),)}, "whose head is conv5_x. Received: 2, 0, False"),
        ({"least_score": 2.0}, "`least_score`"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace("?", r"\?")):
        DETECTORS["fpn"].replace(**fields)


def test_a_misspelled_detector_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'fnp'. Did you mean fpn\?"):
        detector_architecture("fnp")


def test_rows_have_the_numbers_of_their_sources() -> None:
    # torchvision's FasterRCNN: rpn_pre_nms_top_n and rpn_post_nms_top_n in training and test, rpn_nms_thresh,
    # rpn_score_thresh aside, box_score_thresh, box_nms_thresh, box_detections_per_img; MultiScaleRoIAlign of 7 and 2.
    fpn = DETECTORS["fpn"]
    assert (fpn.proposals_before, fpn.proposals, fpn.proposal_iou) == ((2000, 1000), (2000, 1000), 0.7)
    assert (fpn.least_score, fpn.detection_iou, fpn.detections) == (0.05, 0.5, 100)
    assert (fpn.roi_size, fpn.roi_samples, fpn.roi_aligned, fpn.box_weights) == (7, 2, False, (10, 10, 5, 5))
    assert (fpn.channels, fpn.box_layers, fpn.box_units, fpn.proposal_side) == (256, 2, 1024, 1e-3)
    # arXiv:2111.11429, as torchvision builds it.
    v2 = DETECTORS["fpn_v2"]
    assert (v2.neck_batch_norm, v2.rpn_convolutions, v2.box_convolutions, v2.box_layers) == (True, 2, 4, 1)
    # py-faster-rcnn, lib/fast_rcnn/config.py: RPN_PRE_NMS_TOP_N 12000 and 6000, RPN_POST_NMS_TOP_N 2000 and 300,
    # RPN_NMS_THRESH 0.7, RPN_MIN_SIZE 16, TEST.NMS 0.3; conv5_x halves a grid of 14 to the paper's 7.
    c4 = DETECTORS["c4"]
    assert (c4.proposals_before, c4.proposals, c4.proposal_iou) == ((12000, 6000), (2000, 300), 0.7)
    assert (c4.proposal_side, c4.detection_iou, c4.roi_size, c4.roi_aligned) == (16, 0.3, 14, True)


def test_training_samples_as_torchvision_does() -> None:
    # rpn_batch_size_per_image, rpn_positive_fraction, rpn_fg_iou_thresh, rpn_bg_iou_thresh; those of boxes.
    rules = SamplingRules()
    assert (rules.anchors, rules.positive_anchors, rules.anchor_overlap, rules.anchor_background) == (
        256,
        0.5,
        0.7,
        0.3,
    )
    assert (rules.regions, rules.positive_regions, rules.region_overlap, rules.background_overlap) == (
        512,
        0.25,
        0.5,
        0,
    )
