"""Our weights under other libraries' names: what is read back is what was written, and what does not fit is refused."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from helpers.foreign_weights import foreign
from helpers.small_networks import drawn

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import FAMILY
from resnet_keras.weights.exported import TARGETS, ExportedWeights, export_weights
from resnet_keras.weights.hub_settings import class_names_of, preprocessing_of_timm, preprocessing_of_transformers
from resnet_keras.weights.imported import ImportedWeights, import_arrays
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.sources import open_weights

CLASSES = ("a", "b", "c", "d", "e")
PHOTOS = Preprocessing(
    image_size=(64, 64), channels=3, mean=(1, 2, 3), std=(50, 60, 70), shorter_side=72, interpolation="bicubic"
)
BASIC = Architecture(stem="imagenet", block="basic", repeats=(1, 1, 1, 1), widths=(64, 128, 256, 512))
SMALL = Architecture(stem="imagenet", block="bottleneck", repeats=(2, 1), widths=(4, 6))
CIFAR = Architecture(stem="cifar", block="basic", repeats=(1, 2, 1), widths=(16, 32, 64), shortcut="A")
V2 = Architecture(
    stem="imagenet", block="bottleneck", repeats=(1, 2), widths=(8, 16), activation="before", stem_width=16
).replace(projection="bare", bottleneck_stride="3x3", first_activation="block", pool_border="edge")
FOUR = SMALL.replace(repeats=(2, 1, 1, 1), widths=(4, 6, 8, 10))
D = FOUR.replace(stem="deep", projection="pooled", bottleneck_stride="3x3", stem_width=8)
D_BASIC = D.replace(block="basic", stem_width=4)
RS = D.replace(stem="strided", widths=(8, 16, 24, 32), se_reduction=4)


@functools.cache
def model_of(row: Architecture, channels: int = 3) -> keras.Model:
    side = 64 if row.stem != "cifar" else 32
    return build(row, input_shape=(side, side, channels), classes=len(CLASSES), classifier_activation=None)


def imported(model: keras.Model, **metadata: Any) -> ImportedWeights:
    return replace(open_weights(model), **{"preprocessing": PHOTOS, "class_names": CLASSES} | metadata)


def written(row: Architecture, layout: str, *, channels: int = 3, **metadata: Any) -> ExportedWeights:
    return export_weights(imported(model_of(row, channels), **metadata), layout)


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        ("torchvision", BASIC),
        pytest.param("timm", BASIC, marks=pytest.mark.slow),
        ("timm", FOUR.replace(bottleneck_stride="3x3", stem_width=64)),
        ("timm", V2),
        pytest.param("timm", V2.replace(block="basic"), marks=pytest.mark.slow),
        ("timm", D),
        pytest.param("timm", D.replace(projection="normalized"), marks=pytest.mark.slow),
        ("timm", RS),
        ("transformers", SMALL),
        ("transformers", SMALL.replace(bottleneck_stride="3x3", repeats=(1, 1))),
        ("transformers", SMALL.replace(block="basic", widths=(4, 6, 8), repeats=(2, 1, 1), stem_width=6)),
        ("pytorch_resnet_cifar10", CIFAR.replace(zero_channels="both_sides")),
        ("pytorch_cifar_models", CIFAR.replace(shortcut="B")),
    ],
)
def test_weights_are_read_back_bit_for_bit(layout: str, row: Architecture) -> None:
    model = drawn(model_of(row))
    found = imported(model)
    exported = export_weights(found, layout)
    assert exported.notes == ()
    assert {array.dtype for array in exported.tensors.values()} == {np.dtype("float32"), np.dtype("int64")}
    stride = {"conventions": replace(found.conventions, zero_channels=None)} if layout == "transformers" else {}
    back = import_arrays(exported.tensors, "back", **stride)
    assert back.unexpected == ()
    assert len(back.ignored) == sum(layer.name.endswith("_bn") for layer in model.layers)  # counters of batches
    other = drawn(keras.models.clone_model(model), 2)
    assert load_weights(other, back).problems == ()
    for received, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize(
    ("layout", "names", "row"),
    [
        ("torchvision", "torchvision", BASIC),
        ("timm", "torchvision", BASIC),
        ("transformers", "transformers", SMALL),
        ("pytorch_resnet_cifar10", "cifar", CIFAR.replace(zero_channels="both_sides")),
        ("pytorch_cifar_models", "torchvision", CIFAR.replace(shortcut="B")),
    ],
)
def test_names_shapes_and_numbers_are_the_librarys(layout: str, names: str, row: Architecture) -> None:
    model = drawn(model_of(row))
    expected = foreign(model, names)
    received = export_weights(imported(model), layout).tensors
    counters = {name for name in received if name.endswith("num_batches_tracked")}
    assert counters == {
        name.replace("running_mean", "num_batches_tracked") for name in expected if name.endswith("running_mean")
    }
    assert set(received) - counters == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(received[name], array)
    assert all(received[name].shape == () and received[name] == 0 for name in counters)


def test_the_classifier_of_timms_v2_is_a_convolution() -> None:
    assert written(V2, "timm").tensors["head.fc.weight"].shape == (5, 64, 1, 1)


@pytest.mark.parametrize(
    ("layout", "row", "said"),
    [
        ("torchvision", CIFAR, "stem='imagenet', instead of 'cifar'. Layouts that fit: pytorch_resnet_cifar10."),
        (
            "torchvision",
            SMALL,
            "bottleneck_stride='3x3' (the stride of bottlenecks), instead of '1x1'. Layouts that fit: transformers.",
        ),
        ("torchvision", BASIC.replace(shortcut=None), "shortcut='B', instead of None. No layout fits."),
        ("torchvision", BASIC.replace(shortcut="A"), "shortcut='B', instead of 'A'. No layout fits."),
        ("torchvision", BASIC.replace(shortcut="C"), "shortcut='B', instead of 'C'. No layout fits."),
        ("torchvision", BASIC.replace(padding="same_tf"), "padding='symmetric' (the padding of kernels with a stride)"),
        ("torchvision", BASIC.replace(basic_stride="conv2"), "basic_stride='conv1' (the stride of basic blocks)"),
        ("torchvision", BASIC.replace(output_stride=16), "output_stride=None, instead of 16. No layout fits."),
        ("torchvision", D, "stem='imagenet', instead of 'deep'. Layouts that fit: timm."),
        (
            "torchvision",
            SMALL.replace(bottleneck_stride="3x3"),
            "planes (64, 128, 256, 512), instead of a stem of 4 channels and planes (4, 6). Layouts that fit: "
            "transformers.",
        ),
        ("timm", V2.replace(first_activation="stem"), "first_activation='block', instead of 'stem'. No layout fits."),
        ("timm", D_BASIC.replace(first_projection=True), "first_projection=False, instead of True"),
        ("timm", SMALL, "bottleneck_stride='3x3' (the stride of bottlenecks), instead of '1x1'"),
        ("timm", SMALL.replace(bottleneck_stride="3x3", stem_width=64), "with four stages, instead of 2"),
        ("timm", RS.replace(widths=(4, 8, 8, 8)), "multiples of 8, instead of [16, 32, 32, 32] / 4. No layout fits."),
        ("transformers", RS, "stem='imagenet', instead of 'strided'. Layouts that fit: timm."),
        ("transformers", SMALL.replace(groups=2), "one group, instead of an expansion of 4 and 2 groups"),
        ("pytorch_resnet_cifar10", CIFAR.replace(widths=(4, 8, 16)), "instead of (4, 8, 16). No layout fits."),
        (
            "pytorch_resnet_cifar10",
            CIFAR.replace(shortcut="B"),
            "shortcut='A', instead of 'B'. Layouts that fit: pytorch_cifar_models.",
        ),
        ("pytorch_cifar_models", FAMILY["resnet8"], "conv_bias=False, instead of True. No layout fits."),
    ],
)  # fmt: skip
def test_a_network_that_a_library_does_not_have_is_refused(layout: str, row: Architecture, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        written(row, layout)
    assert str(raised.value).startswith(f"Expected a network that {layout} has, with ")
    assert said in str(raised.value)


def test_gray_images_and_oblong_ones_are_for_those_who_take_them() -> None:
    gray = Preprocessing(image_size=(64, 64), channels=1, mean=(100,), std=(50,))
    with pytest.raises(ValueError, match=r"for images of 3 channels, instead of 1. Layouts that fit: timm, transforme"):
        written(BASIC, "torchvision", channels=1, preprocessing=gray)
    with pytest.raises(ValueError, match=r"for square images, instead of 64x96 pixels. Layouts that fit: torchvision."):
        written(BASIC, "timm", preprocessing=replace(PHOTOS, image_size=(64, 96), shorter_side=None))


def test_an_unknown_layout_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"one of torchvision, .*Received: 'torchvison'. Did you mean torchvision\?"):
        written(SMALL, "torchvison")


def test_what_is_changed_in_the_weights_is_noted() -> None:
    model = model_of(CIFAR)
    found = imported(model)
    found = replace(
        found,
        conventions=replace(found.conventions, epsilon=1e-3),
        preprocessing=replace(PHOTOS, channel_order="bgr"),
    )
    exported = export_weights(found, "pytorch_resnet_cifar10")
    assert exported.notes == (
        "channels are in another order: option A adds its zero channels on both sides there",
        "an epsilon of 0.001 is 1e-05 there; the difference is in the moving variances",
        "the first convolution takes RGB instead of BGR",
    )
    variance = arrays_of_model(model)["stem_conv_bn/moving_variance"]
    np.testing.assert_allclose(exported.tensors["bn1.running_var"] - variance, 1e-3 - 1e-5, rtol=1e-4)
    kernel = arrays_of_model(model)["stem_conv/kernel"]
    np.testing.assert_array_equal(exported.tensors["conv1.weight"], kernel[:, :, ::-1].transpose(3, 2, 0, 1))


def test_networks_of_several_epsilons_are_refused() -> None:
    model = keras.models.clone_model(model_of(CIFAR))
    model.get_layer("stem_conv_bn").epsilon = 1e-3
    with pytest.raises(ValueError, match="with one epsilon in all batch normalizations, instead of several"):
        export_weights(
            replace(open_weights(model), preprocessing=PHOTOS, class_names=CLASSES), "pytorch_resnet_cifar10"
        )


@pytest.mark.parametrize(
    ("row", "name", "arguments"),
    [
        (BASIC.replace(repeats=(2, 2, 2, 2)), "resnet18", None),
        (BASIC, "resnet18", {"layers": [1, 1, 1, 1]}),
        (V2, "resnetv2_50", {"layers": [1, 2], "channels": [32, 64], "stem_chs": 16}),
        (D, "resnet50d", {"layers": [2, 1, 1, 1], "channels": [4, 6, 8, 10], "stem_width": 4}),
        (RS, "resnetrs50", {"layers": [2, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 4}),
        (
            FOUR.replace(widths=(8, 16, 24, 32), stem_width=64, groups=4, expansion=2).replace(
                bottleneck_stride="3x3", projection="pooled"
            ),
            "resnet50",
            {"layers": [2, 1, 1, 1], "cardinality": 4, "base_width": 32, "channels": [4, 8, 12, 16], "avg_down": True},
        ),
    ],
)  # fmt: skip
def test_timm_is_told_its_name_of_a_network_and_in_what_it_differs(
    row: Architecture, name: str, arguments: dict[str, Any] | None
) -> None:
    settings = written(row, "timm").settings["config.json"]
    assert (settings["architecture"], settings.get("model_args")) == (name, arguments)


def test_the_settings_of_timm_are_complete_and_read_back() -> None:
    settings = json.loads(json.dumps(written(V2, "timm").settings["config.json"]))
    del settings["model_args"]
    assert settings.pop("pretrained_cfg") == {
        "custom_load": False,
        "input_size": [3, 64, 64],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 64 / 72,
        "crop_mode": "center",
        "mean": [1 / 255, 2 / 255, 3 / 255],
        "std": [50 / 255, 60 / 255, 70 / 255],
        "num_classes": 5,
        "pool_size": [8, 8],
        "first_conv": "stem.conv",
        "classifier": "head.fc",
    }
    assert settings == {
        "architecture": "resnetv2_50", "num_classes": 5, "num_features": 64, "label_names": list(CLASSES),
    }  # fmt: skip
    exported = written(BASIC, "timm").settings["config.json"]
    assert preprocessing_of_timm(exported) == replace(
        PHOTOS, mean=tuple(255 * (v / 255) for v in PHOTOS.mean), std=tuple(255 * (v / 255) for v in PHOTOS.std)
    )
    assert class_names_of(exported) == CLASSES


def test_the_settings_of_transformers_are_complete_and_read_back() -> None:
    exported = written(SMALL, "transformers")
    assert exported.settings["config.json"] == {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": 3,
        "embedding_size": 4,
        "hidden_sizes": [16, 24],
        "depths": [2, 1],
        "layer_type": "bottleneck",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": True,
        "dtype": "float32",
        "id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"},
        "label2id": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4},
    }
    back = preprocessing_of_transformers(exported.settings["preprocessor_config.json"])
    assert back is not None
    np.testing.assert_allclose(back.mean, PHOTOS.mean)
    np.testing.assert_allclose(back.std, PHOTOS.std)
    assert replace(back, mean=PHOTOS.mean, std=PHOTOS.std) == PHOTOS
    assert class_names_of(exported.settings["config.json"]) == CLASSES


def test_timm_resizes_to_the_very_pixels_that_the_preprocessing_says() -> None:
    for side in range(16, 400):
        for resized in (side, side + 1, side * 8 // 7, side + 32):
            photos = replace(PHOTOS, image_size=(side, side), shorter_side=resized)
            found = _crop(photos)
            assert int(np.floor(side / found)) == resized


def _crop(photos: Preprocessing) -> float:
    from resnet_keras.weights.library_networks import timm_settings

    return timm_settings(BASIC, photos, CLASSES, first="", head="")["pretrained_cfg"]["crop_pct"]


@pytest.mark.parametrize(
    ("layout", "row", "code"),
    [
        (
            "torchvision",
            BASIC,
            "torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5)",
        ),
        ("torchvision", BASIC.replace(repeats=(2, 2, 2, 2)), "torchvision.models.resnet18(num_classes=5)"),
        ("pytorch_resnet_cifar10", CIFAR, "ResNet(BasicBlock, [1, 2, 1], num_classes=5)"),
        ("pytorch_cifar_models", CIFAR.replace(shortcut="B"), "CifarResNet(BasicBlock, [1, 2, 1], num_classes=5)"),
    ],
)  # fmt: skip
def test_the_code_builds_the_librarys_network(layout: str, row: Architecture, code: str) -> None:
    assert written(row, layout).code.startswith(f"model = {code}; model.load_state_dict(")


def test_every_target_is_a_library_in_the_table_of_layouts() -> None:
    from resnet_keras.weights.layouts import LAYOUTS

    libraries = {library for layout in LAYOUTS for library in layout.name.split(", ")}
    assert {target.library for target in TARGETS.values()} <= libraries


def test_backbones_are_refused() -> None:
    model = build(SMALL, include_top=False)
    with pytest.raises(ValueError, match="with preprocessing and class names"):
        export_weights(open_weights(model), "transformers")
