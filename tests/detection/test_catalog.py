"""Rows of detectors: their checks and numbers."""

from __future__ import annotations

from typing import Any

import pytest

from resnet_keras.detection.catalog import DETECTORS, detector_architecture


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
