"""What a source holds arrives in the network, or nothing does and the message says why."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from helpers.foreign_weights import SMALL, assert_equal_weights, foreign, network, write_torch, zeros
from helpers.small_networks import TWO_STAGES, drawn

from resnet_keras.applications import named_networks
from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.networks.conventions import Conventions
from resnet_keras.surgery.freezing import freeze
from resnet_keras.surgery.recalibration import restore_statistics
from resnet_keras.weights.finite import check_finite_model
from resnet_keras.weights.imported import ImportedWeights, import_arrays
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.loading import LoadReport, load_weights

SUFFIXES = [".keras", ".weights.h5"]
BOTTLENECK = Architecture(stem="cifar", block="bottleneck", repeats=(1, 2), widths=(4, 6))
PROJECTING = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")


def write(model: keras.Model, path: Path) -> Path:
    if path.suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path)
    return path


def ours(model: keras.Model, **changes: Any) -> ImportedWeights:
    """The weights of a network without its configuration, as a file of weights alone has them."""
    return import_arrays({name: a for name, a in (arrays_of_model(model) | changes).items() if a is not None}, "a/file")


def refused(model: keras.Model, source: Any, match: str, error: type[Exception] = ValueError, **options: Any) -> str:
    """Returns the error of `load_weights`, after a check that it changes no weight and no epsilon."""
    before = model.get_weights(), epsilons(model)
    with pytest.raises(error, match=match) as raised:
        load_weights(model, source, **options)
    assert_equal_weights(model, before[0])
    assert epsilons(model) == before[1]
    return str(raised.value)


def epsilons(model: keras.Model) -> list[float]:
    return [layer.epsilon for layer in flat_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=shape).astype("float32")


@pytest.fixture
def policy() -> Iterator[None]:
    """Puts Keras's global precision policy back after a test that sets it."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


# Our own files


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_weights_of_a_file_arrive_in_a_network_like_the_one_saved(tmp_path: Path, option: Any, suffix: str) -> None:
    saved = network(1, shortcut=option)
    path = write(saved, tmp_path / f"net{suffix}")
    # Unnamed layers, of which option A has some, are numbered on from network to network.
    network(2, shortcut="A")
    twin = network(3, shortcut=option)
    report = load_weights(twin, path)
    assert_equal_weights(twin, saved.get_weights())
    assert report.problems == ()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_builder_loads_the_file_that_it_is_given(tmp_path: Path, suffix: str) -> None:
    saved = drawn(build("resnet20"), 4)
    path = write(saved, tmp_path / f"net{suffix}")
    for given in (path, saved if suffix == ".keras" else str(path)):
        assert_equal_weights(named_networks.ResNet20(weights=given), saved.get_weights())


def test_input_size_and_activation_do_not_matter_to_a_file(tmp_path: Path) -> None:
    saved = network(6)
    path = write(saved, tmp_path / "net.keras")
    other = network(7, input_shape=(None, None, 3), classifier_activation=None)
    load_weights(other, path)
    assert_equal_weights(other, saved.get_weights())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_network_in_segments_and_in_one_read_each_others_files(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = drawn(build("resnet20"), 1)
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    segmented = drawn(build("resnet20"), 2)
    assert any(isinstance(layer, keras.Model) for layer in segmented.layers)
    paths = [write(model, tmp_path / f"{i}{suffix}") for i, model in enumerate((flat, segmented))]
    expected = flat.get_weights(), segmented.get_weights()
    load_weights(flat, paths[1])
    load_weights(segmented, paths[0])
    assert_equal_weights(flat, expected[1])
    assert_equal_weights(segmented, expected[0])


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16", "float16", "bfloat16", "float64"])
def test_weights_of_any_precision_policy_come_back(tmp_path: Path, name: str, policy: None) -> None:
    keras.config.set_dtype_policy(name)
    saved = network(10)
    path = write(saved, tmp_path / "net.weights.h5")
    twin = network(11)
    load_weights(twin, path)
    assert_equal_weights(twin, saved.get_weights())


# Other libraries' names and numbers


@pytest.mark.parametrize("library", ["torchvision", "cifar", "transformers", "keras.applications", "KerasHub"])
def test_weights_under_other_names_arrive(library: str) -> None:
    saved = network(1, BOTTLENECK, input_shape=(8, 8, 3), classes=5, bottleneck_stride="3x3")
    twin = network(2, BOTTLENECK, input_shape=(8, 8, 3), classes=5, bottleneck_stride="3x3")
    if library == "keras.applications":
        saved, twin = (network(seed, BOTTLENECK, input_shape=(8, 8, 3), classes=5) for seed in (1, 2))
    report = load_weights(twin, import_arrays(foreign(saved, library), "x"))
    assert_equal_weights(twin, saved.get_weights())
    assert sorted(report.matched) == sorted(foreign(saved, library))
    assert report.problems == report.new_head == report.ignored == ()


@pytest.mark.parametrize(("name", "library"), [("resnet18", "torchvision"), ("resnet50", "transformers")])
def test_a_full_network_of_another_library_is_matched(name: str, library: str) -> None:
    weights = foreign(zeros(ARCHITECTURES[name]), library)
    model = build_with_weights(name, weights=(found := import_arrays(weights, "x")), input_shape=(32, 32, 3))
    report = load_weights(model, found)
    assert sorted(report.matched) == sorted(weights)
    assert report.problems == ()
    assert all(not value.any() for value in model.get_weights())


@pytest.mark.parametrize("number_type", ["float16", ml_dtypes.bfloat16, "float64"])
def test_numbers_of_other_precision_arrive(tmp_path: Path, number_type: Any) -> None:
    source = {name: array.astype(number_type) for name, array in foreign(network(1), "cifar").items()}
    paths = [write_torch(source, tmp_path / "x.pth")]
    if number_type != ml_dtypes.bfloat16:
        paths.append(tmp_path / "x.safetensors")
        safetensors.numpy.save_file({n: np.ascontiguousarray(a) for n, a in source.items()}, paths[1])
    for path in paths:
        model = network(2, zero_channels="both_sides")
        load_weights(model, path)
        for name, array in foreign(model, "cifar").items():
            np.testing.assert_array_equal(array, source[name].astype("float32"), err_msg=name)


def test_a_bias_of_a_convolution_arrives_in_the_mean(tmp_path: Path) -> None:
    saved, twin = network(1, zero_channels="both_sides"), network(2, zero_channels="both_sides")
    bias = np.array([0.5, -1, 2, 4], "float32")
    arrays = foreign(saved, "cifar") | {"conv1.bias": bias}
    report = load_weights(twin, write_torch(arrays, tmp_path / "x.pth"))
    assert "conv1.bias" in report.matched
    assert len(report.matched) == len(arrays)
    expected = saved.get_layer("stem_conv_bn").moving_mean - bias
    np.testing.assert_allclose(twin.get_layer("stem_conv_bn").moving_mean, expected, rtol=1e-6)


# Reports


def test_a_report_counts_what_fits(tmp_path: Path) -> None:
    arrays = foreign(network(1), "cifar") | {"bn1.num_batches_tracked": np.array(3)}
    path = write_torch({f"module.{name}": array for name, array in arrays.items()}, tmp_path / "x.pth")
    report = load_weights(network(2, zero_channels="both_sides"), path)
    assert (report.source, report.layout) == (str(path), "torchvision, timm")
    assert len(report.matched) == 27
    assert report.ignored == ("module.bn1.num_batches_tracked",)
    assert report.missing == report.unexpected == report.shape_mismatch == report.new_head == ()
    assert str(report).splitlines() == [
        f"{path} (torchvision, timm): 27 matched, 0 missing, 0 unexpected, 0 shape mismatch, 1 ignored",
        "  pixels are normalized by ImageNet's mean and std",
        "  the names of the 5 classes are not known: they are numbered",
    ]


def test_a_report_shows_no_more_than_a_few_problems() -> None:
    many = tuple(f"layer{i}" for i in range(9))
    nothing = dict.fromkeys(("matched", "unexpected", "ignored", "notes"), ())
    report = LoadReport(
        source="x", layout="y", missing=many, shape_mismatch=("a shape",), new_head=("logits/bias",), **nothing
    )
    lines = [line.strip() for line in str(report).splitlines()[1:]]
    assert lines == [
        "a shape", *(f"layer{i}: not in the file" for i in range(4)), "... and 5 more",
        "new classifier: logits/bias",
    ]  # fmt: skip


CHANGES: dict[str, dict[str, Any]] = {
    "missing": {"stage2_block1_conv1_bn/beta": None},
    "unexpected": {"stage3_block1_conv1/kernel": np.ones((3, 3, 8, 8), "float32")},
    "shape_mismatch": {"stage2_block1_conv2/kernel": np.ones((1, 1, 8, 8), "float32")},
}
PROBLEM = {
    "missing": "stage2_block1_conv1_bn/beta: not in the file",
    "unexpected": "stage3_block1_conv1/kernel: in the file only",
    "shape_mismatch": "stage2_block1_conv2/kernel: expected shape (3, 3, 8, 8), the file has (1, 1, 8, 8)",
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_does_not_fit_is_refused_and_nothing_is_assigned(kind: str) -> None:
    found = ours(network(1), **CHANGES[kind])
    message = refused(network(2), found, r"Expected weights that fit 'resnet6' \(27 weights\). Received: a/file")
    tensors = {"missing": 26, "unexpected": 28, "shape_mismatch": 27}[kind]
    assert f"({tensors} tensors, resnet_keras), which differs in\n  {PROBLEM[kind]}" in message
    assert message.count("\n") == (2 if kind == "unexpected" else 1)  # with a way on


@pytest.mark.parametrize("kind", CHANGES)
def test_what_fits_is_loaded_where_that_is_asked_for(kind: str) -> None:
    source, model = network(1), network(2)
    before = arrays_of_model(model)
    report = load_weights(model, ours(source, **CHANGES[kind]), strict=False)
    assert report.problems == (PROBLEM[kind],)
    assert len(getattr(report, kind)) == 1
    assert len(report.matched) == 27 - (kind != "unexpected")
    at = {
        "missing": "stage2_block1_conv1_bn/beta",
        "shape_mismatch": "stage2_block1_conv2/kernel",
        "unexpected": "",
    }
    for name, array in arrays_of_model(model).items():
        np.testing.assert_array_equal(
            array, (before if name == at[kind] else arrays_of_model(source))[name], err_msg=name
        )


def test_a_tensor_that_does_not_fit_is_called_as_both_libraries_do() -> None:
    arrays = foreign(network(1), "cifar") | {
        "conv1.weight": np.ones((4, 1, 3, 3), "float32"),
        "layer9.0.bn1.bias": np.ones(4),
    }
    message = refused(network(2, zero_channels="both_sides"), import_arrays(arrays, "x"), "which differs in")
    assert message.splitlines()[1:] == [
        "  stem_conv/kernel (conv1.weight): expected shape (3, 3, 3, 4), the file has (3, 3, 1, 4)",
        "  stage9_block1_conv1_bn/beta (layer9.0.bn1.bias): in the file only",
    ]


def test_a_folded_bias_that_does_not_fit_is_at_with_its_mean() -> None:
    arrays = foreign(network(1), "cifar") | {"conv1.bias": np.ones(9), "bn1.running_mean": np.ones(9)}
    model = network(2, zero_channels="both_sides")
    before = arrays_of_model(model)
    report = load_weights(model, import_arrays(arrays, "x"), strict=False)
    assert len(report.shape_mismatch) == 1 and "bn1.running_mean, conv1.bias" in report.shape_mismatch[0]
    assert not {"bn1.running_mean", "conv1.bias"} & set(report.matched)
    name = "stem_conv_bn/moving_mean"
    np.testing.assert_array_equal(arrays_of_model(model)[name], before[name])


# Files of another network


@pytest.mark.slow
def test_files_of_resnet18_and_resnet34_do_not_fit_each_other(tmp_path: Path) -> None:
    # Narrow ones: the messages count weights, not channels.
    small, large = (build(ARCHITECTURES[name].replace(widths=(4, 5, 6, 7))) for name in ("resnet18", "resnet34"))
    path = write(small, tmp_path / "resnet18.weights.h5")
    message = refused(large, path, r"weights that fit 'resnet34' \(182 weights\)")
    assert f"Received: {path} (102 tensors, resnet_keras)" in message
    assert "stage1_block3_conv1/kernel: not in the file" in message
    assert "... and 75 more" in message
    path = write(large, tmp_path / "resnet34.weights.h5")
    message = refused(small, path, r"weights that fit 'resnet18' \(102 weights\)")
    assert "(182 tensors, resnet_keras)" in message
    assert message.count(": in the file only") == 5
    assert "... and 75 more" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_of_another_width_names_the_layers_and_both_shapes(tmp_path: Path, suffix: str) -> None:
    wide = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(6, 8), shortcut="A")
    path = write(build(wide, input_shape=(8, 8, 3), classes=5), tmp_path / f"net{suffix}")
    message = refused(network(1), path, r"Expected weights that fit 'resnet6'")
    # In the order of the network, whose first layer that differs is the first of all.
    first, *others = message.splitlines()[1:]
    assert first.strip() == "stem_conv/kernel: expected shape (3, 3, 3, 4), the file has (3, 3, 3, 6)"
    assert [line.strip().partition(":")[0] for line in others] == [
        "stem_conv_bn/gamma",
        "stem_conv_bn/beta",
        "stem_conv_bn/moving_mean",
        "stem_conv_bn/moving_variance",
        "... and 11 more",
    ]


def test_shape_mismatches_are_reported_before_missing_layers(tmp_path: Path) -> None:
    path = write(build("resnet32", input_shape=(32, 32, 1)), tmp_path / "net.weights.h5")
    message = refused(build("resnet20"), path, r"differs in\n  stem_conv/kernel: expected shape")
    assert message.count("\n") == 6


def test_weights_of_another_depth_and_classifier_are_refused(tmp_path: Path) -> None:
    path = write(build("resnet32", classes=7), tmp_path / "net.weights.h5")
    refused(build("resnet20"), path, "in the file only")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    refused(network(1), tmp_path / f"net{suffix}", "which does not exist", FileNotFoundError)
    with pytest.raises(FileNotFoundError, match=f"net{suffix}"):
        named_networks.ResNet20(weights=tmp_path / f"net{suffix}")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".h5", ".pth", ".th", ".safetensors"])
def test_a_damaged_file_changes_nothing(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"net{suffix}").write_bytes(b"PK\x03\x04 and so on")
    message = refused(network(1), tmp_path / f"net{suffix}", "Expected a whole .* which can't be read")
    assert str(tmp_path / f"net{suffix}") in message


# Classifiers


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_classifier_of_other_classes_is_not_loaded_and_warns(tmp_path: Path, suffix: str) -> None:
    saved, model = network(1, classes=7), network(2)
    path = write(saved, tmp_path / f"net{suffix}")
    head = model.get_layer("logits").get_weights()
    with pytest.warns(
        UserWarning, match=r"classifier of 'resnet6' keeps its initial weights: .* has one of 7 classes"
    ) as raised:
        report = load_weights(model, path)
    assert str(path) in str(raised[0].message)
    assert raised[0].filename == __file__
    assert_equal_weights(model, [*saved.get_weights()[:-2], *head])
    assert report.new_head == ("logits/kernel", "logits/bias")
    assert report.ignored == ("logits/kernel", "logits/bias")
    assert len(report.matched) == 25
    assert report.problems == ()
    assert "new classifier: logits/kernel, logits/bias" in str(report)


@pytest.mark.parametrize("library", ["torchvision", "KerasHub", "transformers"])
def test_a_classifier_of_another_library_is_ignored_under_its_name(library: str) -> None:
    saved, model = (
        network(1, PROJECTING, input_shape=(8, 8, 3), classes=7),
        network(2, PROJECTING, input_shape=(8, 8, 3), classes=5),
    )
    with pytest.warns(UserWarning, match="has one of 7 classes"):
        report = load_weights(model, import_arrays(foreign(saved, library), "x"))
    assert list(report.ignored) == [name for name in foreign(saved, library) if name.split(".")[0].split("/")[0] in ("fc", "predictions", "classifier")]  # fmt: skip  # noqa: E501
    assert_equal_weights(build_with_weights(PROJECTING, include_top=False, weights=model), model.get_weights()[:-2])


def test_a_source_without_a_classifier_keeps_initial_weights_and_warns(tmp_path: Path) -> None:
    saved, model = network(1, include_top=False), network(2)
    head = model.get_layer("logits").get_weights()
    with pytest.warns(UserWarning, match="keeps its initial weights: .* has none"):
        report = load_weights(model, write(saved, tmp_path / "net.weights.h5"))
    assert_equal_weights(model, [*saved.get_weights(), *head])
    assert report.new_head == ("logits/kernel", "logits/bias")
    assert report.ignored == report.problems == ()


def test_a_network_without_a_classifier_takes_the_rest_and_does_not_warn(tmp_path: Path) -> None:
    saved, model = network(1), network(2, include_top=False)
    report = load_weights(model, write(saved, tmp_path / "net.weights.h5"))  # a warning would be an error here
    assert_equal_weights(model, saved.get_weights()[:-2])
    assert report.ignored == ("logits/kernel", "logits/bias")
    assert report.new_head == report.problems == ()


def test_a_builder_with_other_classes_or_none_takes_the_backbone(tmp_path: Path) -> None:
    saved = drawn(build("resnet20"), 1)
    path = write(saved, tmp_path / "net.keras")
    with pytest.warns(UserWarning, match="keeps its initial weights"):
        model = named_networks.ResNet20(weights=path, classes=3)
    assert model.output_shape == (None, 3)
    assert_equal_weights(build_with_weights("resnet20", include_top=False, weights=model), saved.get_weights()[:-2])
    assert_equal_weights(named_networks.ResNet20(weights=path, include_top=False), saved.get_weights()[:-2])


def test_half_a_classifier_of_the_right_number_is_missing(tmp_path: Path) -> None:
    refused(network(2), ours(network(1), **{"logits/bias": None}), r"differs in\n  logits/bias: not in the file")
    wider = np.ones((9, 5), "float32")
    refused(
        network(2), ours(network(1), **{"logits/kernel": wider}), r"logits/kernel: expected shape \(8, 5\), .* \(9, 5\)"
    )


def test_a_warning_that_is_an_error_changes_nothing() -> None:
    refused(network(2), ours(network(1, classes=7)), "keeps its initial weights", UserWarning)


# Strides and zero channels, which make another function of the same weights


@pytest.mark.parametrize("place", ["1x1", "3x3"])
def test_strides_in_another_place_are_refused_with_the_remedy(tmp_path: Path, place: Any) -> None:
    other = "3x3" if place == "1x1" else "1x1"
    saved = network(1, BOTTLENECK, input_shape=(8, 8, 3), classes=5, bottleneck_stride=place)
    model = network(2, BOTTLENECK, input_shape=(8, 8, 3), classes=5, bottleneck_stride=other)
    for source in (saved, write(saved, tmp_path / "net.keras")):
        refused(
            model,
            source,
            rf"bottleneck_stride='{place}' \(the stride of bottlenecks\), .*Received: .*, with '{other}'",
        )
    load_weights(model, write(saved, tmp_path / "net.weights.h5"))  # which does not tell
    refused(model, tmp_path / "net.weights.h5", f"bottleneck_stride='{place}'", bottleneck_stride=place)
    load_weights(model, saved, bottleneck_stride=other)
    assert_equal_weights(model, saved.get_weights())


@pytest.mark.parametrize(
    ("library", "place"), [("torchvision", "3x3"), ("keras.applications", "1x1"), ("KerasHub", "3x3")]
)
def test_a_library_s_strides_are_expected_of_the_network(library: str, place: Any) -> None:
    other = "3x3" if place == "1x1" else "1x1"
    models_ = {p: network(1, BOTTLENECK, input_shape=(8, 8, 3), classes=5, bottleneck_stride=p) for p in ("1x1", "3x3")}
    found = import_arrays(foreign(models_[place], library), "x")
    refused(models_[other], found, f"bottleneck_stride='{place}' .*, as x .* has it")
    assert load_weights(models_[place], found).problems == ()


def test_zeros_in_another_place_are_refused_with_the_remedy(tmp_path: Path) -> None:
    end, both = network(1, zero_channels="end"), network(1, zero_channels="both_sides")
    for saved, model, place, other in (
        (end, both, "end", "both_sides"),
        (both, end, "both_sides", "end"),
    ):
        for source in (saved, write(saved, tmp_path / f"{place}.keras")):
            refused(
                model,
                source,
                rf"zero_channels='{place}' \(the zero channels of option A\), .*Received: .*, with '{other}'",
            )
        load_weights(model, saved, zero_channels=other)
    found = import_arrays(foreign(end, "cifar"), "x")
    refused(end, found, "zero_channels='both_sides'")
    load_weights(both, found)
    load_weights(end, found, zero_channels="end")


def test_shortcuts_left_out_are_another_network(tmp_path: Path) -> None:
    plain, residual = (
        network(1, replace(SMALL, shortcut=option), input_shape=(8, 8, 3), classes=5) for option in (None, "A")
    )
    refused(
        residual,
        plain,
        r"plain=True \(a network without shortcuts\), as plainnet6 .* has it. Received: 'resnet6', with False",
    )
    refused(
        plain,
        residual,
        r"plain=False \(a network without shortcuts\), as resnet6 .* has it. Received: 'plainnet6', with True",
    )
    for saved, model in ((plain, residual), (residual, plain)):  # a file of weights does not tell
        assert load_weights(model, write(saved, tmp_path / "net.weights.h5")).problems == ()


def test_places_without_effect_are_no_mismatch() -> None:
    row = Architecture(stem="cifar", block="bottleneck", repeats=(2,), widths=(4,), shortcut="C")
    load_weights(
        network(1, row, input_shape=(8, 8, 3)), network(2, row, input_shape=(8, 8, 3), bottleneck_stride="3x3")
    )
    load_weights(network(1, shortcut="B"), network(2, shortcut="B", zero_channels="both_sides"))


def test_a_builder_takes_strides_and_zeros_from_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "resnet11", BOTTLENECK)
    options: dict[str, Any] = {"input_shape": (8, 8, 3), "classes": 5}
    x = images(2, 8, 8, 3)
    outputs = []
    for library, place, other in (("torchvision", "3x3", "1x1"), ("keras.applications", "1x1", "3x3")):
        saved = drawn(build(BOTTLENECK, bottleneck_stride=place, **options), 1)
        found = import_arrays(foreign(saved, library), "x")
        np.testing.assert_allclose(build_with_weights("resnet11", weights=found, **options)(x), saved(x), atol=1e-6)
        outputs.append(np.asarray(saved(x)))
        # An architecture of one's own is what it says; so is an argument.
        with pytest.raises(ValueError, match=f"bottleneck_stride='{place}'"):
            build_with_weights(BOTTLENECK.replace(bottleneck_stride=other), weights=found, **options)
        loaded_elsewhere = build_with_weights("resnet11", weights=found, bottleneck_stride=other, **options)
        assert np.abs(np.asarray(loaded_elsewhere(x)) - outputs[-1]).max() > 1e-3
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    padded = drawn(build("resnet20", zero_channels="both_sides"), 2)
    model = named_networks.ResNet20(weights=write_torch(foreign(padded, "cifar"), tmp_path / "x.th", zipped=False))
    x = images(2, 32, 32, 3)
    np.testing.assert_allclose(model(x), padded(x), atol=1e-5)


def test_what_is_said_of_a_source_goes_before_what_is_assumed() -> None:
    saved = drawn(build(SMALL, input_shape=(8, 8, 3), classes=5, zero_channels="end"), 1)
    found = import_arrays(foreign(saved, "cifar"), "x")
    model = build_with_weights(SMALL, weights=found, input_shape=(8, 8, 3), classes=5, zero_channels="end")
    np.testing.assert_allclose(model(images(2, 8, 8, 3)), saved(images(2, 8, 8, 3)), atol=1e-6)


def test_a_plain_network_takes_weights_that_tell_of_zeros() -> None:
    saved = drawn(build("plainnet20"), 1)
    found = import_arrays(foreign(saved, "cifar"), "x")
    assert found.conventions.zero_channels == "both_sides"
    assert_equal_weights(build_with_weights("plainnet20", weights=found), saved.get_weights())


# Epsilon, which the weights were trained with


def test_every_normalization_takes_the_epsilon_of_keras_applications() -> None:
    model = network(1, BOTTLENECK, input_shape=(8, 8, 3), classes=5)
    load_weights(model, import_arrays(foreign(model, "keras.applications"), "x"))
    assert epsilons(model) == [1.001e-5] * 12
    load_weights(model, import_arrays(arrays_of_model(model), "x"))  # which does not tell
    assert epsilons(model) == [1.001e-5] * 12


def test_layers_within_segments_take_the_epsilon_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 1)
    model = network(1)
    assert any(isinstance(layer, keras.Model) for layer in model.layers)
    load_weights(model, replace(ours(model), conventions=Conventions(epsilon=0.5)))
    assert epsilons(model) == [0.5] * 5
    expected = np.asarray(model(images(2, 8, 8, 3)))
    load_weights(model, replace(ours(model), conventions=Conventions(epsilon=1e-5)))
    assert np.abs(np.asarray(model(images(2, 8, 8, 3))) - expected).max() > 1e-3


def test_functions_that_were_traced_before_compute_with_the_new_epsilon() -> None:
    model, x = network(1), images(4, 8, 8, 3)
    model.compile("sgd", "sparse_categorical_crossentropy")
    labels = np.array([0, 1, 2, 3])
    before = model.predict(x, verbose=0), model.predict_on_batch(x), model.evaluate(x, labels, verbose=0)
    load_weights(model, replace(ours(model), conventions=Conventions(epsilon=0.5)))
    after = model.predict(x, verbose=0), model.predict_on_batch(x), model.evaluate(x, labels, verbose=0)
    expected = np.asarray(model(x))
    for old, new in zip(before, after, strict=True):
        assert np.abs(np.asarray(old) - np.asarray(new)).max() > 1e-3
    np.testing.assert_allclose(after[0], expected, atol=1e-6)
    np.testing.assert_allclose(after[1], expected, atol=1e-6)
    assert after[2] == pytest.approx(-np.log(expected[np.arange(4), labels]).mean(), rel=1e-4)


def test_the_epsilon_goes_along_into_a_file(tmp_path: Path) -> None:
    model = network(1)
    load_weights(model, replace(ours(model), conventions=Conventions(epsilon=0.5)))
    twin = network(2)
    load_weights(twin, write(model, tmp_path / "net.keras"))
    assert epsilons(twin) == [0.5] * 5
    np.testing.assert_allclose(twin(images(2, 8, 8, 3)), model(images(2, 8, 8, 3)), atol=1e-6)


def folded_source() -> keras.Model:
    """A network with scales, whose statistics are those that folding leaves."""
    source = build(TWO_STAGES, input_shape=(16, 16, 3))
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(np.full(layer.gamma.shape, 0.5))
    return source


def test_training_on_folded_statistics_warns_once_also_nested_and_not_in_inference_mode() -> None:
    model = build(TWO_STAGES, input_shape=(16, 16, 3))
    load_weights(model, folded_source())
    outer = keras.Sequential([keras.Input((16, 16, 3)), model])
    x = np.zeros((2, 16, 16, 3), "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        outer(x, training=False)
        freeze(model, batch_norms=True)
        outer(x, training=True)
    model.trainable = True
    for layer in model.layers:
        layer.trainable = True
    with pytest.warns(
        UserWarning, match=r"are folded into scale and offset in .*Before `fit`, call `resnet_keras\.surg"
    ):
        outer(x, training=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        outer(x, training=True)
        load_weights(model, folded_source())
        restore_statistics(model, [x + 1])
        outer(x, training=True)
        load_weights(model, folded_source())
        load_weights(model, build(TWO_STAGES, input_shape=(16, 16, 3)))  # of a new network
        outer(x, training=True)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("stem_conv/kernel", np.nan, "1 of 108 numbers are not finite"),
        ("stem_conv/kernel", -np.inf, "1 of 108 numbers are not finite"),
        ("stem_conv/kernel", 1e39, "1 of 108 numbers are not finite"),
        ("stem_conv_bn/moving_variance", -1e-3, "1 of 4 variances are negative"),
    ],
)
def test_weights_that_do_not_compute_are_refused_by_name_unless_allowed(name: str, value: float, reason: str) -> None:
    model = build(TWO_STAGES, input_shape=(8, 8, 3), classes=3)
    array = arrays_of_model(drawn(model))[name].astype("float64")
    array.flat[1] = value
    source = ours(model, **{name: array})
    refused(model, source, f"Expected finite weights.*Received: a/file, with {name}: {reason}")
    with np.errstate(over="ignore"):
        expected = array.astype("float32")
    load_weights(model, source, allow_nonfinite=True)
    np.testing.assert_array_equal(arrays_of_model(model)[name], expected)


def test_a_network_is_checked_before_an_export() -> None:
    model = build(TWO_STAGES, input_shape=(8, 8, 3), classes=3)
    check_finite_model(model)
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(-layer.moving_variance)
    with pytest.raises(ValueError, match=r"with .*moving_variance: 4 of 4 variances are negative; .*; and [0-9]+ more"):
        check_finite_model(model)
