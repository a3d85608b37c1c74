"""The table against the paper: Table 1, the plain networks of §3.3 and the CIFAR family of §4.2."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from resnet_keras.architectures import ARCHITECTURES, EXPANSION, Architecture, architecture

# Table 1: depth, the blocks of its columns, and how often each is repeated in conv2_x to conv5_x.
TABLE_1 = [
    (18, "basic", (2, 2, 2, 2)),
    (34, "basic", (3, 4, 6, 3)),
    (50, "bottleneck", (3, 4, 6, 3)),
    (101, "bottleneck", (3, 4, 23, 3)),
    (152, "bottleneck", (3, 8, 36, 3)),
]
CIFAR_N = [3, 5, 7, 9, 18, 200]  # §4.2 and Table 6

VALID: dict[str, Any] = {"stem": "cifar", "block": "basic", "repeats": (1, 1), "widths": (4, 8)}


@pytest.mark.parametrize(("depth", "block", "repeats"), TABLE_1)
def test_imagenet_row_equals_table_1(depth: int, block: str, repeats: tuple[int, ...]) -> None:
    row = ARCHITECTURES[f"resnet{depth}"]
    assert (row.stem, row.block, row.repeats) == ("imagenet", block, repeats)
    assert row.widths == (64, 128, 256, 512)
    # The channels that leave conv5_x: 512 in the basic columns, 2048 in the others.
    assert row.widths[-1] * EXPANSION[row.block] == (512 if block == "basic" else 2048)
    assert (row.shortcut, row.bottleneck_stride, row.batch_norm) == ("B", "1x1", "per_replica")
    assert (row.image_size, row.classes, row.total_stride) == (224, 1000, 32)
    assert row.depth == depth


@pytest.mark.parametrize("n", CIFAR_N)
def test_cifar_row_has_6n_plus_2_layers(n: int) -> None:
    row = ARCHITECTURES[f"resnet{6 * n + 2}"]
    assert (row.stem, row.block, row.repeats, row.widths) == ("cifar", "basic", (n, n, n), (16, 32, 64))
    assert (row.shortcut, row.zero_channels) == ("A", "behind")
    assert (row.image_size, row.classes, row.total_stride) == (32, 10, 4)
    assert row.depth == 6 * n + 2


@pytest.mark.parametrize("depth", [18, 34, 20, 32, 44, 56, 110])
def test_plain_network_is_its_residual_twin_without_shortcuts(depth: int) -> None:
    assert ARCHITECTURES[f"plainnet{depth}"] == dataclasses.replace(ARCHITECTURES[f"resnet{depth}"], shortcut=None)


def test_table_holds_the_networks_of_the_paper_and_no_other() -> None:
    residual = {f"resnet{depth}" for depth, *_ in TABLE_1} | {f"resnet{6 * n + 2}" for n in CIFAR_N}
    plain = {f"plainnet{depth}" for depth in (18, 34, 20, 32, 44, 56, 110)}
    assert set(ARCHITECTURES) == residual | plain


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_depth_is_the_number_in_the_name(name: str) -> None:
    row = architecture(name)
    assert row.name == name
    assert row.depth == int(name.removeprefix("plain").removeprefix("res").removeprefix("net"))


@pytest.mark.parametrize("name", ["resnet51", "ResNet50", "", "50"])
def test_unknown_name_raises_and_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"Expected one of .*Received: ") as raised:
        architecture(name)
    assert repr(name) in str(raised.value)
    assert all(known in str(raised.value) for known in ARCHITECTURES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stem": "imagenet22k"}, r"`stem` to be one of \('imagenet', 'cifar'\). Received: 'imagenet22k'"),
        ({"block": "preactivation"}, r"`block` to be one of \('basic', 'bottleneck'\). Received: 'preactivation'"),
        ({"shortcut": "D"}, r"`shortcut` to be one of \('A', 'B', 'C', None\). Received: 'D'"),
        ({"zero_channels": "before"}, r"`zero_channels` to be one of .* Received: 'before'"),
        ({"bottleneck_stride": "7x7"}, r"`bottleneck_stride` to be one of \('1x1', '3x3'\). Received: '7x7'"),
        ({"bottleneck_stride": None}, r"`bottleneck_stride` to be one of .* Received: None"),
        ({"batch_norm": "group"}, r"`batch_norm` to be one of .* Received: 'group'"),
        ({"repeats": ()}, r"`repeats` to hold positive integers, one per stage. Received: \(\)"),
        ({"repeats": (1, 0)}, r"`repeats` to hold positive integers, one per stage. Received: \(1, 0\)"),
        ({"repeats": (1, 2.0)}, r"`repeats` to hold positive integers, one per stage. Received: \(1, 2.0\)"),
        ({"widths": (4, -8)}, r"`widths` to hold positive integers, one per stage. Received: \(4, -8\)"),
        ({"repeats": (1, 1, 1)}, r"as many `widths` as `repeats`.*repeats=\(1, 1, 1\), widths=\(4, 8\)"),
        ({"shortcut": "A", "widths": (8, 4)}, r"`widths` that never shrink .* Received: widths=\(8, 4\)"),
    ],
)
def test_bad_field_raises(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**VALID | fields)


@pytest.mark.parametrize("shortcut", ["B", "C", None])
def test_widths_may_shrink_where_no_zeros_are_added(shortcut: Any) -> None:
    assert Architecture(**VALID | {"widths": (8, 4), "shortcut": shortcut}).widths == (8, 4)


def test_lists_become_tuples_so_that_equal_architectures_are_equal() -> None:
    listed = Architecture(**VALID | {"repeats": [1, 1], "widths": [4, 8]})
    assert listed == Architecture(**VALID)
    assert hash(listed) == hash(Architecture(**VALID))


def test_architecture_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ARCHITECTURES["resnet50"].block = "basic"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "depth", "stride"),
    [
        ({"stem": "imagenet", "block": "bottleneck", "repeats": (1, 2, 3), "widths": (8, 8, 8)}, 20, 16),
        ({"repeats": (4,), "widths": (4,)}, 10, 1),
        ({"shortcut": None}, 6, 2),
    ],
)
def test_depth_and_stride_follow_from_the_blocks(fields: dict[str, Any], depth: int, stride: int) -> None:
    own = Architecture(**VALID | fields)
    assert (own.depth, own.total_stride) == (depth, stride)
