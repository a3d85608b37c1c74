"""Which layers learn: what real training steps leave as it was, bit for bit."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from helpers.small_networks import FOUR_STAGES, TWO_STAGES, drawn, images

from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.surgery.freezing import Freezing, freeze

PARTS = {TWO_STAGES: ("stem", "stage1", "stage2"), FOUR_STAGES: ("stem", "stage1", "stage2", "stage3", "stage4")}
TWO_STAGES_PARAMETERS = {
    "stem": 9 * 3 * 4 + 2 * 4,
    "stage1": 6 * (9 * 4 * 4 + 2 * 4),
    "stage2": 9 * 4 * 8 + 3 * 9 * 8 * 8 + 4 * 2 * 8,
    "head": 8 * 5 + 5,
}


def network(architecture: Architecture = TWO_STAGES) -> keras.Model:
    side = 16 if architecture is TWO_STAGES else 64
    return drawn(build(architecture, input_shape=(side, side, 3), classes=5, classifier_activation=None))


def trained(model: keras.Model, *, eager: bool = True) -> tuple[set[str], set[str]]:
    """Trains for three steps; returns the paths of the weights that changed, and of those that did not."""
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=eager,
    )
    before = {weight.path: weight.numpy().tobytes() for weight in model.weights}
    model.fit(images(24, *model.input_shape[1:]), np.arange(24) % 5, batch_size=8, epochs=1, verbose=0)
    changed = {weight.path for weight in model.weights if weight.numpy().tobytes() != before[weight.path]}
    return changed, before.keys() - changed


def part_of(path: str) -> str:
    (name,) = re.findall(r"stem|stage\d|logits", path.split("/")[-2])[:1]
    return "head" if name == "logits" else name


@pytest.mark.parametrize(
    ("architecture", "up_to"),
    [
        *((TWO_STAGES, up_to) for up_to in (None, *PARTS[TWO_STAGES], "backbone")),
        *((FOUR_STAGES, up_to) for up_to in ("stage3", "stage4")),
    ],
)
def test_frozen_parts_stay_as_they_were_and_all_others_learn(architecture: Architecture, up_to: Any) -> None:
    model = network(architecture)
    parts = PARTS[architecture]
    last = parts[-1] if up_to == "backbone" else up_to
    frozen = set() if up_to is None else set(parts[: parts.index(last) + 1])
    found = freeze(model, up_to)
    changed, same = trained(model)
    assert {part_of(path) for path in same} == frozen
    assert {part_of(path) for path in changed} == {*parts, "head"} - frozen
    for name, learning, resting, norms, all_norms in found.parts:
        assert (learning == 0) == (name in frozen)
        assert (resting == 0) == (name not in frozen)
        assert norms == (all_norms if name in frozen else 0)


@pytest.mark.parametrize("eager", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("up_to", [None, "stage1"])
def test_every_batch_normalization_may_rest(up_to: Any, eager: bool) -> None:
    model = network()
    found = freeze(model, up_to, batch_norms=True)
    changed, same = trained(model, eager=eager)
    norms = {path for path in changed | same if path.split("/")[-2].endswith("_bn")}
    frozen = {"stem", "stage1"} if up_to else set()
    assert same == norms | {path for path in changed | same if part_of(path) in frozen}
    assert [(name, norms, count) for name, *_, norms, count in found.parts] == [
        ("stem", 1, 1),
        ("stage1", 6, 6),
        ("stage2", 4, 4),
        ("head", 0, 0),
    ]
    gammas_and_betas = 4 * 2 * 8
    *_, stage2, head = found.parts
    assert stage2[1:3] == (TWO_STAGES_PARAMETERS["stage2"] - gammas_and_betas, gammas_and_betas)
    assert head[1:3] == (TWO_STAGES_PARAMETERS["head"], 0)


def test_frozen_normalizations_normalize_by_their_moving_statistics_in_training() -> None:
    model = network()
    freeze(model, "backbone")
    x = 3 * images(4, 16, 16, 3) + 1
    np.testing.assert_array_equal(model(x, training=True), model(x, training=False))
    freeze(model)
    assert np.abs(np.asarray(model(x, training=True)) - np.asarray(model(x, training=False))).max() > 0.01


def test_freezing_again_frees_what_is_not_named_any_more() -> None:
    model = network()
    freeze(model, "backbone", batch_norms=True)
    found = freeze(model, "stem")
    assert [frozen for _, _, frozen, _, _ in found.parts] == [TWO_STAGES_PARAMETERS["stem"], 0, 0, 0]
    freeze(model)
    assert trained(model)[1] == set()


@pytest.mark.parametrize("what", ["model", "layers"])
def test_freezing_nothing_frees_a_network_that_was_frozen_by_hand(what: str) -> None:
    model = network()
    if what == "model":
        model.trainable = False
    else:
        for layer in model.layers:
            layer.trainable = False
    found = freeze(model)
    learning = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert learning == sum(count for _, count, *_ in found.parts) == sum(TWO_STAGES_PARAMETERS.values())


@pytest.mark.parametrize("up_to", [None, "stem", "stage1", "stage2", "backbone"])
def test_counts_are_those_by_hand(up_to: Any) -> None:
    model = network()
    found = freeze(model, up_to)
    parts = list(TWO_STAGES_PARAMETERS)
    frozen = parts[: 0 if up_to is None else 3 if up_to == "backbone" else parts.index(up_to) + 1]
    norms = {"stem": 1, "stage1": 6, "stage2": 4, "head": 0}
    assert found == Freezing(
        tuple(
            (name, 0, count, norms[name], norms[name]) if name in frozen else (name, count, 0, 0, norms[name])
            for name, count in TWO_STAGES_PARAMETERS.items()
        )
    )


def test_counts_of_resnet50_are_those_of_its_published_parts_and_sum_to_its_parameters() -> None:
    model = build("resnet50")
    found = freeze(model, "stage2", batch_norms=True)
    totals = {name: learning + frozen for name, learning, frozen, *_ in found.parts}
    assert totals == {
        "stem": 9_536,
        "stage1": 215_808,
        "stage2": 1_219_584,
        "stage3": 7_098_368,
        "stage4": 14_964_736,
        "head": 2_049_000,
    }
    statistics = sum(int(np.prod(weight.shape)) for weight in model.weights if "moving" in weight.name)
    assert sum(totals.values()) == model.count_params() - statistics == 25_557_032
    assert sum(norms for *_, norms in found.parts) == 53


def test_a_freezing_reads_as_a_line_for_each_part() -> None:
    lines = str(freeze(network(), "stage1", batch_norms=True)).splitlines()
    assert [line.split() for line in lines] == [
        ["part", "trainable", "frozen", "frozen", "batch", "normalizations"],
        ["stem", "0", "116", "1", "of", "1"],
        ["stage1", "0", "912", "6", "of", "6"],
        ["stage2", "2,016", "64", "4", "of", "4"],
        ["head", "45", "0", "0", "of", "0"],
    ]


@pytest.mark.parametrize("up_to", ["stage4", "head", "", "stage", "conv1"])
def test_an_unknown_part_raises_and_lists_those_there_are(up_to: Any) -> None:
    model = network()
    with pytest.raises(ValueError, match=rf"one of stem, stage1, stage2, backbone, or None\. Received: '{up_to}'"):
        freeze(model, up_to)
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("up_to", ["stage2", "backbone"])
def test_all_of_a_network_without_head_may_be_frozen(up_to: Any) -> None:
    model = build(TWO_STAGES, include_top=False)
    found = freeze(model, up_to)
    assert [name for name, *_ in found.parts] == ["stem", "stage1", "stage2"]
    assert model.trainable_weights == []


def test_parts_are_frozen_inside_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    model = network()
    assert sum(isinstance(layer, keras.Model) for layer in model.layers) == 3
    found = freeze(model, "stage1")
    changed, same = trained(model)
    assert {part_of(path) for path in same} == {"stem", "stage1"}
    assert {part_of(path) for path in changed} == {"stage2", "head"}
    assert {name: learning + frozen for name, learning, frozen, *_ in found.parts} == TWO_STAGES_PARAMETERS
    freeze(model)
    assert all(layer.trainable for layer in flat_layers(model))


def test_a_network_read_from_a_file_is_frozen_as_it_was(tmp_path: Any) -> None:
    model = network()
    freeze(model, "stage1")
    model.save(tmp_path / "frozen.keras")
    loaded = keras.saving.load_model(tmp_path / "frozen.keras")
    assert [weight.path for weight in loaded.trainable_weights] == [weight.path for weight in model.trainable_weights]
    assert len(freeze(loaded).parts) == 4
    assert trained(loaded)[1] == set()
