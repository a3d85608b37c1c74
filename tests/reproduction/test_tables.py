"""Tables beside the paper's figures: means and deviations, differences, costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.reproduced import MULTIPLY_ADDS, THREE_SEEDS, three_seeds, write_run

from resnet_keras import files
from resnet_keras.evaluation.protocols import ProtocolResult
from resnet_keras.reproduction.catalog import EXPERIMENTS
from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.reproduction.outcomes import outcomes
from resnet_keras.reproduction.tables import (
    contrast_table,
    error_table,
    full_hours,
    memory_table,
    network_table,
    plan_table,
    protocol_table,
    response_table,
)


def rows(table: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_errors_are_means_and_sample_deviations_over_seeds(tmp_path: Path) -> None:
    found = outcomes(three_seeds(tmp_path), THREE_SEEDS, "smoke")
    shallow, deep, residual, _ = rows(error_table(found))
    # Mean 13; deviations -3, -1 and 4: the root of 26 / 2 is 3.606.
    assert shallow == ["plain-20", "3 of 3", "13.00 ± 3.61", "18.00 ± 3.61", "–", "6 x 256", "500"]
    assert deep[1:4] == ["2 of 3", "32.50 ± 3.54", "50.00 ± 0.00"]
    assert residual == ["ResNet-20", "0 of 3", "–", "–", "–", "6 x 256", "–"]


def test_differences_are_taken_seed_by_seed(tmp_path: Path) -> None:
    found = outcomes(three_seeds(tmp_path), THREE_SEEDS, "smoke")
    # 30 - 10 = 20 and 35 - 12 = 23: 21.5 ± 2.12. In the test 50 - 15 and 50 - 17: 34 ± 1.41.
    assert rows(contrast_table(THREE_SEEDS, found)) == [
        ["plain-56 against plain-20", "2", "+21.50 ± 2.12", "+34.00 ± 1.41"]
    ]
    empty = outcomes(ReproductionFolder(tmp_path / "empty"), THREE_SEEDS, "smoke")
    assert contrast_table(THREE_SEEDS, empty) == ""


def test_ten_crops_have_a_column_where_they_were_measured(tmp_path: Path) -> None:
    folder = ReproductionFolder(tmp_path)
    variants = EXPERIMENTS["shortcuts"].variants["full"]
    run = write_run(folder, variants[1].recipe, budget="full")
    content = {"images": 9, "top1_error": 0.26, "top5_error": 0.08, "loss": 1.0}
    files.write_json(run.path / "ten_crop_evaluation.json", content)
    table = error_table(outcomes(folder, EXPERIMENTS["shortcuts"], "full"))
    assert "10-crop error, %" in table
    cells = rows(table)[1]
    assert cells[:6] == ["ResNet-34 A", "1 of 1", "10.00", "20.00", "26.00", "25.03 / 7.76 top-5 (Table 3)"]


def test_networks_stand_beside_the_paper() -> None:
    about = [
        {"name": "resnet50", "layers": 50, "parameters": 25_557_032, "multiply_adds": 3_857_973_248},
        {"name": "resnet20", "layers": 20, "parameters": 269_722, "multiply_adds": 40_551_680},
    ]
    assert rows(network_table(about)) == [
        ["resnet50", "50", "25,557,032", "–", "3.858", "3.8"],
        ["resnet20", "20", "269,722", "0.27 M", "0.041", "–"],
    ]


def test_protocols_stand_beside_the_paper_on_imagenet_alone() -> None:
    results = [
        ProtocolResult("1-crop", ("ResNet-50",), 100, 0.25, 0.08),
        ProtocolResult("10-crop", ("ResNet-50",), 100, 0.2285, None),
        ProtocolResult("multi-scale", ("ResNet-50",), 100, 0.2, 0.05),
        ProtocolResult("multi-scale", ("ResNet-50", "ResNet-101"), 100, 0.19, 0.045),
    ]
    cells = rows(protocol_table(results, on_imagenet=True))
    assert cells[1] == ["ResNet-50", "10-crop", "100", "22.85", "–", "22.85 / 6.71 top-5 (Table 3)"]
    assert [row[-1][:5] for row in cells] == ["–", "22.85", "20.74", "3.57 "]
    assert all(len(row) == 5 for row in rows(protocol_table(results, on_imagenet=False)))


def test_hours_are_those_of_a_measured_gpu_in_proportion_to_multiply_adds() -> None:
    # ResNet-50 v1.5 for 90 epochs of ImageNet at the 665.26 images/s of an A100: 173,323 s.
    assert full_hours(90 * 1_281_167, 4_089_184_256) == pytest.approx(173_323 / 3600, rel=1e-4)
    assert full_hours(90 * 1_281_167, 2 * 4_089_184_256) == pytest.approx(2 * 173_323 / 3600, rel=1e-4)
    variants = tuple(each for each in EXPERIMENTS["depth"].variants["full"] if each.name in ("ResNet-20", "ResNet-110"))
    costs = {"resnet20": MULTIPLY_ADDS, "resnet110": 2 * MULTIPLY_ADDS}
    shallow, deep, total = rows(plan_table(variants, costs, {"cifar10_resnet20": 1000.0}))
    # Small images do not keep an accelerator busy: no estimate. On the CPU 164 x 50,000 images take 8,200 s.
    assert shallow == ["ResNet-20", "8.75 (Table 6)", "1", "164 x 50,000", "–", "2 at 1,000 images/s"]
    assert deep[2:] == ["5", "164 x 50,000", "–", "–"]
    assert total == ["all", "", "6", "", "–", ""]
    variants = tuple(each for each in EXPERIMENTS["shortcuts"].variants["full"] if each.name == "ResNet-50")
    large, total = rows(plan_table(variants, {"resnet50": 3_857_973_248}, {}))
    assert large[3:] == ["120 x 1,281,167", "60.56", "–"]
    assert total[4] == "60.56"


def test_memory_stands_beside_steps_and_seconds(tmp_path: Path) -> None:
    folder = ReproductionFolder(tmp_path)
    variant, saving = EXPERIMENTS["layers1202"].variants["smoke"]
    assert saving.recipe == variant.recipe.replace(rematerialize=True)
    run = write_run(folder, variant.recipe)
    files.write_json(run.path / "memory.json", {"peak_bytes": 3 * 2**29})
    (cells,) = rows(memory_table(outcomes(folder, EXPERIMENTS["layers1202"], "smoke")))
    assert cells == ["ResNet-1202", "0", "16", "4", "4", "3.000", "1.50 GiB"]


def test_responses_are_means_over_layers_and_runs() -> None:
    runs = [{"a": 1.0, "b": 3.0, "c": 2.0}, {"a": 2.0, "b": 5.0, "c": 2.0}]
    measured = {"networks": [{"name": "plain-20", "panel": "", "deviations": runs}]}
    # Means over the layers of 2 and 3.
    assert rows(response_table(measured)) == [["plain-20", "2", "3", "2.500 ± 0.707", "1.500 to 4.000"]]
