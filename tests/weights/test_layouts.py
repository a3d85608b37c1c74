"""Other libraries' names: each has one of our names, and networks that are not ours are recognized as such."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from helpers.foreign_weights import NAMINGS, SMALL, foreign, network, zeros

from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.layout import Layout
from resnet_keras.weights.layouts import LAYOUTS, recognize_layout

LAYOUT_OF = {"torchvision": "torchvision, timm", "cifar": "torchvision, timm"}
BY_NAME = {layout.name: layout for layout in LAYOUTS}
IMAGENET_DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@pytest.fixture(scope="module")
def keras_hub() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras_hub", reason="KerasHub is not installed: nothing to compare with")


# One line for each kind of name, from the libraries' own documentation and files.
NAMES = {
    "torchvision, timm": {
        "conv1.weight": "stem_conv/kernel",
        "bn1.running_var": "stem_conv_bn/moving_variance",
        "layer1.0.conv1.weight": "stage1_block1_conv1/kernel",
        "layer1.2.bn3.bias": "stage1_block3_conv3_bn/beta",
        "layer3.22.conv2.weight": "stage3_block23_conv2/kernel",
        "layer3.35.bn1.running_mean": "stage3_block36_conv1_bn/moving_mean",
        "layer4.0.downsample.0.weight": "stage4_block1_projection/kernel",
        "layer4.0.downsample.1.weight": "stage4_block1_projection_bn/gamma",
        "layer2.0.shortcut.0.weight": "stage2_block1_projection/kernel",
        "layer2.0.shortcut.1.running_var": "stage2_block1_projection_bn/moving_variance",
        "layer2.0.conv1.bias": "stage2_block1_conv1/bias",
        "fc.weight": "logits/kernel",
        "fc.bias": "logits/bias",
        "linear.bias": "logits/bias",
    },
    "transformers": {
        "embedder.embedder.convolution.weight": "stem_conv/kernel",
        "embedder.embedder.normalization.weight": "stem_conv_bn/gamma",
        "encoder.stages.0.layers.0.layer.0.convolution.weight": "stage1_block1_conv1/kernel",
        "encoder.stages.3.layers.2.layer.2.normalization.running_mean": "stage4_block3_conv3_bn/moving_mean",
        "encoder.stages.2.layers.10.layer.1.convolution.weight": "stage3_block11_conv2/kernel",
        "encoder.stages.1.layers.0.shortcut.convolution.weight": "stage2_block1_projection/kernel",
        "encoder.stages.1.layers.0.shortcut.normalization.bias": "stage2_block1_projection_bn/beta",
        "classifier.1.weight": "logits/kernel",
    },
    "keras.applications": {
        "conv1_conv/kernel": "stem_conv/kernel",
        "conv1_conv/bias": "stem_conv/bias",
        "conv1_bn/moving_mean": "stem_conv_bn/moving_mean",
        "conv2_block1_1_conv/kernel": "stage1_block1_conv1/kernel",
        "conv5_block3_3_bn/gamma": "stage4_block3_conv3_bn/gamma",
        "conv4_block36_2_conv/bias": "stage3_block36_conv2/bias",
        "conv3_block1_0_conv/kernel": "stage2_block1_projection/kernel",
        "conv3_block1_0_bn/beta": "stage2_block1_projection_bn/beta",
        "predictions/kernel": "logits/kernel",
        "probs/bias": "logits/bias",
    },
    "KerasHub": {
        "conv1_conv/kernel": "stem_conv/kernel",
        "stack0_block0_1_conv/kernel": "stage1_block1_conv1/kernel",
        "stack3_block2_3_bn/moving_variance": "stage4_block3_conv3_bn/moving_variance",
        "stack2_block22_2_conv/kernel": "stage3_block23_conv2/kernel",
        "stack1_block0_0_conv/kernel": "stage2_block1_projection/kernel",
        "stack1_block0_0_bn/gamma": "stage2_block1_projection_bn/gamma",
        "predictions/bias": "logits/bias",
    },
    "resnet_keras": {
        "stem_conv/kernel": "stem_conv/kernel",
        "stage2_block3_conv1_bn/gamma": "stage2_block3_conv1_bn/gamma",
        "a_layer_of_yours/kernel": "a_layer_of_yours/kernel",
    },
}


@pytest.mark.parametrize(
    ("layout", "name", "ours"), [(la, *pair) for la, names in NAMES.items() for pair in names.items()]
)
def test_a_name_is_translated(layout: str, name: str, ours: str) -> None:
    assert BY_NAME[layout].ours(name) == ours


def test_every_layout_translates_our_names_to_its_own_and_back() -> None:
    layers = ["stem_conv", "stem_conv1", "stem_conv2", "stem_conv3", "stem_conv4", "logits", "final_bn"]
    for block in ("stage1_block1", "stage3_block36", "stage4_block2"):
        layers += [f"{block}_{part}" for part in ("conv1", "conv2", "conv3", "projection", "reduce", "preact_bn")]
    layers += [f"{layer}_bn" for layer in layers if "conv" in layer or layer.endswith("projection")]
    ours = [
        f"{layer}/{weight}"
        for layer in layers
        for weight in (("gamma", "moving_variance") if layer.endswith("_bn") else ("kernel", "bias"))
    ]
    for layout in LAYOUTS:
        for spelling in (0, 1):
            named = {name: theirs for name in ours if (theirs := layout.theirs(name, spelling)) is not None}
            assert len(named) >= 10
            assert len(set(named.values())) == len(named)
            assert {name: layout.ours(theirs) for name, theirs in named.items()} == {name: name for name in named}


def test_a_module_of_two_spellings_has_either() -> None:
    layout = BY_NAME["torchvision, timm"]
    spelled = [layout.theirs(name, n) for name in ("logits/bias", "stage2_block1_projection_bn/beta") for n in (0, 1)]
    assert spelled == ["fc.bias", "linear.bias", "layer2.0.downsample.1.bias", "layer2.0.shortcut.1.bias"]


def test_layers_of_no_layout_have_no_name() -> None:
    assert BY_NAME["torchvision, timm"].theirs("stem_conv1/kernel") is None
    assert BY_NAME["torchvision, timm"].theirs("stage1_block1_preact_bn/gamma") is None
    assert BY_NAME["torchvision, timm"].theirs("stem_conv/gamma") is None
    assert BY_NAME["transformers"].theirs("stage1_block1_reduce/kernel") is None


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("torchvision, timm", "bn1.num_batches_tracked"),
        ("torchvision, timm", "fc.running_mean"),
        ("torchvision, timm", "conv1.running_mean"),
        ("torchvision, timm", "layer1.0.downsample.2.weight"),
        ("torchvision, timm", "layer1.0.conv1.0.weight"),
        ("torchvision, timm", "xlayer1.0.conv1.weight"),
        ("torchvision, timm", "fc2.weight"),
        ("torchvision, timm", "weight"),
        ("torchvision, timm", ""),
        ("transformers", "classifier.weight"),
        ("transformers", "encoder.stages.0.layers.0.layer.0.weight"),
        ("keras.applications", "conv2_block1_1_relu/kernel"),
        ("keras.applications", "conv2_block1_out/kernel"),
        ("KerasHub", "stack0_block0_1_conv"),
        ("KerasHub", "stack0_block0_preact_bn/gamma"),
        ("resnet_keras", "no_weight"),
    ],
)
def test_another_name_is_none_of_ours(layout: str, name: str) -> None:
    assert BY_NAME[layout].ours(name) is None


def test_counters_of_batches_are_ignored_and_weights_are_not() -> None:
    for layout in ("torchvision, timm", "transformers"):
        assert BY_NAME[layout].ignores("layer1.0.bn1.num_batches_tracked")
        assert not BY_NAME[layout].ignores("layer1.0.bn1.weight")
    assert not any(BY_NAME["keras.applications"].ignores(name) for name in NAMES["keras.applications"])


def complete(names: set[str], layout: Layout, prefix: str, expected: set[str]) -> None:
    """Asserts that each name is another one of `expected`, and that none of these is left."""
    ours = [layout.ours(name.removeprefix(prefix)) for name in names]
    assert sorted(ours) == sorted(expected)


@pytest.mark.parametrize("library", [name for name in NAMINGS if name != "cifar"])
@pytest.mark.parametrize("network_name", IMAGENET_DEPTHS)
def test_every_name_of_every_depth_is_one_of_our_names(library: str, network_name: str) -> None:
    weights = zeros(ARCHITECTURES[network_name])
    names = set(foreign(weights, library))
    layout, prefix = recognize_layout(names)
    assert layout.name == LAYOUT_OF.get(library, library)
    if library == "transformers":  # whose classifier stands beside the network
        assert prefix == "resnet."
        names = {name if name.startswith(prefix) else f"{prefix}{name}" for name in names}
    complete(names, layout, prefix, set(weights))


@pytest.mark.parametrize(
    "row",
    [
        SMALL,
        ARCHITECTURES["resnet18"],
        Architecture(stem="cifar", block="bottleneck", repeats=(1, 2), widths=(4, 6), shortcut="B"),
        Architecture(stem="imagenet", block="basic", repeats=(2, 1), widths=(4, 6), shortcut="C"),
        Architecture(stem="imagenet", block="bottleneck", repeats=(2, 1, 1), widths=(4, 6, 8), shortcut="C"),
    ],
    ids=lambda row: f"{row.name}{row.shortcut}",
)
def test_the_names_and_shapes_listed_here_are_those_of_our_networks(row: Architecture) -> None:
    built = {name: array.shape for name, array in arrays_of_model(build(row, input_shape=(32, 32, 3))).items()}
    assert {name: array.shape for name, array in zeros(row).items()} == built


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "backbone.", "module.encoder_q."])
@pytest.mark.parametrize("library", ["torchvision", "cifar", "transformers"])
def test_what_stands_before_all_names_is_found(library: str, prefix: str) -> None:
    names = [f"{prefix}{name}" for name in foreign(zeros(SMALL), library)]
    inner = {"transformers": "resnet."}.get(library, "")
    layout, found = recognize_layout(names)
    assert (layout.name, found) == (LAYOUT_OF.get(library, library), f"{prefix}{inner}")


def test_our_own_names_are_ours() -> None:
    for names in (zeros(SMALL), arrays_of_model(network(1))):
        layout, prefix = recognize_layout(names)
        assert (layout.name, prefix) == ("resnet_keras", "")


# Later networks


@pytest.mark.parametrize(
    ("library", "name", "ours"),
    [
        ("keras.applications", "conv2_block1_preact_bn/gamma", "stage1_block1_preact_bn/gamma"),
        ("keras.applications", "post_bn/gamma", "final_bn/gamma"),
        ("KerasHub", "stack0_block0_pre_activation_bn/gamma", "stage1_block1_preact_bn/gamma"),
        ("torchvision", "layer1.0.se.fc1.weight", "stage1_block1_reduce/kernel"),
        ("torchvision", "layer3.1.se.fc2.bias", "stage3_block2_expand/bias"),
        ("torchvision", "layer1.0.se_module.fc1.weight", None),
        ("keras.applications", "conv2_block1_se_reduce/kernel", None),
    ],
)
def test_what_later_networks_have_besides_has_our_names_or_none(library: str, name: str, ours: str | None) -> None:
    layout, _ = recognize_layout([*foreign(zeros(ARCHITECTURES["resnet18"]), library), name])
    assert layout.ours(name) == ours


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_deep_stems_and_pooled_shortcuts_are_recognized_by_their_names(pooled: bool, prefix: str) -> None:
    names = {"conv1.0.weight", "conv1.6.weight", "layer1.0.conv1.weight", "layer2.0.downsample.1.weight"}
    names |= {"layer2.0.downsample.2.weight"} if pooled else {"layer2.0.downsample.0.weight"}
    layout, found = recognize_layout([prefix + name for name in names])
    assert (layout.name, layout.conventions.projection, found) == ("timm", "pooled" if pooled else "normalized", prefix)
    assert layout.ours("conv1.3.weight") == "stem_conv2/kernel"
    assert layout.ours("conv1.4.running_var") == "stem_conv2_bn/moving_variance"
    assert layout.ours("bn1.weight") == "stem_conv3_bn/gamma"
    expected = "stage2_block1_projection" + ("/kernel" if pooled else "_bn/gamma")
    assert layout.ours("layer2.0.downsample.1.weight") == expected


def test_a_file_of_two_networks_is_refused() -> None:
    names = [f"{prefix}{name}" for prefix in ("student.", "teacher.") for name in foreign(zeros(SMALL), "cifar")]
    with pytest.raises(ValueError, match=r"Expected the weights of one network.*Received: 2, 'student', 'teacher'"):
        recognize_layout(names)


def test_names_of_no_layout_are_shown_beside_those_that_are_known() -> None:
    names = [f"features.{i}.weight" for i in range(8)]
    with pytest.raises(ValueError) as raised:
        recognize_layout(names)
    message = str(raised.value)
    for layout in LAYOUTS:
        assert f"{layout.name} ({layout.anchors[-1]})" in message
    assert message.endswith("Received: features.0.weight, features.1.weight, features.2.weight, features.3.weight, features.4.weight, ...")  # fmt: skip  # noqa: E501
    with pytest.raises(ValueError, match="Received: a$"):
        recognize_layout(["a"])
    with pytest.raises(ValueError, match="Received: $"):
        recognize_layout([])


@pytest.mark.parametrize("name", ["backboneconv1.weight", "xconv1.weight"])
def test_a_name_that_only_ends_alike_is_no_anchor(name: str) -> None:
    prefix = name.removesuffix("conv1.weight")
    with pytest.raises(ValueError, match="Expected the names of one of these layouts"):
        recognize_layout([name, f"{prefix}layer1.0.conv1.weight"])
