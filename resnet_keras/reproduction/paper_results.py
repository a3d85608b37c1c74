"""Results that the paper reports (arXiv:1512.03385, Tables 1 to 9)."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_keras.networks.published_sizes import SIZES
from resnet_keras.recipes.published_errors import PUBLISHED


@dataclass(frozen=True)
class PaperError:
    """An error that the paper reports.

    Attributes:
        top1: Top-1 error in percent; `None` if only the top-5 error is reported.
        top5: Top-5 error in percent; `None` if only the top-1 error is reported.
        where: Table of the paper, and remarks.
    """

    top1: float | None
    top5: float | None = None
    where: str = ""

    def __str__(self) -> str:
        top1 = [] if self.top1 is None else [f"{self.top1:.2f}"]
        top5 = [] if self.top5 is None else [f"{self.top5:.2f} top-5"]
        return f"{' / '.join(top1 + top5)} ({self.where})"


def _published(recipe: str, model: str, top5: float | None = None, where: str | None = None) -> PaperError:
    known = PUBLISHED[recipe, model]
    return PaperError(known.error, top5, where or known.source.partition(", ")[2])


PAPER_MULTIPLY_ADDS = {
    "resnet18": 1.8e9,
    "resnet34": 3.6e9,
    "resnet50": 3.8e9,
    "resnet101": 7.6e9,
    "resnet152": 11.3e9,
    "plainnet18": 1.8e9,
    "plainnet34": 3.6e9,
}
"""FLOPs of Table 1, which are multiply-adds."""

PAPER_PARAMETERS = {name: size for name, size in SIZES.items() if "1512.03385" in size.source}
"""Parameters of Table 6."""

PAPER_NETWORKS = (*PAPER_MULTIPLY_ADDS, *PAPER_PARAMETERS, *(f"plainnet{depth}" for depth in (20, 32, 44, 56, 110)))
"""All networks of the paper, as keys of `ARCHITECTURES`."""

PAPER_CIFAR10 = {
    **{f"ResNet-{depth}": _published("cifar10", f"resnet{depth}") for depth in (20, 32, 44, 56, 1202)},
    "ResNet-110": _published("cifar10", "resnet110", where="Table 6, the best of 6.61 ± 0.16 over 5 runs"),
}
"""Errors on CIFAR-10's test images. Those of the plain networks are in Fig. 6 alone: of 110 layers over 60 %."""

PAPER_TEN_CROP = {
    "plain-18": _published("imagenet", "plainnet18", where="Table 2"),
    "plain-34": _published("imagenet", "plainnet34", 10.02),
    "ResNet-18 A": _published("imagenet", "resnet18", where="Table 2"),
    "ResNet-34 A": PaperError(25.03, 7.76, "Table 3"),
    "ResNet-34 B": _published("imagenet", "resnet34", 7.46, "Table 3"),
    "ResNet-34 C": PaperError(24.19, 7.40, "Table 3"),
    "ResNet-50": _published("imagenet", "resnet50", 6.71, "Table 3"),
    "ResNet-101": _published("imagenet", "resnet101", 6.05, "Table 3"),
    "ResNet-152": _published("imagenet", "resnet152", 5.71, "Table 3"),
}
"""10-crop errors on ImageNet's validation images."""

PAPER_MULTI_SCALE = {
    name: PaperError(top1, top5, "Table 4")
    for name, top1, top5 in (
        ("ResNet-34 B", 21.84, 5.71),
        ("ResNet-34 C", 21.53, 5.60),
        ("ResNet-50", 20.74, 5.25),
        ("ResNet-101", 19.87, 4.60),
        ("ResNet-152", 19.38, 4.49),
    )
}
"""Errors of single networks on ImageNet's validation images, fully convolutional at five scales."""

PAPER_ENSEMBLE = PaperError(None, 3.57, "Table 5, ImageNet's test images, six networks")
"""Error of the paper's ensemble at five scales."""


@dataclass(frozen=True)
class PaperDetection:
    """An average precision that the paper reports for Faster R-CNN.

    Attributes:
        table: Number of the paper's table.
        network: Backbone, and what is added to it.
        train: Images that it is trained on.
        test: Images that it is evaluated on.
        ap50: Mean average precision at an IoU of 0.5, in percent; on PASCAL VOC the set's own.
        ap: Mean over IoUs of 0.5 to 0.95, in percent; `None` on PASCAL VOC.
    """

    table: int
    network: str
    train: str
    test: str
    ap50: float
    ap: float | None = None


PAPER_DETECTION = (
    PaperDetection(7, "VGG-16", "VOC 07+12", "VOC 07 test", 73.2),
    PaperDetection(7, "ResNet-101", "VOC 07+12", "VOC 07 test", 76.4),
    PaperDetection(7, "VGG-16", "VOC 07++12", "VOC 12 test", 70.4),
    PaperDetection(7, "ResNet-101", "VOC 07++12", "VOC 12 test", 73.8),
    PaperDetection(8, "VGG-16", "COCO train", "COCO val", 41.5, 21.2),
    PaperDetection(8, "ResNet-101", "COCO train", "COCO val", 48.4, 27.2),
    PaperDetection(9, "ResNet-101 + box refinement", "COCO train", "COCO val", 49.9, 29.9),
    PaperDetection(9, "ResNet-101 + box refinement + context", "COCO train", "COCO val", 51.1, 30.0),
    PaperDetection(9, "ResNet-101 + refinement + context + scales", "COCO train", "COCO val", 53.8, 32.5),
    PaperDetection(9, "ResNet-101 + refinement + context + scales", "COCO trainval", "COCO test-dev", 55.7, 34.9),
    PaperDetection(9, "three of these networks together", "COCO trainval", "COCO test-dev", 59.0, 37.4),
)
"""Average precision of detectors, Tables 7 to 9."""
