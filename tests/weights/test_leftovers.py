"""What files hold beside a backbone: other heads, detectors, losses, second networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.foreign_weights import SMALL, foreign, network, write_safetensors, zeros
from helpers.small_networks import drawn

from resnet_keras.applications.loaded_network import load_network
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.builder import build
from resnet_keras.weights.imported import ImportedWeights, import_arrays
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.sources import open_weights

HEAD = ("linear.weight", "linear.bias")
PIXELS = Preprocessing(image_size=(8, 8), channels=3, mean=(0,) * 3, std=(1,) * 3)
WEIGHTS = zeros(SMALL, classes=5)


def named(prefix: str = "", *, head: bool = True, **others: Any) -> dict[str, np.ndarray]:
    """Returns PyTorch's names of a small network of 8 features with a prefix, and other tensors of these shapes."""
    arrays = foreign(WEIGHTS, "cifar")
    kept = {f"{prefix}{name}": array for name, array in arrays.items() if head or name not in HEAD}
    return kept | {name: np.zeros(shape, "float32") for name, shape in others.items()}


def imported(prefix: str = "", *, head: bool = True, **others: Any) -> ImportedWeights:
    return import_arrays(named(prefix, head=head, **others), "file")


@pytest.mark.parametrize("module", ["fc.1", "head.fc", "classifier.2.linear", "last_linear", "linear.0"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_one_linear_layer_of_a_head_is_the_classifier(prefix: str, module: str) -> None:
    found = imported(prefix, head=False, **{f"{prefix}{module}.weight": (7, 8), f"{prefix}{module}.bias": (7,)})
    assert found.classes == 7
    assert found.names["logits/kernel"] == (f"{prefix}{module}.weight",)
    assert found.names["logits/bias"] == (f"{prefix}{module}.bias",)
    assert f"{prefix}{module}.weight is taken for the classifier" in found.notes
    assert not found.beside and not found.unexpected


@pytest.mark.parametrize(
    "others",
    [
        {"fc.0.weight": (8, 8), "fc.2.weight": (7, 8)},  # MoCo's and SimCLR's projections
        {"fc.0.weight": (8,), "fc.1.weight": (7, 8)},  # with a normalization
        {"projector.weight": (7, 8)},
        {"fc.1.weight": (7, 9)},  # of other features
    ],
)
def test_another_head_is_no_classifier(others: dict[str, Any]) -> None:
    found = imported(head=False, **others)
    assert found.classes is None
    assert found.beside == tuple(others)


DETECTOR = {"neck.fpn.weight": (4, 8, 1, 1), "rpn.conv.weight": (4, 4, 3, 3), "roi_heads.fc.weight": (9, 16)}


def test_the_backbone_of_a_detector_is_loaded_and_the_rest_is_told(caplog: pytest.LogCaptureFixture) -> None:
    found = imported("backbone.body.", head=False, **DETECTOR)
    assert (found.classes, found.beside, found.unexpected) == (None, tuple(DETECTOR), ())
    model = build(SMALL, include_top=False, zero_channels="both_sides")
    report = load_weights(model, found)
    assert len(report.matched) == 25 and not report.problems
    assert report.ignored == tuple(DETECTOR)
    assert "passed over, without a place in the network: neck (1), rpn (1), roi_heads (1)" in report.notes
    assert "file: passed over, without a place in the network: neck (1)" in caplog.text
    with pytest.warns(UserWarning, match="keeps its initial weights: file has none"):
        report = load_weights(network(0, zero_channels="both_sides"), found)
    assert report.new_head == ("logits/kernel", "logits/bias") and not report.problems


def test_a_backbone_without_a_classifier_is_refused_where_one_is_needed() -> None:
    found = imported("backbone.body.", head=False, **DETECTOR)
    with pytest.raises(ValueError, match=r"with a classifier.*Received: file, a backbone with neck \(1\), rpn \(1\)"):
        load_network(found, preprocessing=PIXELS)


def test_what_is_beside_a_classifier_that_is_loaded_needs_a_word() -> None:
    found = imported("model.", **{"stn.weight": (4, 3, 3, 3)})
    with pytest.raises(ValueError, match=r"stn\.weight: in the file only\n  `resnet convert --skip-unexpected`"):
        load_network(found, preprocessing=PIXELS)
    loaded = load_network(found, preprocessing=PIXELS, skip_unexpected=True)
    assert loaded.report.ignored == ("stn.weight",)
    assert "passed over, without a place in the network: stn (1)" in loaded.report.notes


def test_tensors_inside_the_network_are_not_passed_over_for_a_backbone() -> None:
    found = imported(head=False, **{"layer1.0.attention.weight": (4, 4)})
    assert found.unexpected == ("layer1.0.attention.weight",)
    with pytest.raises(ValueError, match=r"layer1\.0\.attention\.weight: in the file only"):
        load_weights(build(SMALL, include_top=False), found)


@pytest.mark.parametrize(
    ("others", "note"),
    [
        ({"n_averaged": ()}, "n_averaged"),
        ({"total_ops": (1,), "layer1.0.conv1.total_ops": (1,), "conv1.total_params": (1,)}, "total_ops (2), total_p"),
        ({"criterion.weight": (5,)}, "criterion.weight"),
        ({"train_metrics.total": ()}, "train_metrics.total"),
        ({"bn1.num_batches_tracked": ()}, None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_is_no_weight_is_passed_over_and_told(prefix: str, others: dict[str, Any], note: str | None) -> None:
    found = imported(prefix, **{f"{prefix}{name}": shape for name, shape in others.items()})
    assert len(found.ignored) == len(others) and not found.beside and not found.unexpected
    told = [each for each in found.notes if each.startswith("passed over")]
    expected = "passed over, because they are not weights of the network: "
    assert (told == []) if note is None else told[0].removeprefix(expected).removeprefix(prefix).startswith(note)
    assert not load_network(found, preprocessing=PIXELS).report.problems


def test_a_prefix_chooses_one_of_two_networks(tmp_path: Any) -> None:
    query, key = named("module.encoder_q.", head=False), named("module.encoder_k.", head=False)
    path = write_safetensors(query | {name: array + 1 for name, array in key.items()}, tmp_path / "moco.safetensors")
    with pytest.raises(
        ValueError, match=r"`prefix`, in training `weights_prefix`.*: 2, 'module\.encoder_k', 'module\.encoder_q'"
    ):
        open_weights(path)
    for prefix in ("module.encoder_k", "module.encoder_k."):
        found = open_weights(path, prefix=prefix)
        assert found.tensors["stem_conv/kernel"].max() == 1
        assert len(found.beside) == 25
    with pytest.raises(ValueError, match=r"Expected `prefix` of a network, one of .*Received: 'encoder_k'"):
        open_weights(path, prefix="encoder_k")


def test_a_network_at_the_root_keeps_its_weights_beside_one_with_a_prefix() -> None:
    arrays = named("model.") | {name: array + 1 for name, array in named().items()}
    assert import_arrays(arrays, "file", prefix="").tensors["logits/kernel"].max() == 1
    assert import_arrays(arrays, "file", prefix="model").tensors["stem_conv/kernel"].max() == 0


def test_a_small_stem_on_four_stages_is_an_assumption_that_is_told() -> None:
    row = SMALL.__class__(stem="cifar", block="basic", repeats=(1,) * 4, widths=(4, 8, 8, 8), shortcut="B")
    notes = import_arrays(foreign(zeros(row), "torchvision"), "file").notes
    assert [note for note in notes if "stride 1 and no pool" in note]
    assert not imported().notes, "CIFAR's own networks have three stages"


UNUSUAL = SMALL.replace(block="bottleneck", bottleneck_stride="3x3", zero_channels="both_sides")


def keras_body(name: str = "dense") -> tuple[Any, Any]:
    model = build(UNUSUAL, include_top=False, pooling="avg", input_shape=(8, 8, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 1e-2
    return model, keras.layers.Dense(7, name=name)


def test_a_model_around_a_network_has_its_conventions_and_its_activation() -> None:
    body, dense = keras_body()
    around = keras.Sequential([keras.Input((8, 8, 3)), keras.Sequential([body]), dense])
    conventions = open_weights(around).conventions
    assert conventions == open_weights(body).conventions
    assert (conventions.bottleneck_stride, conventions.zero_channels) == ("3x3", "both_sides")
    assert conventions.epsilon == pytest.approx(1e-2)
    with pytest.raises(ValueError, match="bottleneck_stride"):
        load_weights(build(UNUSUAL.replace(bottleneck_stride="1x1"), include_top=False), around)
    inner = network(0, classifier_activation="sigmoid")
    outer = keras.Sequential([keras.Input((8, 8, 3)), inner])
    assert open_weights(outer).several_labels


@pytest.mark.parametrize("kind", ["functional", "sequential", "nested", "activation"])
@pytest.mark.parametrize("as_file", [True, False])
def test_what_comes_of_keras_guide_to_transfer_learning_is_converted(kind: str, as_file: bool, tmp_path: Path) -> None:
    body, dense = keras_body("dense_3" if kind == "sequential" else "my_head")
    inputs = keras.Input((8, 8, 3))
    dropped = keras.layers.Dropout(0.2)
    model = {
        "functional": lambda: keras.Model(body.input, dense(dropped(body.output))),
        "sequential": lambda: keras.Sequential([inputs, body, dropped, dense]),
        "nested": lambda: keras.Model(inputs, dense(dropped(body(inputs, training=False)))),
        "activation": lambda: keras.Model(body.input, keras.layers.Softmax()(dense(body.output))),
    }[kind]()
    drawn(model)
    path = tmp_path / "x.keras"
    model.save(path)
    loaded = load_network(path if as_file else model, preprocessing=PIXELS)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    received, expected = np.asarray(loaded.model(images)), np.asarray(model(images))
    if kind == "activation":
        received = np.asarray(keras.ops.softmax(received))
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert not loaded.report.problems


def test_a_head_of_two_layers_in_keras_is_a_backbone_s() -> None:
    body, dense = keras_body()
    model = keras.Model(body.input, dense(keras.layers.Dense(8, activation="relu", name="hidden")(body.output)))
    with pytest.raises(ValueError, match=r"a backbone with hidden \(2\), dense \(2\)|dense \(2\), hidden \(2\)"):
        load_network(model, preprocessing=PIXELS)


def test_layers_that_change_pixels_are_refused_by_name(tmp_path: Path) -> None:
    body, dense = keras_body()
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, dense(body(keras.layers.Rescaling(1 / 255, name="scale")(inputs))))
    model.save(tmp_path / "x.keras")
    for source in (model, tmp_path / "x.keras"):
        with pytest.raises(ValueError, match=r"with scale, a Rescaling\. The model as it is can be evaluated"):
            open_weights(source)
