"""Heads of segmentation networks and detectors in other libraries, as data: the names of tensors beside a backbone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resnet_keras.weights.layout import Layout

AUXILIARY_HEAD = "auxiliary_logits"
"""Name of the layer that gives the logits of a second head, which training alone needs."""
BOX_OFFSETS = "box_deltas"
"""Name of the layer that gives the offsets of a detector's boxes for each class."""
OWN_HEAD = r"(aspp|head|auxiliary|decoder\d|fpn|rpn|box)_\w+/.*"
"""Pattern of weights in the heads of our own segmentation networks and detectors, apart from the logits."""
FASTER_RCNN = "torchvision Faster R-CNN"

_FLATTENED = "box_dense1/kernel"  # its inputs are regions of 7x7 cells, channels first in PyTorch
_CELLS = 7

_FCN_AUXILIARY = (
    (r"aux_classifier\.0", "auxiliary_conv"),
    (r"aux_classifier\.1", "auxiliary_conv_bn"),
    (r"aux_classifier\.4", "auxiliary_logits"),
)

_FASTER_RCNN = (
    *((rf"backbone\.fpn\.inner_blocks\.{i}{end}", f"fpn_lateral{i + 2}") for i in range(4) for end in (r"\.0", "")),
    *((rf"backbone\.fpn\.inner_blocks\.{i}\.1", f"fpn_lateral{i + 2}_bn") for i in range(4)),
    *((rf"backbone\.fpn\.layer_blocks\.{i}{end}", f"fpn_output{i + 2}") for i in range(4) for end in (r"\.0", "")),
    *((rf"backbone\.fpn\.layer_blocks\.{i}\.1", f"fpn_output{i + 2}_bn") for i in range(4)),
    (r"rpn\.head\.conv(\.0\.0)?", "rpn_conv1"),
    (r"rpn\.head\.conv\.1\.0", "rpn_conv2"),
    (r"rpn\.head\.cls_logits", "rpn_objectness"),
    (r"rpn\.head\.bbox_pred", "rpn_deltas"),
    *((rf"roi_heads\.box_head\.{i}\.0", f"box_conv{i + 1}") for i in range(4)),
    *((rf"roi_heads\.box_head\.{i}\.1", f"box_conv{i + 1}_bn") for i in range(4)),
    (r"roi_heads\.box_head\.(fc6|5)", "box_dense1"),
    (r"roi_heads\.box_head\.fc7", "box_dense2"),
    (r"roi_heads\.box_predictor\.cls_score", "logits"),
    (r"roi_heads\.box_predictor\.bbox_pred", BOX_OFFSETS),
)

DENSE_HEADS = (
    Layout(
        name=FASTER_RCNN,
        axes="torch",
        anchors=("rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight"),
        modules=_FASTER_RCNN,
    ),
    Layout(
        name="torchvision DeepLabV3",
        axes="torch",
        anchors=("classifier.0.convs.4.1.weight", "classifier.0.project.0.weight"),
        modules=(
            *((rf"classifier\.0\.convs\.{i}\.0", f"aspp_conv{i + 1}") for i in range(4)),
            *((rf"classifier\.0\.convs\.{i}\.1", f"aspp_conv{i + 1}_bn") for i in range(4)),
            (r"classifier\.0\.convs\.4\.1", "aspp_pooled_conv"),
            (r"classifier\.0\.convs\.4\.2", "aspp_pooled_conv_bn"),
            (r"classifier\.0\.project\.0", "aspp_projection"),
            (r"classifier\.0\.project\.1", "aspp_projection_bn"),
            (r"classifier\.1", "head_conv"),
            (r"classifier\.2", "head_conv_bn"),
            (r"classifier\.4", "logits"),
            *_FCN_AUXILIARY,
        ),
    ),
    Layout(
        name="torchvision FCN",
        axes="torch",
        anchors=("classifier.0.weight", "classifier.1.running_mean", "classifier.4.weight"),
        modules=(
            (r"classifier\.0", "head_conv"),
            (r"classifier\.1", "head_conv_bn"),
            (r"classifier\.4", "logits"),
            *_FCN_AUXILIARY,
        ),
    ),
    Layout(
        name="segmentation_models_pytorch Unet",
        axes="torch",
        anchors=("decoder.blocks.0.conv1.0.weight", "segmentation_head.0.weight"),
        modules=(
            (r"decoder\.blocks\.(?P<b>\d)\.conv(?P<k>\d)\.0", "decoder{b}_conv{k}"),
            (r"decoder\.blocks\.(?P<b>\d)\.conv(?P<k>\d)\.1", "decoder{b}_conv{k}_bn"),
            (r"segmentation_head\.0", "logits"),
        ),
        first=(1, 0, 1),
    ),
)
"""Heads beside a backbone, the more particular ones first."""


def dense_head(left: Mapping[str, np.ndarray]) -> dict[str, tuple[str, np.ndarray]]:
    """Returns the tensors of the head of a segmentation network or detector, by `layer/weight`; none without one.

    Args:
        left: Tensors of a source that belong to no backbone, by their names, with the source's axes.

    Returns:
        For each of our names, the source's name and the array in Keras's order of axes.
    """
    for layout in DENSE_HEADS:
        if not set(layout.anchors) <= left.keys():
            continue
        named = {name: layout.ours(name) for name in left}
        return {ours: (name, _to_keras(left[name], ours, layout)) for name, ours in named.items() if ours}
    return {}


def has_epsilon_of_0(arrays: Mapping[str, np.ndarray]) -> bool:
    """Returns whether arrays are those of torchvision's file `fasterrcnn_resnet50_fpn_coco` or `maskrcnn`'s.

    torchvision computes these files, of 91 classes with fixed batch normalization, with an epsilon of 0 (its
    `overwrite_eps`). A network of one's own with the same names has 1e-5; files do not tell.
    """
    scores = arrays.get("roi_heads.box_predictor.cls_score.weight")
    fixed = not any(name.endswith("num_batches_tracked") for name in arrays)
    return scores is not None and scores.shape[:1] == (91,) and fixed


def _to_keras(array: np.ndarray, ours: str, layout: Layout) -> np.ndarray:
    array = layout.to_keras(array)
    if ours != _FLATTENED or array.ndim != 2 or array.shape[0] % _CELLS**2:
        return array
    return array.reshape(-1, _CELLS, _CELLS, array.shape[1]).transpose(1, 2, 0, 3).reshape(array.shape)
