"""The table against the paper: Table 1, the plain networks of §3.3 and the CIFAR family of §4.2."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from resnet_keras.networks.architecture import EXPANSION, Architecture, PlannedBlock
from resnet_keras.networks.catalog import ARCHITECTURES, architecture, network_name
from resnet_keras.networks.conventions import PAPER, Conventions
from resnet_keras.recipes.catalog import RECIPES

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
    assert (row.shortcut, row.conventions.bottleneck_stride, row.batch_norm) == ("B", "1x1", "per_replica")
    assert (row.image_size, row.classes, row.total_stride) == (224, 1000, 32)
    assert row.depth == depth


@pytest.mark.parametrize("n", CIFAR_N)
def test_cifar_row_has_6n_plus_2_layers(n: int) -> None:
    row = ARCHITECTURES[f"resnet{6 * n + 2}"]
    assert (row.stem, row.block, row.repeats, row.widths) == ("cifar", "basic", (n, n, n), (16, 32, 64))
    assert (row.shortcut, row.conventions.zero_channels) == ("A", "end")
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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"stem": "imagenet22k"},
            r"`stem` to be one of \('imagenet', 'cifar', 'deep', 'strided'\). Received: 'imagenet22k'",
        ),
        ({"block": "preactivation"}, r"`block` to be one of \('basic', 'bottleneck'\). Received: 'preactivation'"),
        ({"shortcut": "D"}, r"`shortcut` to be one of \('A', 'B', 'C', None\). Received: 'D'"),
        ({"zero_channels": "before"}, r"`zero_channels` to be one of .* Received: 'before'"),
        ({"bottleneck_stride": "7x7"}, r"`bottleneck_stride` to be one of \('1x1', '3x3', None\). Received: '7x7'"),
        ({"batch_norm": "group"}, r"`batch_norm` to be one of .* Received: 'group'"),
        ({"repeats": ()}, r"`repeats` to hold positive integers, one per stage. Received: \(\)"),
        ({"repeats": (1, 0)}, r"`repeats` to hold positive integers, one per stage. Received: \(1, 0\)"),
        ({"repeats": (1, 2.0)}, r"`repeats` to hold positive integers, one per stage. Received: \(1, 2.0\)"),
        ({"widths": (4, -8)}, r"`widths` to hold positive integers, one per stage. Received: \(4, -8\)"),
        ({"repeats": (1, 1, 1)}, r"as many `widths` as `repeats`.*repeats=\(1, 1, 1\), widths=\(4, 8\)"),
        ({"output_stride": 4}, r"`output_stride` to be one of \[1, 2\], the strides of resnet6's stages, or None.*: 4"),
        ({"output_stride": 0}, r"`output_stride` to be one of \[1, 2\], .* Received: 0"),
        ({"output_stride": "2"}, r"`output_stride` to be an integer, or None. Received: '2'"),
        ({"stem": "imagenet", "output_stride": 2}, r"`output_stride` to be one of \[4, 8\], .* Received: 2"),
        ({"shortcut": "A", "widths": (8, 4)}, r"`widths` that never shrink .* Received: widths=\(8, 4\)"),
    ],
)
def test_bad_field_raises(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**VALID).replace(**fields)


def test_conventions_that_are_not_given_are_the_papers() -> None:
    assert Architecture(**VALID).replace(bottleneck_stride=None) == Architecture(**VALID)
    own = Architecture(**VALID, conventions=Conventions(bottleneck_stride="3x3"))
    assert own.conventions == dataclasses.replace(PAPER, bottleneck_stride="3x3", plain=False)
    with pytest.raises(TypeError, match="stem_stride"):
        own.replace(stem_stride=2)


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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_plan_has_the_blocks_of_the_table_which_halve_at_every_stage_but_the_first(name: str) -> None:
    row = ARCHITECTURES[name]
    assert tuple(len(stage) for stage in row.blocks) == row.repeats
    for number, (stage, width) in enumerate(zip(row.blocks, row.widths, strict=True), start=1):
        halving = 2 if number > 1 else 1
        assert stage[0] == PlannedBlock(f"stage{number}_block1", width, halving, 1, 1)
        for place, block in enumerate(stage[1:], start=2):
            assert block == PlannedBlock(f"stage{number}_block{place}", width, 1, 1, 1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "plainnet34", "resnet20", "plainnet56"])
def test_output_stride_of_the_full_network_changes_no_block(name: str) -> None:
    row = ARCHITECTURES[name]
    whole = row.replace(output_stride=row.total_stride)
    assert (whole.blocks, whole.total_stride) == (row.blocks, row.total_stride)


@pytest.mark.parametrize(
    ("stem", "output_stride", "firsts"),
    [
        ("imagenet", 32, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)]),
        # Rate 2 after the first stride that dilation replaces, 4 after the second.
        ("imagenet", 16, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)]),
        ("imagenet", 8, [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]),
        ("imagenet", 4, [(1, 1, 1), (1, 1, 2), (1, 2, 4), (1, 4, 8)]),
        ("cifar", 4, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)]),
        ("cifar", 1, [(1, 1, 1), (1, 1, 2), (1, 2, 4), (1, 4, 8)]),
    ],
)
def test_stages_beyond_the_output_stride_dilate(
    stem: str, output_stride: int, firsts: list[tuple[int, int, int]]
) -> None:
    shape = {"stem": stem, "repeats": (1, 2, 3, 2), "widths": (4, 4, 4, 4)}
    own = Architecture(**VALID | shape).replace(output_stride=output_stride)
    for stage, first, repeats in zip(own.blocks, firsts, own.repeats, strict=True):
        _, _, after = first
        found = [(block.stride, block.dilation, block.dilation_after) for block in stage]
        assert found == [first, *[(1, after, after)] * (repeats - 1)]
    assert own.total_stride == output_stride


@pytest.mark.parametrize("name", ["resnet50", "resnet20", "plainnet18"])
def test_output_stride_changes_neither_name_nor_depth(name: str) -> None:
    row = ARCHITECTURES[name]
    dilated = row.replace(output_stride=row.total_stride // 2)
    assert (dilated.name, dilated.depth) == (row.name, row.depth)
    assert [[block.name for block in stage] for stage in dilated.blocks] == [
        [block.name for block in stage] for stage in row.blocks
    ]


def test_stochastic_depth_rises_from_block_to_block() -> None:
    row = dataclasses.replace(ARCHITECTURES["resnet20"], stochastic_depth=0.45)
    drops = [plan.drop for stage in row.blocks for plan in stage]
    assert drops == pytest.approx([0.05 * i for i in range(1, 10)])
    assert all(plan.drop == 0 for stage in ARCHITECTURES["resnet20"].blocks for plan in stage)


@pytest.mark.parametrize("fields", [{"stochastic_depth": 1.0}, {"stochastic_depth": -0.1}])
def test_a_probability_out_of_its_range_raises(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"`stochastic_depth` to be in \[0, 1\)\. Received: "):
        dataclasses.replace(ARCHITECTURES["resnet20"], **fields)


@pytest.mark.parametrize("fields", [{"stochastic_depth": 0.1}, {"zero_init_residual": True}])
def test_a_plain_network_has_no_residuals_to_leave_out(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="without shortcuts"):
        dataclasses.replace(ARCHITECTURES["plainnet20"], **fields)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ResNet50", "resnet50"),
        ("resnet-50", "resnet50"),
        ("resnet_50", "resnet50"),
        ("ResNet50V2", "resnet50v2"),
        ("resnext50", "resnext50_32x4d"),
        ("ResNeXt-101-64x4d", "resnext101_64x4d"),
        ("wide_resnet50", "wide_resnet50_2"),
        ("WRN-28-10", "wide_resnet28_10"),
        ("seresnet50", "se_resnet50"),
        ("resnetrs50", "resnet_rs50"),
    ],
)
def test_networks_are_known_by_usual_spellings(spelling: str, name: str) -> None:
    assert network_name(spelling) == name
    assert architecture(spelling) == architecture(name)


@pytest.mark.parametrize(
    ("spelling", "near"),
    [
        ("resnext101", "resnext101_32x8d or resnext101_64x4d?"),
        ("resnet5", "resnet56, resnet50 or resnet152?"),
        ("resnet100", "resnet110, resnet101 or resnet1001v2?"),
        ("wide", None),
        ("", None),
        ("50", None),
    ],
)
def test_other_names_get_at_most_three(spelling: str, near: str | None) -> None:
    with pytest.raises(ValueError, match=f"Received: '{spelling}'") as raised:
        network_name(spelling)
    message = str(raised.value)
    assert len(message) < 200
    assert near is None or f"Did you mean {near}" in message


def test_a_recipe_holds_the_name_of_the_table() -> None:
    assert RECIPES["cifar10"].replace(model="WRN-28-10").network.model == "wide_resnet28_10"
