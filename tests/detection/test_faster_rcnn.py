"""Faster R-CNN: sizes, outputs, precision, files, weights; detections of torchvision with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.shapes_only import shapes_only
from helpers.small_detectors import BACKBONE, C4, FPN, inputs, small_detector
from helpers.small_networks import drawn

from resnet_keras.detection import DETECTORS, FasterRCNN
from resnet_keras.networks.builder import build
from resnet_keras.weights.keras_archive import open_archive


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def assert_same(found: dict[str, Any], expected: dict[str, Any], **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, **{"atol": 1e-4, "err_msg": name, **tolerance})


# torchvision's files of COCO; the first counts no fixed batch normalization.
@pytest.mark.parametrize(("name", "expected"), [("fpn", 41_755_286), ("fpn_v2", 43_712_278)])
def test_networks_have_the_published_number_of_parameters(name: str, expected: int) -> None:
    with shapes_only():
        assert trainable(FasterRCNN("resnet50", 90, detector=name)) == expected


def test_detections_are_sorted_and_inside_their_images_without_padding(detector: keras.Model) -> None:
    found = {name: np.asarray(value) for name, value in detector(inputs()).items()}
    assert found["boxes"].dtype == found["scores"].dtype == np.float32
    assert (found["number"] > 1).all()
    for image, (height, width) in enumerate(inputs()["sizes"]):
        number = found["number"][image]
        boxes, scores = found["boxes"][image, :number], found["scores"][image, :number]
        assert boxes.min() >= 0
        assert (boxes.max(axis=0) <= [width, height, width, height]).all()
        assert (np.diff(scores) <= 0).all()
        assert scores[-1] > FPN.least_score
        assert set(found["labels"][image, :number]) <= {0, 1, 2}
        np.testing.assert_array_equal(found["labels"][image, number:], -1)
        np.testing.assert_array_equal(found["boxes"][image, number:], 0)


def test_a_batch_has_the_detections_of_its_images(detector: keras.Model) -> None:
    given = inputs()
    both = detector(given)
    single = small_detector(batch_size=1)
    for image in (0, 1):
        one = single({name: value[image : image + 1] for name, value in given.items()})
        assert_same(one, {name: value[image : image + 1] for name, value in both.items()})


def test_a_network_of_free_size_computes_what_one_of_fixed_size_does(detector: keras.Model) -> None:
    free = FasterRCNN(BACKBONE, 3, detector=FPN)
    free.set_weights(detector.get_weights())
    assert_same(free(inputs()), detector(inputs()))
    wide = np.zeros((1, 32, 160, 3), np.float32), np.int32([[20, 150]])
    assert free({"images": wide[0], "sizes": wide[1]})["boxes"].shape == (1, 20, 4)


@pytest.mark.parametrize("row", [FPN, C4], ids=["fpn", "c4"])
def test_a_file_holds_the_whole_detector_and_weights_for_the_same_one(row: Any, tmp_path: Path) -> None:
    model = small_detector(row)
    expected = model(inputs())
    model.save(tmp_path / "model.keras")
    assert_same(open_archive(tmp_path / "model.keras")(inputs()), expected)
    again = FasterRCNN(BACKBONE, 3, detector=row, input_shape=(64, 96, 3), weights=tmp_path / "model.keras")
    assert_same(again(inputs()), expected)
    with pytest.warns(UserWarning, match="has one of 4 classes"):
        more = FasterRCNN(BACKBONE, 5, detector=row, weights=tmp_path / "model.keras")
    for name in ("rpn_conv1", "stage4_block1_conv1"):
        kernels = [flat(each)[name].get_weights()[0] for each in (more, model)]
        np.testing.assert_array_equal(*kernels)


def flat(model: keras.Model) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for layer in model.layers:
        found |= flat(layer) if isinstance(layer, keras.Model) else {layer.name: layer}
    return found


def test_a_backbone_gives_its_weights_to_both_of_its_parts(tmp_path: Path) -> None:
    backbone = drawn(build(BACKBONE, include_top=False))
    backbone.save(tmp_path / "backbone.keras")
    model = FasterRCNN(BACKBONE, 3, detector=C4, backbone_weights=tmp_path / "backbone.keras")
    for name in (layer.name for layer in backbone.layers if layer.weights):
        theirs = backbone.get_layer(name).get_weights()
        for one, other in zip(flat(model)[name].get_weights(), theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_batch_normalization_is_fixed_where_the_row_says_so(detector: keras.Model) -> None:
    norms = [layer for layer in flat(detector).values() if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    assert not any(layer.trainable for layer in norms)
    with shapes_only():
        free = FasterRCNN(BACKBONE, 3, detector=DETECTORS["fpn_v2"].replace(channels=8))
    normalized = {name for name, layer in flat(free).items() if isinstance(layer, keras.layers.BatchNormalization)}
    assert {"fpn_lateral2_bn", "fpn_output5_bn", "box_conv4_bn"} <= normalized
    assert all(flat(free)[name].trainable for name in normalized)


def test_boxes_are_float32_under_a_policy_of_half_precision() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = small_detector()(inputs())
    finally:
        keras.config.set_dtype_policy("float32")
    assert {name: keras.backend.standardize_dtype(value.dtype) for name, value in found.items()} == {
        "boxes": "float32",
        "scores": "float32",
        "labels": "int32",
        "number": "int32",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"input_shape": (100, 128, 3)}, r"multiples of 32.*pad to 128\. Received: \(100, 128, 3\)"),
        ({"backbone": "resnet20"}, "four stages, and its usual strides, such as resnet50. Received: resnet20"),
        ({"classes": 0}, "`classes` of at least 1. Received: 0"),
        ({"weights": "a", "backbone_weights": "b"}, "not both. Received: weights='a', backbone_weights='b'"),
        ({"detector": "fpn_v3"}, "Did you mean fpn_v2"),
        ({"backbone": "resnet51"}, "Did you mean"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FasterRCNN(**arguments)
