"""Weights in our names: axes, folded biases, prefixes, configurations, and which network they belong to."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from helpers.foreign_weights import SMALL, foreign, network, zeros

from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.imported import import_arrays
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.recognition import recognize_architecture

BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 2), widths=(4, 6))


def random(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# Names and axes


@pytest.mark.parametrize("library", ["torchvision", "cifar", "transformers", "keras.applications", "KerasHub"])
def test_weights_arrive_under_our_names_in_keras_order_of_axes(library: str) -> None:
    model = network(1, BOTTLENECK, input_shape=(16, 16, 3), classes=5)
    expected = arrays_of_model(model)
    found = import_arrays(foreign(model, library), "x")
    assert found.tensors.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.tensors[name], array, err_msg=name)
    assert found.classes == 5
    assert found.unexpected == found.ignored == ()


def test_each_axis_of_a_torch_kernel_goes_to_its_place() -> None:
    kernel, dense = random(4, 3, 5, 7), random(10, 4)
    arrays = {"conv1.weight": kernel, "layer1.0.conv1.weight": random(4, 4, 3, 3), "fc.weight": dense}
    found = import_arrays(arrays, "x").tensors
    for out, into, row, column in ((0, 0, 0, 0), (3, 2, 4, 6), (1, 2, 3, 4)):
        assert found["stem_conv/kernel"][row, column, into, out] == kernel[out, into, row, column]
    assert found["logits/kernel"][3, 7] == dense[7, 3]


def test_each_tensor_keeps_the_name_that_its_source_gives_it() -> None:
    found = import_arrays({f"module.{name}": a for name, a in foreign(zeros(SMALL), "cifar").items()}, "x")
    assert found.names["stem_conv/kernel"] == ("module.conv1.weight",)
    assert found.names["stage2_block1_conv2_bn/moving_variance"] == ("module.layer2.0.bn2.running_var",)
    assert found.layout == "torchvision, timm"
    assert found.source == "x"


@pytest.mark.parametrize("prefix", ["", "module.", "module.net."])
def test_a_classifier_beside_the_network_is_found(prefix: str) -> None:
    arrays = {f"{prefix}{name}": array for name, array in foreign(zeros(SMALL), "transformers").items()}
    assert f"{prefix}classifier.1.weight" in arrays
    assert f"{prefix}resnet.embedder.embedder.convolution.weight" in arrays
    found = import_arrays(arrays, "x")
    assert found.classes == 10
    assert set(found.tensors) == set(zeros(SMALL))


def test_unexpected_weights_are_distinguished_from_what_is_no_weight() -> None:
    arrays = foreign(zeros(SMALL), "cifar")
    arrays |= {"bn1.num_batches_tracked": np.array(7), "fc.weight": random(10, 8), "ema.conv1.weight": random(1)}
    found = import_arrays(arrays, "x")
    assert found.ignored == ("bn1.num_batches_tracked",)
    assert found.unexpected == ()
    assert found.beside == ("fc.weight", "ema.conv1.weight"), "there is a classifier `linear` already"
    assert set(found.tensors) == set(zeros(SMALL))


def test_a_backbone_has_no_classes() -> None:
    arrays = {name: array for name, array in zeros(SMALL).items() if not name.startswith("logits")}
    assert import_arrays(arrays, "x").classes is None


@pytest.mark.parametrize("arrays", [{}, {"a/kernel": np.zeros(3)}, {"conv1.weight": np.zeros((4, 3, 3, 3))}])
def test_weights_of_no_layout_name_their_source(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"Expected the names of one of these layouts: .* in the/source$"):
        import_arrays(arrays, "the/source")


# Biases of convolutions, which our networks do not have


@pytest.mark.parametrize(
    ("library", "prefix"),
    [("keras.applications", ""), ("KerasHub", ""), ("torchvision", "module."), ("transformers", "")],
)
def test_a_bias_is_taken_off_the_mean_that_is_subtracted_after_it(library: str, prefix: str) -> None:
    model = network(2, BOTTLENECK, input_shape=(16, 16, 3), classes=5)
    arrays = arrays_of_model(model)
    kernels = [name for name in arrays if name.endswith("/kernel") and not name.startswith("logits")]
    biases = {
        name.replace("/kernel", "/bias"): random(arrays[name].shape[-1], seed=i) for i, name in enumerate(kernels)
    }
    found = import_arrays({f"{prefix}{n}": a for n, a in foreign(arrays | biases, library).items()}, "x")
    assert found.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        bias = biases.get(name.replace("_bn/moving_mean", "/bias"))
        expected = array if bias is None else (array.astype("float64") - bias).astype("float32")
        np.testing.assert_array_equal(found.tensors[name], expected, err_msg=name)
        assert len(found.names[name]) == (1 if bias is None else 2)


@pytest.mark.parametrize("number_type", ["float32", "float64", "float16", ml_dtypes.bfloat16])
def test_a_folded_bias_does_not_change_the_function(number_type: Any) -> None:
    bias, mean = (random(6, seed=seed).astype(number_type) for seed in (1, 2))
    arrays = zeros(SMALL) | {"stem_conv/bias": bias[:4], "stem_conv_bn/moving_mean": mean[:4]}
    folded = import_arrays(arrays, "x").tensors["stem_conv_bn/moving_mean"]
    x = random(100, 4, seed=5).astype("float64")
    expected = x + bias[:4].astype("float64") - mean[:4].astype("float64")
    np.testing.assert_allclose(x - folded, expected, atol=1e-6)
    assert folded.dtype == "float32"


def test_biases_of_classifier_and_normalization_stay() -> None:
    arrays = foreign(network(3), "cifar")
    found = import_arrays(arrays, "x").tensors
    np.testing.assert_array_equal(found["logits/bias"], arrays["linear.bias"])
    np.testing.assert_array_equal(found["stem_conv_bn/beta"], arrays["bn1.bias"])


@pytest.mark.parametrize(
    "mean", [np.zeros(5, "float32"), np.zeros((1, 4), "float32"), np.zeros((), "float32")], ids=str
)
def test_a_bias_of_another_shape_than_what_it_is_folded_into_is_refused(mean: np.ndarray) -> None:
    arrays = foreign(zeros(SMALL), "cifar") | {"conv1.bias": random(4), "bn1.running_mean": mean}
    with pytest.raises(ValueError, match=r"Expected a bias of shape .* Received: conv1\.bias in x, of \(4,\)"):
        import_arrays(arrays, "x")


def test_a_bias_without_a_normalization_after_it_stays() -> None:
    arrays = {name: a for name, a in foreign(zeros(SMALL), "cifar").items() if not name.startswith("bn1")}
    found = import_arrays(arrays | {"conv1.bias": random(4)}, "x")
    np.testing.assert_array_equal(found.tensors["stem_conv/bias"], random(4))
    assert found.conventions.conv_bias


# Traits: what weights do not show


def summary(conventions: Conventions) -> tuple[str | None, str | None, float | None]:
    return conventions.bottleneck_stride, conventions.zero_channels, conventions.epsilon


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ("torchvision", ("3x3", "both_sides", 1e-5)),
        ("transformers", ("3x3", "both_sides", 1e-5)),
        ("keras.applications", ("1x1", None, 1.001e-5)),
        ("KerasHub", ("3x3", None, 1e-5)),
    ],
)
def test_conventions_of_a_library_apply_where_its_weights_do_not_show_them(
    library: str, expected: tuple[Any, ...]
) -> None:
    arrays = foreign(zeros(BOTTLENECK), library)
    assert summary(import_arrays(arrays, "x").conventions) == expected
    assert summary(import_arrays(arrays, "x", conventions=Conventions()).conventions) == expected
    others = Conventions(
        bottleneck_stride="1x1" if expected[0] == "3x3" else "3x3",
        basic_stride="conv2",
        zero_channels="end",
        epsilon=1e-3,
        projection="normalized",
        padding="same_tf",
        first_projection=False,
        conv_bias=False,
    )
    assert import_arrays(arrays, "x", conventions=others).conventions == others


def test_our_own_weights_alone_tell_nothing_else() -> None:
    assert import_arrays(zeros(BOTTLENECK), "x").conventions == Conventions(first_projection=False, conv_bias=False)


# Which network


ALL = [*ARCHITECTURES.values(), SMALL, BOTTLENECK]


@pytest.mark.parametrize("library", [None, "cifar", "torchvision", "transformers", "keras.applications", "KerasHub"])
def test_names_and_shapes_tell_the_network(library: str | None) -> None:
    strides = {"torchvision": "3x3", "cifar": "3x3", "transformers": "3x3", "KerasHub": "3x3"}
    for row in (row for row in ALL if row.shortcut):
        weights = zeros(row)
        found = recognize_architecture(import_arrays(foreign(weights, library) if library else weights, "x"))
        expected = Architecture(
            stem=row.stem, block=row.block, repeats=row.repeats, widths=row.widths, shortcut=row.shortcut
        ).replace(
            bottleneck_stride=strides.get(library or "", "1x1"),
            zero_channels="both_sides" if library in ("torchvision", "cifar", "transformers") else "end",
        )
        assert found == expected, row.name
        assert found.name == row.name


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_projections_tell_the_option(stem: Any, shortcut: Any) -> None:
    for block in ("basic", "bottleneck"):
        row = Architecture(stem=stem, block=block, repeats=(2, 3), widths=(4, 8), shortcut=shortcut)
        assert recognize_architecture(import_arrays(zeros(row), "x")) == row


def test_a_network_without_projections_is_taken_for_option_a() -> None:
    assert recognize_architecture(import_arrays(zeros(ARCHITECTURES["plainnet20"]), "x")) == ARCHITECTURES["resnet20"]


def test_channels_and_classes_do_not_matter() -> None:
    assert recognize_architecture(import_arrays(zeros(SMALL, classes=3, channels=1), "x")) == SMALL


def without(*starts: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in zeros(BOTTLENECK).items() if not name.startswith(starts)}


def with_shape(name: str, *shape: int) -> dict[str, np.ndarray]:
    return zeros(BOTTLENECK) | {name: np.zeros(shape, "float32")}


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (without("stage1"), r"stages of blocks \{2: \{1, 2\}\}"),
        (without("stage2_block1"), r"stages of blocks \{1: \{1\}, 2: \{2\}\}"),
        (without("stage"), r"stages of blocks \{\}"),
        (without("stage2_block1_conv3"), "both basic and bottleneck blocks"),
        (without("stage2_block1_conv2"), "both basic and bottleneck blocks"),
        (
            with_shape("stage2_block1_conv3/kernel", 1, 1, 6, 12),
            r"stages of widths \[4, 6\] with \[16, 12\] output channels",
        ),
        (with_shape("stage0_block1_conv1/kernel", 1, 1, 6, 12), "stages of blocks"),
    ],
)
def test_weights_of_no_network_like_ours_are_refused(arrays: dict[str, np.ndarray], problem: str) -> None:
    with pytest.raises(
        ValueError, match=f"Expected the weights of a network of this package. Received: x, .*{problem}"
    ):
        recognize_architecture(import_arrays(arrays, "x"))


@pytest.mark.parametrize("name", ["stem_conv", "stage1_block1_conv2", "stage2_block1_projection", "logits"])
def test_kernels_of_too_few_or_too_many_axes_are_refused(name: str) -> None:
    wanted = 2 if name == "logits" else 4
    for axes in range(7):
        arrays = with_shape(f"{name}/kernel", *(3,) * axes)
        if axes == wanted:
            assert import_arrays(arrays, "x").tensors.keys() == arrays.keys()
            continue
        said = rf"kernel of {wanted} axes. Received: x, with {name}/kernel of \("
        with pytest.raises(ValueError, match=said) as raised:
            import_arrays(arrays, "x")
        assert str((3,) * axes) in str(raised.value)


@pytest.mark.parametrize("name", ["stage1", "stageX_block1_conv1", "stages_blocks_x", "stage1_block", "stage_block1_x"])
def test_layers_that_are_only_called_like_ours_are_named(name: str) -> None:
    arrays = zeros(BOTTLENECK) | {f"{name}/kernel": np.zeros((1, 1, 4, 4), "float32")}
    with pytest.raises(ValueError, match="Expected the weights of a network of this package. Received: x, "):
        recognize_architecture(import_arrays(arrays, "x"))
