"""Parameters and multiply-adds against the paper's Table 1."""

import json
import subprocess
import sys

import pytest
from helpers.shapes_only import shapes_only
from helpers.tables import unpadded

from resnet_keras.applications.named_networks import ResNet18
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES, FAMILY
from resnet_keras.networks.complexity import (
    STORED,
    complexity,
    complexity_table,
    multiply_adds,
    parameters,
    stored_complexity,
)


@pytest.mark.parametrize(
    ("name", "paper"),
    [("resnet18", 1.8), ("resnet34", 3.6), ("resnet50", 3.8), ("resnet101", 7.6), ("resnet152", 11.3)],
)
def test_multiply_adds_are_those_of_table_1(name: str, paper: float) -> None:
    with shapes_only():
        assert multiply_adds(build(name)) / 1e9 == pytest.approx(paper, rel=0.02)


def test_multiply_adds_of_resnet20_follow_from_its_arithmetic() -> None:
    stem = 32 * 32 * 3 * 9 * 16
    stage1 = 6 * 32 * 32 * 16 * 9 * 16
    stage2 = 16 * 16 * 9 * (16 * 32 + 5 * 32 * 32)
    stage3 = 8 * 8 * 9 * (32 * 64 + 5 * 64 * 64)
    with shapes_only():
        model = build("resnet20")
    assert multiply_adds(model) == stem + stage1 + stage2 + stage3 + 640


def test_the_stride_in_the_3x3_costs_more() -> None:
    with shapes_only():
        model = build("resnet50", bottleneck_stride="3x3")
    assert multiply_adds(model) / 1e9 == pytest.approx(4.09, abs=0.01)


def test_a_dilated_network_costs_more_by_its_larger_maps_alone() -> None:
    stages = {4: (32, 16, 8), 2: (32, 16, 16), 1: (32, 32, 32)}
    for stride, sides in stages.items():
        stem = 32 * 32 * 3 * 9 * 16
        stage1 = 6 * sides[0] ** 2 * 16 * 9 * 16
        stage2 = sides[1] ** 2 * 9 * (16 * 32 + 5 * 32 * 32)
        stage3 = sides[2] ** 2 * 9 * (32 * 64 + 5 * 64 * 64)
        with shapes_only():
            found = multiply_adds(build("resnet20", output_stride=stride))
        assert found == stem + stage1 + stage2 + stage3 + 640


def test_a_model_of_free_size_has_no_number() -> None:
    with shapes_only(), pytest.raises(ValueError, match="Expected a model of images of one size"):
        multiply_adds(ResNet18(input_shape=(None, None, 3)))


def test_the_table_has_a_row_for_each_name() -> None:
    with shapes_only():
        assert complexity("resnet50").stages == ((56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048))
        lines = unpadded(complexity_table(["resnet20", "plainnet20"])).splitlines()
    assert len(lines) == 4
    assert lines[2] == (
        "| resnet20 | 20 | 269,722 | 0.27 M (arXiv:1512.03385, Table 6) | 0.041 x 10^9 | 32x32x16, 16x16x32, 8x8x64 |"
    )


def test_parameters_are_those_that_learn() -> None:
    model = build("resnet20")
    assert parameters(model) == parameters(build("resnet20", output_stride=1)) == complexity("resnet20").parameters
    model.get_layer("logits").trainable = False
    assert parameters(model) == 269_722 - 650


def test_the_numbers_of_all_networks_are_stored() -> None:
    assert list(json.loads(STORED.read_text(encoding="utf-8"))) == [*ARCHITECTURES, *FAMILY]
    for name in ("resnet8", "plainnet20", "resnet18v2"):
        with shapes_only():
            assert stored_complexity(name) == complexity(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ARCHITECTURES, *FAMILY])
def test_stored_numbers_are_those_of_the_networks(name: str) -> None:
    with shapes_only():
        assert stored_complexity(name) == complexity(name)


def test_stored_numbers_are_printed_without_keras() -> None:
    code = (
        "import sys; from resnet_keras.cli.networks import main\n"
        "assert main(['--family']) == main(['resnet50']) == 0; assert not {'keras', 'tensorflow'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(FAMILY) + 2 + 3


def test_a_table_checks_all_names_first(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="Received: 'resnet21'"):
        complexity_table(["resnet1001v2", "resnet21"])
