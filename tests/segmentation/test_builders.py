"""FCN, DeepLabV3, and U-Net: sizes, shapes, files, and parity with torchvision and segmentation_models_pytorch."""

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
from helpers.small_networks import FOUR_STAGES, drawn, images

from resnet_keras.networks.builder import build
from resnet_keras.segmentation import FCN, DeepLabV3, UNet

BUILDERS = {"fcn": FCN, "deeplabv3": DeepLabV3, "unet": UNet}


def parameters(model: keras.Model) -> int:
    """Parameters without moving statistics, as PyTorch counts."""
    statistics = (layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    return model.count_params() - sum(2 * layer.moving_mean.shape[0] for layer in statistics)


# torchvision's files of COCO with VOC's labels, auxiliary head included; segmentation_models_pytorch's with one class.
@pytest.mark.parametrize(
    ("builder", "backbone", "options", "expected"),
    [
        (FCN, "resnet50", {"auxiliary": True}, 35_322_218),
        pytest.param(FCN, "resnet101", {"auxiliary": True}, 54_314_346, marks=pytest.mark.slow),
        (DeepLabV3, "resnet50", {"auxiliary": True}, 42_004_074),
        pytest.param(DeepLabV3, "resnet101", {"auxiliary": True}, 60_996_202, marks=pytest.mark.slow),
        (UNet, "resnet18", {"classes": 1}, 14_328_209),
        pytest.param(UNet, "resnet34", {"classes": 1}, 24_436_369, marks=pytest.mark.slow),
        (UNet, "resnet50", {"classes": 1}, 32_521_105),
    ],
)
def test_networks_have_the_published_number_of_parameters(
    builder: Any, backbone: str, options: dict[str, Any], expected: int
) -> None:
    with shapes_only():
        assert parameters(builder(backbone, **options)) == expected


@pytest.mark.parametrize("kind", BUILDERS)
def test_logits_of_each_pixel_are_float32_under_every_policy(kind: str) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = BUILDERS[kind](FOUR_STAGES, 5, input_shape=(32, 64, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    found = model(images(2, 32, 64, 3))
    assert found.shape == (2, 32, 64, 5)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_network_of_free_size_computes_what_one_of_fixed_size_does(kind: str) -> None:
    fixed = drawn(BUILDERS[kind](FOUR_STAGES, 5, input_shape=(32, 64, 3), classifier_activation="softmax"))
    free = BUILDERS[kind](FOUR_STAGES, 5, classifier_activation="softmax")
    free.set_weights(fixed.get_weights())
    x = images(2, 32, 64, 3)
    found = np.asarray(fixed(x))
    np.testing.assert_allclose(free(x), found, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    assert free(images(1, 96, 32, 3)).shape == (1, 96, 32, 5)


@pytest.mark.parametrize("kind", ["fcn", "deeplabv3"])
def test_a_second_head_is_on_c4(kind: str) -> None:
    model = BUILDERS[kind](FOUR_STAGES, 5, input_shape=(37, 50, 3), auxiliary=True)
    found = model(images(1, 37, 50, 3))
    assert {name: tensor.shape for name, tensor in found.items()} == {
        "logits": (1, 37, 50, 5),
        "auxiliary_logits": (1, 37, 50, 5),
    }
    before = model.get_layer("auxiliary_conv").input
    assert before is model.get_layer(f"stage3_block{FOUR_STAGES.repeats[2]}_relu").output


def test_a_pyramid_of_output_stride_16_has_half_the_rates() -> None:
    for stride, rates in ((8, [12, 24, 36]), (16, [6, 12, 18])):
        with shapes_only():
            model = DeepLabV3(FOUR_STAGES, 3, output_stride=stride)
        assert [model.get_layer(f"aspp_conv{k}").dilation_rate[0] for k in (2, 3, 4)] == rates


def test_a_file_has_layers_of_keras_alone_and_weights_for_the_same_network(tmp_path: Path) -> None:
    model = drawn(DeepLabV3(FOUR_STAGES, 4, input_shape=(24, 40, 3), auxiliary=True))
    model.save(tmp_path / "model.keras")
    x = images(1, 24, 40, 3)
    expected = model(x)["logits"]
    modules = {type(layer).__module__ for layer in model.layers}
    assert all(name.startswith("keras.") for name in modules), modules
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "model.keras")(x)["logits"], expected, atol=1e-6)
    again = DeepLabV3(FOUR_STAGES, 4, input_shape=(24, 40, 3), weights=tmp_path / "model.keras")
    np.testing.assert_allclose(again(x), expected, atol=1e-6)
    with pytest.warns(UserWarning, match="has one of 4 classes"):
        fewer = DeepLabV3(FOUR_STAGES, 2, weights=tmp_path / "model.keras", auxiliary=True)
    np.testing.assert_array_equal(
        fewer.get_layer("head_conv").get_weights()[0], model.get_layer("head_conv").get_weights()[0]
    )


def test_a_backbone_gives_its_weights_to_the_encoder(tmp_path: Path) -> None:
    backbone = drawn(build(FOUR_STAGES, include_top=False))
    backbone.save(tmp_path / "backbone.keras")
    model = UNet(FOUR_STAGES, 3, backbone_weights=tmp_path / "backbone.keras")
    # As segmentation_models_pytorch does, whose weights expect it.
    doubled = [layer for layer in model.layers if isinstance(layer, keras.layers.UpSampling2D)]
    assert [(layer.interpolation, layer.size) for layer in doubled] == [("nearest", (2, 2))] * 5
    names = {layer.name for layer in backbone.layers if layer.weights}
    for name in names:
        for one, other in zip(model.get_layer(name).get_weights(), backbone.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("builder", "arguments", "said"),
    [
        (UNet, {"input_shape": (100, 128, 3)}, r"multiples of 32.*pad or resize to 96\. Received: \(100, 128, 3\)"),
        (UNet, {"backbone": "resnet20"}, "with a map C5: .*such as resnet18. Received: resnet20, with C2, C3, C4"),
        (FCN, {"classes": 0}, "`classes` to be at least 1. Received: 0"),
        (FCN, {"weights": "a", "backbone_weights": "b"}, "not both. Received: weights='a', backbone_weights='b'"),
        (DeepLabV3, {"output_stride": 7}, "output_stride"),
        (FCN, {"backbone": "resnet51"}, "Did you mean"),
    ],
)
def test_arguments_that_cannot_be_are_refused(builder: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        builder(**arguments)


# A process of its own, because PyTorch and TensorFlow do not always bear each other in one.
THEIRS = """
import sys
import numpy as np
import torch

library, name, classes, folder = sys.argv[1:]
torch.manual_seed(0)
if library == "torchvision":
    from torchvision.models import segmentation
    model = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=int(classes), aux_loss=True)
else:
    import segmentation_models_pytorch
    model = segmentation_models_pytorch.Unet(name, encoder_weights=None, classes=int(classes))
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):  # statistics that are not trivial
        module.running_mean.normal_(0, 0.1)
        module.running_var.uniform_(0.5, 1.5)
        module.weight.data.uniform_(0.5, 1.0)
        module.bias.data.normal_(0, 0.1)
torch.save(model.state_dict(), f"{folder}/model.pth")
x = torch.from_numpy(np.load(f"{folder}/x.npy").transpose(0, 3, 1, 2).copy())
with torch.inference_mode():
    found = model.eval()(x)
found = found if isinstance(found, dict) else {"out": found}
np.savez(f"{folder}/found.npz", **{key: value.permute(0, 2, 3, 1).numpy() for key, value in found.items()})
"""


def logits_of(library: str, name: str, classes: int, x: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    """Logits of a library's network with random weights and statistics, which it leaves in `folder`."""
    for package in ("torch", library):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    np.save(folder / "x.npy", x)
    command = [sys.executable, "-c", THEIRS, library, name, str(classes), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as found:
        return dict(found)


def assert_equal_to_rounding(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"])
def test_weights_of_torchvision_give_its_logits(kind: str, tmp_path: Path) -> None:
    head, backbone = kind.split("_")
    x = images(1, 100, 132, 3)
    expected = logits_of("torchvision", kind, 12, x, tmp_path)
    ours = BUILDERS[head](backbone, 12, input_shape=(100, 132, 3), auxiliary=True, weights=tmp_path / "model.pth")
    found = ours(x)
    assert_equal_to_rounding(found["logits"], expected["out"])
    assert_equal_to_rounding(found["auxiliary_logits"], expected["aux"])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_weights_of_segmentation_models_pytorch_give_its_logits(backbone: str, tmp_path: Path) -> None:
    x = images(1, 96, 128, 3)
    expected = logits_of("segmentation_models_pytorch", backbone, 7, x, tmp_path)
    ours = UNet(backbone, 7, weights=tmp_path / "model.pth")
    assert_equal_to_rounding(ours(x), expected["out"])
