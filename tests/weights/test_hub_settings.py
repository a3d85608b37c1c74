"""What hubs keep beside weights: preprocessing and classes of timm, transformers and KerasHub, or why it is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from helpers.foreign_weights import SMALL, foreign, network, write_folder, zeros

from resnet_keras.data import class_names
from resnet_keras.data.image_ops import crop, normalize
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.hub_settings import conventions_of_keras_hub
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.sources import open_weights

BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 1), widths=(4, 6))
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


@pytest.fixture(scope="module")
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")


@pytest.fixture(scope="module")
def keras_hub() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras_hub", reason="KerasHub is not installed: nothing to compare with")


def summary(conventions: Conventions) -> tuple[str | None, str | None, float | None]:
    return conventions.bottleneck_stride, conventions.zero_channels, conventions.epsilon


# Folders of the hub. Their settings are those of timm/resnet18.tv_in1k and microsoft/resnet-50.


TIMM = {
    "architecture": "resnet18",
    "num_classes": 1000,
    "num_features": 512,
    "pretrained_cfg": {
        "tag": "tv_in1k",
        "custom_load": False,
        "input_size": [3, 224, 224],
        "fixed_input_size": False,
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 1000,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
    },
}
RESNET_CONFIG = {
    "architectures": ["ResNetForImageClassification"],
    "depths": [1, 1],
    "downsample_in_first_stage": False,
    "embedding_size": 4,
    "hidden_act": "relu",
    "hidden_sizes": [16, 24],
    "layer_type": "bottleneck",
    "model_type": "resnet",
    "num_channels": 3,
}
PROCESSOR = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "image_processor_type": "ConvNextImageProcessor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"shortest_edge": 224},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"image_size": (224, 224), "shorter_side": 256, "interpolation": "bilinear"}),
        ({"interpolation": "bicubic", "crop_pct": 0.95}, {"shorter_side": 235, "interpolation": "bicubic"}),
        ({"input_size": [3, 288, 288], "crop_pct": 1.0}, {"image_size": (288, 288), "shorter_side": 288}),
        ({"input_size": [3, 160, 224], "crop_pct": None}, {"image_size": (160, 224), "shorter_side": 224}),
        ({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}, {"mean": (127.5,) * 3, "std": (127.5,) * 3}),
    ],
)
def test_the_preprocessing_is_read_from_a_folder_of_timm(
    tmp_path: Path, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = TIMM | {"pretrained_cfg": TIMM["pretrained_cfg"] | changes}
    found = open_weights(write_folder(tmp_path / "x", foreign(zeros(BOTTLENECK), "torchvision"), config=config))
    usual = {"image_size": (224, 224), "channels": 3, "shorter_side": 256, "interpolation": "bilinear", **IMAGENET}
    received = found.preprocessing.to_json() | {"mean": None, "std": None}
    assert received == Preprocessing(**usual | expected).to_json() | {"mean": None, "std": None}
    for field in ("mean", "std"):
        np.testing.assert_allclose(getattr(found.preprocessing, field), (usual | expected)[field], rtol=1e-6)
    assert summary(found.conventions) == ("3x3", "both_sides", 1e-5)
    assert found.notes == ("1000 classes are taken for ImageNet's",)


def test_class_names_are_read_from_a_folder_of_timm_that_has_them(tmp_path: Path) -> None:
    arrays = foreign(zeros(BOTTLENECK, classes=3), "torchvision")
    found = open_weights(write_folder(tmp_path / "x", arrays, config=TIMM | {"label_names": ["a", "b", "c"]}))
    assert (found.class_names, found.notes) == (("a", "b", "c"), ())


def test_preprocessing_classes_and_stride_are_read_from_a_folder_of_transformers(tmp_path: Path) -> None:
    labels = {"10": "k", **{str(i): "abcdefghij"[i] for i in range(10)}}  # in JSON, in no order
    for key, stride in ((None, "3x3"), (False, "3x3"), (True, "1x1")):
        config = RESNET_CONFIG | {"id2label": labels} | ({} if key is None else {"downsample_in_bottleneck": key})
        arrays = foreign(zeros(BOTTLENECK, classes=11), "transformers")
        folder = write_folder(tmp_path / "x", arrays, config=config, preprocessor_config=PROCESSOR)
        for source in (folder, folder / "model.safetensors"):
            found = open_weights(source)
            assert found.preprocessing == Preprocessing(
                image_size=(224, 224), channels=3, shorter_side=256, interpolation="bicubic",
                mean=found.preprocessing.mean, std=found.preprocessing.std,
            )  # fmt: skip
            np.testing.assert_allclose(found.preprocessing.mean, IMAGENET["mean"], rtol=1e-6)
            np.testing.assert_allclose(found.preprocessing.std, IMAGENET["std"], rtol=1e-6)
            assert (found.class_names, found.notes) == (tuple("abcdefghijk"), ())
            assert summary(found.conventions) == (stride, "both_sides", 1e-5)


@pytest.mark.parametrize(
    ("changes", "size", "shorter_side", "interpolation"),
    [
        ({"size": 224}, 224, 256, "bicubic"),  # as files before transformers 4.26 have it
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "crop_pct": None},
            224,
            256,
            "bicubic",
        ),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "crop_pct": None, "resample": 2}, 224, 256, "bilinear"),
        ({"crop_pct": 0.95}, 224, 235, "bicubic"),
        ({"crop_pct": None}, 224, 256, "bicubic"),  # the default of ConvNeXt's processor
        (
            {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 384}, "crop_pct": None},
            384,
            None,
            "bicubic",
        ),
    ],
)
def test_sizes_of_a_processor_are_ours(
    tmp_path: Path, changes: dict[str, Any], size: int, shorter_side: int | None, interpolation: str
) -> None:
    arrays = foreign(zeros(BOTTLENECK), "transformers")
    folder = write_folder(tmp_path / "x", arrays, config=RESNET_CONFIG, preprocessor_config=PROCESSOR | changes)
    found = open_weights(folder).preprocessing
    assert (found.image_size, found.shorter_side, found.interpolation) == ((size, size), shorter_side, interpolation)


@pytest.mark.parametrize(
    ("changes", "mean", "std"),
    [
        ({"do_rescale": False}, 0.485, 0.229),  # of pixels 0-255
        ({"do_normalize": False}, 0, 255),
        ({"do_normalize": False, "do_rescale": False}, 0, 1),
        ({"do_normalize": False, "image_mean": None, "image_std": None}, 0, 255),
    ],
)
def test_steps_that_a_processor_leaves_out_are_left_out(
    tmp_path: Path, changes: dict[str, Any], mean: float, std: float
) -> None:
    arrays = foreign(zeros(BOTTLENECK), "transformers")
    folder = write_folder(tmp_path / "x", arrays, config=RESNET_CONFIG, preprocessor_config=PROCESSOR | changes)
    found = open_weights(folder).preprocessing
    assert (found.mean[0], found.std[0]) == pytest.approx((mean, std))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"resample": 0}, "resample=0, nearest, is not followed"),
        ({"resample": 1}, "resample=1, lanczos, is not followed"),
        ({"do_resize": False}, "do_resize=False is not followed"),
        ({"size": {"height": 160, "width": 320}}, "which squashes images, is not followed"),
        ({"size": {"shortest_edge": 384}}, "a size of 384, from which on ConvNeXt's processor squashes"),
        ({"image_processor_type": "BitImageProcessor", "do_center_crop": False}, "do_center_crop=False is not"),
    ],
)
def test_what_no_preprocessing_does_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    arrays = foreign(zeros(BOTTLENECK), "transformers")
    folder = write_folder(tmp_path / "x", arrays, config=RESNET_CONFIG, preprocessor_config=PROCESSOR | changes)
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json: .*{reason}.*Copy the weights without this file"):
        open_weights(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_args": {"act_layer": "silu"}}, "act_layer='silu'"),
        ({"model_args": {"global_pool": "max"}}, "global_pool='max'"),
        ({"global_pool": "avgmax"}, "global_pool='avgmax'"),
        ({"model_args": {"aa_layer": "blurpool"}}, "aa_layer='blurpool'"),
        ({"model_args": {"block_args": {"attn_layer": "eca"}}}, "block_args="),
        ({"model_args": {"a_new_one": 3}}, "a_new_one=3"),
        ({"model_args": 3}, "with 3"),
        ({"pretrained_cfg": TIMM["pretrained_cfg"] | {"interpolation": "lanczos"}}, "the interpolation 'lanczos'"),
        ({"pretrained_cfg": TIMM["pretrained_cfg"] | {"crop_mode": "squash"}}, "crop_mode='squash'"),
    ],
)
def test_arguments_of_timm_that_change_the_network_are_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    arrays = foreign(zeros(BOTTLENECK), "torchvision")
    with pytest.raises(ValueError, match=rf"config\.json.*{reason}"):
        open_weights(write_folder(tmp_path / "x", arrays, config=TIMM | changes))


@pytest.mark.parametrize(("given", "expected"), [(16, 16), (8, 8), (32, None), (None, None)])
def test_the_output_stride_of_timm_is_followed(tmp_path: Path, given: int | None, expected: int | None) -> None:
    config = TIMM | {"model_args": {"output_stride": given, "num_classes": 1000, "drop_path_rate": 0.1}}
    found = open_weights(write_folder(tmp_path / "x", foreign(zeros(BOTTLENECK), "torchvision"), config=config))
    assert found.conventions.output_stride == expected


def test_the_scale_of_a_processor_is_applied(tmp_path: Path) -> None:
    arrays = foreign(zeros(BOTTLENECK), "transformers")
    processor = PROCESSOR | {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}
    found = open_weights(write_folder(tmp_path / "x", arrays, config=RESNET_CONFIG, preprocessor_config=processor))
    np.testing.assert_allclose(found.preprocessing.mean + found.preprocessing.std, 127.5)


def test_pixels_are_those_of_transformers_own_processor(tmp_path: Path, transformers: Any) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed: nothing to compare with")
    module = pytest.importorskip("transformers.models.convnext.image_processing_pil_convnext")
    fields = {"image_mean": PROCESSOR["image_mean"], "image_std": PROCESSOR["image_std"]}
    processor = module.ConvNextImageProcessorPil(size={"shortest_edge": 224}, crop_pct=0.875, resample=3, **fields)
    arrays = foreign(zeros(BOTTLENECK), "transformers")
    folder = write_folder(tmp_path / "x", arrays, config=RESNET_CONFIG)
    processor.save_pretrained(folder)
    preprocessing = open_weights(folder).preprocessing
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 12, 3), "uint8")
    image = np.asarray(image_module.fromarray(coarse).resize((401, 297), 3))
    expected = processor(image_module.fromarray(image))["pixel_values"][0].transpose(1, 2, 0)
    received = np.asarray(normalize(crop(image, preprocessing), preprocessing))
    gray_levels = np.abs(received - expected) * preprocessing.std
    assert gray_levels.max() < 1.01
    assert (gray_levels > 0.01).mean() < 0.002


def test_settings_of_the_wrong_length_are_not_believed(tmp_path: Path) -> None:
    config = RESNET_CONFIG | {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    found = open_weights(write_folder(tmp_path / "x", foreign(zeros(BOTTLENECK), "transformers"), config=config))
    assert found.class_names == class_names.imagenet_class_names()
    assert found.notes[-1] == "1000 classes are taken for ImageNet's"


@pytest.mark.parametrize(
    "changes", [{"downsample_in_first_stage": True}, {"hidden_act": "gelu"}, {"architecture": "resnetblur50"}]
)
def test_settings_that_make_another_network_of_the_same_weights_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    timm = "architecture" in changes
    config = TIMM | changes if timm else RESNET_CONFIG | changes
    arrays = foreign(zeros(BOTTLENECK), "torchvision" if timm else "transformers")
    with pytest.raises(ValueError, match="Expected"):
        open_weights(write_folder(tmp_path / "x", arrays, config=config))


@pytest.mark.parametrize("name", ["config", "preprocessor_config"])
@pytest.mark.parametrize("content", ["{", "\x00", "[" * 100_000, "[]", "3", '"x"', "null"])
def test_settings_that_are_no_json_object_are_refused(tmp_path: Path, name: str, content: str) -> None:
    folder = write_folder(tmp_path / "x", foreign(zeros(SMALL), "transformers"), **{name: content})
    with pytest.raises(ValueError, match=f"Expected .*{name}.json"):
        open_weights(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config", {"id2label": {"1": "a", "2": "b"}}),
        ("config", {"id2label": ["a", "b"]}),
        ("config", {"id2label": 3}),
        ("config", {"downsample_in_bottleneck": "yes"}),
        ("config", {"label_names": 3}),
        ("config", {"pretrained_cfg": {"tag": "x"}}),
        ("config", {"pretrained_cfg": [1]}),
        ("config", {"pretrained_cfg": TIMM["pretrained_cfg"] | {"input_size": [3]}}),
        ("config", {"pretrained_cfg": TIMM["pretrained_cfg"] | {"crop_pct": 2.0}}),
        ("config", {"pretrained_cfg": TIMM["pretrained_cfg"] | {"mean": "x"}}),
        ("preprocessor_config", {"image_mean": [0.5]}),
        ("preprocessor_config", {"image_mean": 0.5, "image_std": 0.5}),
        ("preprocessor_config", PROCESSOR | {"size": {}}),
        ("preprocessor_config", PROCESSOR | {"size": "x"}),
        ("preprocessor_config", PROCESSOR | {"crop_size": {}}),
        ("preprocessor_config", PROCESSOR | {"rescale_factor": 0}),
        ("preprocessor_config", PROCESSOR | {"image_std": [0, 0, 0]}),
        ("preprocessor_config", PROCESSOR | {"crop_pct": -1}),
    ],
)
def test_settings_of_another_make_are_refused(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    folder = write_folder(tmp_path / "x", foreign(zeros(SMALL), "transformers"), **{name: content})
    with pytest.raises(ValueError, match=f"Expected settings as their library writes them. Received: .*{name}.json"):
        open_weights(folder)


# Folders of KerasHub


def hub_folder(path: Path, model: keras.Model, converter: dict[str, Any] | None) -> Path:
    """Writes a folder as KerasHub does: backbone, task and preprocessor."""
    path.mkdir(exist_ok=True)
    arrays = foreign(model, "KerasHub")
    for file_name, wanted in (("model.weights.h5", False), ("task.weights.h5", True)):
        with h5py.File(path / file_name, "w") as file:
            for layer in {name.split("/")[0] for name in arrays if (name.split("/")[0] == "predictions") == wanted}:
                group = file.create_group(f"layers/{layer}/vars")
                group.attrs["name"] = layer
                for i, name in enumerate(name for name in arrays if name.startswith(f"{layer}/")):
                    group[str(i)] = arrays[name]
    if converter is not None:
        config = {"config": {"image_converter": {"class_name": "ResNetImageConverter", "config": converter}}}
        (path / "preprocessor.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("converter", "mean", "std"),
    [
        (
            {
                "scale": [1 / 255 / s for s in (0.229, 0.224, 0.225)],
                "offset": [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
            },
            IMAGENET["mean"],
            IMAGENET["std"],
        ),
        ({"scale": 1 / 127.5, "offset": -1.0}, (127.5,) * 3, (127.5,) * 3),
        ({"scale": 1 / 255, "offset": None}, (0,) * 3, (255,) * 3),
        ({"scale": None, "offset": [-103.939, -116.779, -123.68]}, (103.939, 116.779, 123.68), (1,) * 3),
        ({}, (0,) * 3, (1,) * 3),
    ],
)
def test_the_preprocessing_is_read_from_a_folder_of_kerashub(
    tmp_path: Path, converter: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    model = network(1, BOTTLENECK, input_shape=(32, 32, 3), classes=5)
    fields = {"image_size": [64, 48], "interpolation": "bicubic", **converter}
    found = open_weights(hub_folder(tmp_path / "x", model, fields))
    assert (found.layout, found.classes) == ("KerasHub", 5)
    assert (found.preprocessing.image_size, found.preprocessing.interpolation) == ((64, 48), "bicubic")
    np.testing.assert_allclose(found.preprocessing.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.preprocessing.std, std, rtol=1e-6)
    for name, array in arrays_of_model(model).items():
        np.testing.assert_array_equal(found.tensors[name], array)


@pytest.mark.parametrize("converter", [None, {"image_size": None, "scale": 2.0}])
def test_a_folder_of_kerashub_without_an_image_size_is_taken_for_imagenet(tmp_path: Path, converter: Any) -> None:
    model = network(1, BOTTLENECK, input_shape=(32, 32, 3), classes=5)
    found = open_weights(hub_folder(tmp_path / "x", model, converter))
    assert found.preprocessing == Preprocessing(image_size=(224, 224), channels=3, shorter_side=256, **IMAGENET)
    assert len(found.notes) == 2


def test_pixels_are_those_of_kerashub_s_own_converter(tmp_path: Path, keras_hub: Any) -> None:
    scale, offset = [1 / 255 / s for s in (0.229, 0.224, 0.225)], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    converter = keras_hub.layers.ResNetImageConverter(image_size=(32, 32), scale=scale, offset=offset)
    fields = {name: converter.get_config()[name] for name in ("image_size", "scale", "offset", "interpolation")}
    model = network(1, BOTTLENECK, input_shape=(32, 32, 3), classes=5)
    preprocessing = open_weights(hub_folder(tmp_path / "x", model, fields)).preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(normalize(crop(pixels, preprocessing), preprocessing), converter(pixels), atol=1e-5)


SOUND = {"block_type": "basic_block", "use_pre_activation": False, "stackwise_num_strides": [1, 2, 2, 2]}


def write_settings(folder: Path, config: dict[str, Any], task: bool) -> Path:
    path = folder / ("task.json" if task else "config.json")
    path.write_text(json.dumps({"config": {"backbone": {"config": config}} if task else config}))
    return path


@pytest.mark.parametrize(
    ("changes", "projection"),
    [
        ({}, "normalized"),
        ({"block_type": "basic_block_vd"}, "pooled"),
        ({"block_type": "bottleneck_block_vd"}, "pooled"),
        ({"use_pre_activation": True}, None),
    ],
)
@pytest.mark.parametrize("task", [False, True])
def test_keras_hubs_settings_tell_its_shortcuts(
    tmp_path: Path, changes: dict[str, Any], projection: str | None, task: bool
) -> None:
    write_settings(tmp_path, SOUND | changes, task)
    assert conventions_of_keras_hub(tmp_path) == Conventions(projection=projection)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [{"stackwise_num_strides": [2, 2, 2, 2]}, {"use_pre_activation": True, "block_type": "basic_block_vd"}],
)
@pytest.mark.parametrize("task", [False, True])
def test_keras_hubs_networks_that_compute_something_else_are_refused(
    tmp_path: Path, changes: dict[str, Any], task: bool
) -> None:
    path = write_settings(tmp_path, SOUND | changes, task)
    with pytest.raises(ValueError, match=rf"Expected the settings of a network of .* Received: .*{path.name}"):
        conventions_of_keras_hub(tmp_path)
