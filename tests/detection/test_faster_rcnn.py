"""Faster R-CNN: sizes, outputs, precision, files, weights; detections of torchvision with its weights."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.shapes_only import shapes_only
from helpers.small_detectors import BACKBONE, C4, FPN, inputs, small_detector
from helpers.small_networks import FOUR_STAGES, drawn

from resnet_keras.detection import DETECTORS, FasterRCNN
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
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


@pytest.mark.parametrize("row", [FPN, pytest.param(C4, marks=pytest.mark.slow)], ids=["fpn", "c4"])
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


def test_a_backbone_gives_its_weights_and_conventions_to_both_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "little", FOUR_STAGES)
    backbone = drawn(build(FOUR_STAGES.replace(bottleneck_stride="3x3", epsilon=0.1), include_top=False))
    backbone.save(tmp_path / "backbone.keras")
    found = flat(FasterRCNN("little", 3, detector=C4, backbone_weights=tmp_path / "backbone.keras"))
    for layer in (layer for layer in backbone.layers if layer.weights):
        for one, other in zip(found[layer.name].get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert [found[f"stage4_block1_conv{k}"].strides for k in (1, 2)] == [(1, 1), (2, 2)]
    assert {found[name].epsilon for name in ("stem_conv_bn", "stage4_block2_conv3_bn")} == {0.1}


def test_a_pyramid_doubles_its_maps_by_nearest_neighbors(detector: keras.Model) -> None:
    # torchvision's F.interpolate(mode="nearest"), whose weights expect it.
    doubled = [layer for layer in detector.layers if isinstance(layer, keras.layers.UpSampling2D)]
    assert [(layer.interpolation, layer.size) for layer in doubled] == [("nearest", (2, 2))] * 3


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


# A process of its own, because PyTorch and TensorFlow do not always bear each other in one.
THEIRS = """
import sys
import numpy as np
import torch
from torchvision.models import detection

name, folder = sys.argv[1:]
torch.manual_seed(1)
model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=21, min_size=192, max_size=300)
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):  # statistics that are not trivial
        module.running_mean.normal_(0, 0.1)
        module.running_var.uniform_(0.5, 1.5)
        module.weight.data.uniform_(0.5, 1.0)
        module.bias.data.normal_(0, 0.1)
proposing, predicting = model.rpn.head, model.roi_heads.box_predictor
scaled = (proposing.cls_logits, 30), (proposing.bbox_pred, 3), (predicting.cls_score, 6), (predicting.bbox_pred, 4)
for layer, factor in scaled:
    layer.weight.data *= factor  # scores that differ, boxes that move
torch.save(model.state_dict(), f"{folder}/model.pth")
model.eval()
given = [torch.rand(3, *size) for size in ((120, 160), (200, 130), (192, 300), (90, 320))]
saved = {}
for number, images in enumerate([[each] for each in given] + [given[:2]]):
    with torch.inference_mode():
        batch, _ = model.transform(images)
        found = model(images)
    saved[f"images{number}"] = batch.tensors.permute(0, 2, 3, 1).numpy()
    saved[f"sizes{number}"] = np.int32(batch.image_sizes)
    for place, (image, each) in enumerate(zip(images, found)):
        height, width = image.shape[-2:]
        scale = np.float32(batch.image_sizes[place]) / np.float32([height, width])
        saved[f"pixels{number}_{place}"] = image.permute(1, 2, 0).numpy()
        saved[f"boxes{number}_{place}"] = each["boxes"].numpy()
        saved[f"on_canvas{number}_{place}"] = each["boxes"].numpy() * np.tile(scale[::-1], 2)
        saved[f"scores{number}_{place}"] = each["scores"].numpy()
        saved[f"labels{number}_{place}"] = each["labels"].numpy()
np.savez(f"{folder}/found.npz", **saved)
"""


def torchvision_detections(name: str, folder: Path) -> dict[str, np.ndarray]:
    """Detections of torchvision's network with random weights and statistics, which it leaves in `folder`."""
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", THEIRS, name, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as found:
        return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fpn", "fpn_v2"])
def test_all_detections_are_torchvisions_at_every_size_and_in_a_batch(name: str, tmp_path: Path) -> None:
    theirs = torchvision_detections(f"fasterrcnn_resnet50_{name}", tmp_path)
    model = FasterRCNN("resnet50", 20, detector=name, weights=tmp_path / "model.pth")
    for batch in range(5):
        sizes = theirs[f"sizes{batch}"]
        found = {k: np.asarray(v) for k, v in model({"images": theirs[f"images{batch}"], "sizes": sizes}).items()}
        for image, number in enumerate(found["number"]):
            expected = {kind: theirs[f"{kind}{batch}_{image}"] for kind in ("on_canvas", "scores", "labels")}
            assert number == len(expected["scores"]) > 20
            np.testing.assert_array_equal(found["labels"][image, :number] + 1, expected["labels"])
            np.testing.assert_allclose(found["scores"][image, :number], expected["scores"], atol=1e-5)
            np.testing.assert_allclose(found["boxes"][image, :number], expected["on_canvas"], atol=1e-2)
