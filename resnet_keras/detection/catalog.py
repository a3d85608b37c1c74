"""Faster R-CNN as data: what is built on a backbone, and how proposals and detections are chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from resnet_keras.checks.fields import at_least, between, check_fields, nearest

Neck = Literal["fpn", "c4"]


@dataclass(frozen=True, kw_only=True)
class DetectorArchitecture:
    """A Faster R-CNN (arXiv:1506.01497) on any backbone.

    Example:
        >>> small = DETECTORS["fpn"].replace(channels=128, proposals=(500, 300))

    Attributes:
        neck: Maps that proposals and boxes are taken from: "fpn", a feature pyramid P2 to P6 (arXiv:1612.03144), or
            "c4", the output of conv4_x, with conv5_x run on every region (arXiv:1512.03385, appendix A).
        channels: Channels of the pyramid and of the region proposal network.
        neck_batch_norm: Whether the convolutions of the pyramid are normalized, and have no bias.
        rpn_convolutions: 3x3 convolutions of the region proposal network.
        box_convolutions: 3x3 convolutions, normalized, that begin the head of each region.
        box_layers: Fully connected layers of that head after them; with "c4" there are none.
        box_units: Their units.
        anchor_sizes: Square roots of the anchors' areas in pixels, for each map.
        anchor_ratios: Heights of the anchors per width.
        proposals_before: Anchors of each map that enter non-maximum suppression, in training and in inference.
        proposals: Proposals of an image after it, in training and in inference.
        proposal_iou: Overlap above which a proposal is suppressed.
        proposal_side: Least width and height of a proposal in pixels.
        roi_size: Cells along each side of the grid that is cut out for a region.
        roi_samples: Samples of a cell along each side.
        roi_aligned: Whether pixels of maps are areas; see `roi_align`.
        box_weights: Weights of the offsets x, y, width, and height from proposals to boxes.
        least_score: Detections have scores above it.
        detection_iou: Overlap above which a detection of the same class is suppressed.
        detections: Detections of an image, at most.
        global_context: Whether the feature of each region is followed by that of the whole image, a region that goes
            through the same layers (arXiv:1512.03385, appendix B).
        frozen_batch_norm: Whether all batch normalization is fixed at the backbone's statistics.

    Raises:
        ValueError: A field is out of its range, or fields contradict each other.
    """

    neck: Neck = "fpn"
    channels: Annotated[int, at_least(1)] = 256
    neck_batch_norm: bool = False
    rpn_convolutions: Annotated[int, at_least(1)] = 1
    box_convolutions: Annotated[int, at_least(0)] = 0
    box_layers: Annotated[int, at_least(0)] = 2
    box_units: Annotated[int, at_least(1)] = 1024
    anchor_sizes: tuple[tuple[float, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals_before: tuple[int, int] = (2000, 1000)
    proposals: tuple[int, int] = (2000, 1000)
    proposal_iou: Annotated[float, between(0, 1)] = 0.7
    proposal_side: Annotated[float, at_least(0)] = 1e-3
    roi_size: Annotated[int, at_least(1)] = 7
    roi_samples: Annotated[int, at_least(1)] = 2
    roi_aligned: bool = False
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    least_score: Annotated[float, between(0, 1)] = 0.05
    detection_iou: Annotated[float, between(0, 1)] = 0.5
    detections: Annotated[int, at_least(1)] = 100
    global_context: bool = False
    frozen_batch_norm: bool = True

    def __post_init__(self) -> None:
        sizes = tuple(tuple(map(float, level)) for level in self.anchor_sizes)
        object.__setattr__(self, "anchor_sizes", sizes)
        for name in ("anchor_ratios", "proposals_before", "proposals", "box_weights"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_fields(self)
        levels, counts = len(self.strides) + (self.neck == "fpn"), {len(level) for level in sizes}
        if len(sizes) != levels or len(counts) != 1 or 0 in counts:
            raise ValueError(
                f"Expected `anchor_sizes` of {levels} maps for neck={self.neck!r}, as many sizes for each. Received: "
                f"{self.anchor_sizes}"
            )
        for name, length in (("proposals_before", 2), ("proposals", 2), ("box_weights", 4)):
            values = getattr(self, name)
            if len(values) != length or min(values) <= 0:
                raise ValueError(f"Expected `{name}` to be {length} positive numbers. Received: {values}")
        if self.neck == "c4" and (self.box_layers or self.box_convolutions or self.neck_batch_norm):
            raise ValueError(
                'Expected neither `box_layers`, `box_convolutions`, nor `neck_batch_norm` with neck="c4", whose head '
                f"is conv5_x. Received: {self.box_layers}, {self.box_convolutions}, {self.neck_batch_norm}"
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image per pixel of each map that regions are cut out of."""
        return (4, 8, 16, 32) if self.neck == "fpn" else (16,)

    @property
    def anchors_per_place(self) -> int:
        """Anchors at each place of a map."""
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)

    def replace(self, **fields: Any) -> DetectorArchitecture:
        """Returns the architecture with other values of some fields.

        Raises:
            ValueError: As for a new one.
            TypeError: There is no such field.
        """
        return dataclasses.replace(self, **fields)


DETECTORS: Mapping[str, DetectorArchitecture] = {
    # torchvision's fasterrcnn_resnet50_fpn
    "fpn": DetectorArchitecture(),
    # torchvision's fasterrcnn_resnet50_fpn_v2 (arXiv:2111.11429)
    "fpn_v2": DetectorArchitecture(
        neck_batch_norm=True, rpn_convolutions=2, box_convolutions=4, box_layers=1, frozen_batch_norm=False
    ),
    # arXiv:1512.03385, appendix A, with the settings of arXiv:1506.01497 in its published code, py-faster-rcnn
    "c4": DetectorArchitecture(
        neck="c4",
        channels=512,
        box_layers=0,
        anchor_sizes=((128, 256, 512),),
        proposals_before=(12000, 6000),
        proposals=(2000, 300),
        proposal_side=16,
        roi_size=14,
        roi_aligned=True,
        detection_iou=0.3,
    ),
}
"""Detectors by name."""


def detector_architecture(name: str) -> DetectorArchitecture:
    """Returns a row of `DETECTORS`.

    Raises:
        ValueError: There is no such row.
    """
    if name not in DETECTORS:
        raise ValueError(
            f"Expected a detector, one of {', '.join(DETECTORS)}. Received: {name!r}.{nearest(name, DETECTORS)}"
        )
    return DETECTORS[name]
