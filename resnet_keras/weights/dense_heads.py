"""Heads of segmentation networks in other libraries, as data: the names of their tensors beside a backbone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resnet_keras.weights.layout import Layout

AUXILIARY_HEAD = "auxiliary_logits"
"""Name of the layer that gives the logits of a second head, which training alone needs."""
OWN_HEAD = r"(aspp|head|auxiliary|decoder\d)_\w+/.*"
"""Pattern of weights in the heads of our own segmentation networks, apart from the logits."""

_FCN_AUXILIARY = (
    (r"aux_classifier\.0", "auxiliary_conv"),
    (r"aux_classifier\.1", "auxiliary_conv_bn"),
    (r"aux_classifier\.4", "auxiliary_logits"),
)

DENSE_HEADS = (
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
    """Returns the tensors of a segmentation head, by `layer/weight` of ours; none if there is no such head.

    Args:
        left: Tensors of a source that belong to no backbone, by their names, with the source's axes.

    Returns:
        For each of our names, the source's name and the array in Keras's order of axes.
    """
    for layout in DENSE_HEADS:
        if not set(layout.anchors) <= left.keys():
            continue
        named = {name: layout.ours(name) for name in left}
        return {ours: (name, layout.to_keras(left[name])) for name, ours in named.items() if ours}
    return {}
