"""Faster R-CNN (arXiv:1506.01497) as a functional Keras model over any network of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import keras

from resnet_keras.applications.named_networks import build_with_weights, check_one_source, network_and_weights
from resnet_keras.checks.fields import check_counts, suggest_arguments
from resnet_keras.detection.catalog import DetectorArchitecture, detector_architecture
from resnet_keras.detection.context_layers import ImageBoxes
from resnet_keras.detection.region_heads import box_head, conv5_head, feature_pyramid, proposal_network
from resnet_keras.detection.region_layers import Detections, Proposals, RoIAlign
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import architecture
from resnet_keras.surgery.cloning import transfer
from resnet_keras.surgery.feature_maps import features, split
from resnet_keras.surgery.freezing import freeze
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.loading import load_weights

Weights: TypeAlias = "str | Path | keras.Model | ImportedWeights | None"

PYRAMID_STRIDE = 32
"""Height and width of images for a feature pyramid are multiples of it."""


@suggest_arguments
def FasterRCNN(
    backbone: str | Architecture = "resnet50",
    classes: int = 20,
    *,
    detector: str | DetectorArchitecture = "fpn",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    batch_size: int | None = None,
    weights: Weights = None,
    backbone_weights: Weights = None,
    name: str | None = None,
) -> keras.Model:
    """Returns a Faster R-CNN: with a feature pyramid as torchvision has it, or on C4 as in arXiv:1512.03385.

    The model is for inference. Training runs its two stages with sampled regions between them; `detector_parts` returns
    the stages, which share all layers with the model.

    Example:
        >>> model = resnet_keras.detection.FasterRCNN("resnet50", 90, weights="fasterrcnn_resnet50_fpn_coco.pth")
        >>> found = model({"images": images, "sizes": sizes})

    Args:
        backbone: Name of a network of this package with ImageNet's stem and four stages, or its `Architecture`.
        classes: Number of classes without background: VOC has 20, and torchvision's files of COCO have 90.
        detector: A row of `DETECTORS`, "fpn", "fpn_v2", or "c4", or its `DetectorArchitecture`.
        input_shape: Height and width in pixels, and channels. A height or width of `None` is free. With a feature
            pyramid, both have to be multiples of 32.
        batch_size: Images of a batch; `None` leaves it free. At 1, non-maximum suppression needs no loop.
        weights: Weights of the whole network: a file of this package or of torchvision, or a model; see
            `resnet_keras.weights.open_weights`. With another number of classes, classifier and boxes are new.
        backbone_weights: Weights of the backbone alone, such as "imagenet"; not with `weights`.
        name: Name of the model.

    Returns:
        A functional model of a dictionary: `images`, normalized (N, H, W, C), and `sizes`, the height and width of each
        without its padding at the right and the bottom, int32 (N, 2). It returns a dictionary: `boxes`, float32
        (N, detections, 4), left, top, right, and bottom edge in pixels; `scores`, float32 (N, detections), falling;
        `labels`, int32 (N, detections), 0 for the first class; and `number`, int32 (N,), the detections of each image.

    Raises:
        ValueError: An argument is out of its range, the backbone has no map that is needed, or weights do not fit.
        FileNotFoundError: A file of weights does not exist.
    """
    check_counts(classes=classes, batch_size=batch_size)
    row = detector_architecture(detector) if isinstance(detector, str) else detector
    _check(row, architecture(backbone) if isinstance(backbone, str) else backbone, input_shape)
    check_one_source(weights, backbone_weights)
    network, found = network_and_weights(backbone, weights)
    images = keras.Input(input_shape, batch_size=batch_size, name="images")
    body = build_with_weights(
        network if found is not None else backbone,
        include_top=False,
        weights=backbone_weights,
        input_tensor=images,
    )
    sizes = keras.Input((2,), batch_size=batch_size, dtype="int32", name="sizes")
    if found is None and row.neck == "c4":  # conv5_x is built apart
        network, _ = network_and_weights(backbone, backbone_weights)
    outputs = _detect(body, network, row, classes, images, sizes)
    model = keras.Model({"images": images, "sizes": sizes}, outputs, name=name or f"faster_rcnn_{network.name}")
    if found is not None:
        load_weights(model, found)
    model.preprocessing = getattr(body if found is None else found, "preprocessing", None)
    if row.frozen_batch_norm:
        freeze(model, batch_norms=True)
    return model


def _detect(
    body: keras.Model, network: Architecture, row: DetectorArchitecture, classes: int, images: Any, sizes: Any
) -> dict[str, Any]:
    """Returns the detections in images, from the maps of a backbone that is built on them."""
    if row.neck == "fpn":
        maps = features(body).output
        pyramid = feature_pyramid([maps[f"C{level}"] for level in (2, 3, 4, 5)], row, network)
        entering, pooled = pyramid, pyramid[:-1]
        head = box_head(row.channels, classes, row, network)
    else:
        entering = pooled = [split(body, "C4")[0].output]
        head = conv5_head(_conv5(body, network), classes, row)
    objectness, deltas = proposal_network(entering, row)
    proposals, number = Proposals(
        row.anchor_sizes,
        row.anchor_ratios,
        row.proposals_before,
        row.proposals,
        row.proposal_iou,
        row.proposal_side,
        name="proposals",
    )(objectness, deltas, images, sizes)
    options = row.strides, row.roi_size, row.roi_samples, row.roi_aligned
    regions = RoIAlign(*options, name="roi_align")(pooled, proposals)
    if row.global_context:
        whole = ImageBoxes(name="image_boxes")(sizes)
        regions = {"regions": regions, "context": RoIAlign(*options, name="context_align")(pooled, whole)}
    found = head(regions)
    detections = Detections(row.detections, row.detection_iou, row.least_score, row.box_weights, name="detections")
    return detections(found["logits"], found["deltas"], proposals, number, sizes)


def _conv5(body: keras.Model, network: Architecture) -> keras.Model:
    """Returns conv5_x with the weights of a backbone, for regions, whose size is not that of the backbone's maps."""
    free = build(network, include_top=False, input_shape=(None, None, body.input_shape[-1]))
    transfer(body, free)
    return split(free, "C4")[1]


def _check(row: DetectorArchitecture, network: Architecture, input_shape: tuple[int | None, int | None, int]) -> None:
    if network.stem == "cifar" or len(network.repeats) != 4 or network.conventions.output_stride is not None:
        raise ValueError(
            "Expected a backbone with ImageNet's stem, four stages, and its usual strides, such as resnet50. Received: "
            f"{network.name}"
        )
    for side in input_shape[:2]:
        if row.neck == "fpn" and side is not None and (side < 1 or side % PYRAMID_STRIDE):
            raise ValueError(
                f"Expected a height and width of `input_shape` that are multiples of {PYRAMID_STRIDE}, or the maps of "
                f"the pyramid do not fit each other; pad to {-(-max(side, 1) // PYRAMID_STRIDE) * PYRAMID_STRIDE}. "
                f"Received: {input_shape}"
            )
