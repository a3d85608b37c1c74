"""Heads of detectors under torchvision's names: new and old names, order of axes, epsilon, and the report."""

from __future__ import annotations

import re
from collections.abc import Mapping

import keras
import numpy as np
import pytest
from helpers.small_detectors import BACKBONE, FPN, inputs, small_detector
from helpers.small_networks import drawn

from resnet_keras.detection import DETECTORS, FasterRCNN
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.builder import build
from resnet_keras.weights.imported import import_arrays
from resnet_keras.weights.loading import load_weights

V2 = DETECTORS["fpn_v2"].replace(
    channels=8,
    box_units=16,
    anchor_sizes=FPN.anchor_sizes,
    proposals_before=FPN.proposals_before,
    proposals=FPN.proposals,
)
_KINDS = {
    **{"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}
_MODULES = (
    (r"stem_conv", "backbone.body.conv1"),
    (r"stem_conv_bn", "backbone.body.bn1"),
    (r"stage(\d)_block1_conv(\d)", r"backbone.body.layer\1.0.conv\2"),
    (r"stage(\d)_block1_conv(\d)_bn", r"backbone.body.layer\1.0.bn\2"),
    (r"stage(\d)_block1_projection", r"backbone.body.layer\1.0.downsample.0"),
    (r"stage(\d)_block1_projection_bn", r"backbone.body.layer\1.0.downsample.1"),
    *((rf"fpn_lateral{i}(_bn)?", rf"backbone.fpn.inner_blocks.{i - 2}.\1") for i in range(2, 6)),
    *((rf"fpn_output{i}(_bn)?", rf"backbone.fpn.layer_blocks.{i - 2}.\1") for i in range(2, 6)),
    *((rf"rpn_conv{i}", f"rpn.head.conv.{i - 1}.0") for i in (1, 2)),
    (r"rpn_objectness", "rpn.head.cls_logits"),
    (r"rpn_deltas", "rpn.head.bbox_pred"),
    *((rf"box_conv{i}(_bn)?", rf"roi_heads.box_head.{i - 1}.\1") for i in range(1, 5)),
    (r"logits", "roi_heads.box_predictor.cls_score"),
    (r"box_deltas", "roi_heads.box_predictor.bbox_pred"),
)


def torchvision_arrays(model: keras.Model, dense: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The weights of a detector under torchvision's names and with its axes; `dense` are those of the dense layers."""
    modules = (*_MODULES, *((rf"box_dense{i + 1}", f"roi_heads.box_head.{name}") for i, name in enumerate(dense)))
    arrays = {}
    for layer in flat_layers(model):
        for weight in layer.weights:
            (name,) = (
                re.sub(pattern, name, layer.name) for pattern, name in modules if re.fullmatch(pattern, layer.name)
            )
            if name.startswith(("backbone.fpn", "roi_heads.box_head")) and name.endswith((".", "_bn")):
                name = name.removesuffix("_bn") + ("1" if name.endswith("_bn") else "0")
            array = np.asarray(weight)
            if array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)
            elif layer.name == "box_dense1" and array.ndim == 2:  # channels first, and then rows and columns
                array = array.T.reshape(-1, 7, 7, array.shape[0] // 49).transpose(0, 3, 1, 2).reshape(array.T.shape)
            elif array.ndim == 2:
                array = array.T
            arrays[f"{name}.{_KINDS[weight.name]}"] = array
    return arrays


def with_old_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Torchvision's names before 0.14, those of its files."""
    old = {}
    for name, array in arrays.items():
        name = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0", r"\1.\2", name)
        old[name.replace("rpn.head.conv.0.0", "rpn.head.conv")] = array
    return old


@pytest.mark.parametrize("names", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("new", "old")), "v2"])
def test_torchvisions_names_give_every_weight_of_a_detector(names: str) -> None:
    row = V2 if names == "v2" else FPN
    model = small_detector(row)
    arrays = torchvision_arrays(model, ("5",) if names == "v2" else ("fc6", "fc7"))
    found = import_arrays(with_old_names(arrays) if names == "old" else arrays, "model.pth")
    again = FasterRCNN(BACKBONE, 3, detector=row, input_shape=(64, 96, 3))
    report = load_weights(again, found)
    assert len(report.matched) == len(arrays) == len(model.weights)
    assert not report.problems
    expected = model(inputs())
    for name, value in again(inputs()).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4)


def test_a_backbone_takes_its_part_of_a_detector_and_reports_the_rest() -> None:
    arrays = torchvision_arrays(small_detector(), ("fc6", "fc7"))
    report = load_weights(build(BACKBONE, include_top=False), import_arrays(arrays, "model.pth"))
    assert all(name.startswith("backbone.body.") for name in report.matched)
    assert {name.split(".")[0] for name in report.ignored} == {"backbone", "rpn", "roi_heads"}
    assert any("passed over" in note for note in report.notes)


@pytest.mark.parametrize(("classes", "counters", "epsilon"), [(90, False, 0.0), (90, True, 1e-5), (20, False, 1e-5)])
def test_files_of_91_classes_with_fixed_normalization_have_an_epsilon_of_0(
    classes: int, counters: bool, epsilon: float
) -> None:
    model = drawn(FasterRCNN(BACKBONE, classes, detector=FPN))
    arrays = torchvision_arrays(model, ("fc6", "fc7"))
    if counters:
        arrays["backbone.body.bn1.num_batches_tracked"] = np.int64(3)
    report = load_weights(model, import_arrays(arrays, "coco.pth"))
    norms = [layer for layer in flat_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.epsilon for layer in norms} == {epsilon}
    assert any("epsilon of batch normalization is 0" in note for note in report.notes) == (epsilon == 0)
