"""The document: what it shows of what is on the disk, and what it says of what was not run."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.reproduced import DEGRADATION, write_networks, write_run
from helpers.tables import unpadded

from resnet_keras.reproduction.catalog import EXPERIMENTS
from resnet_keras.reproduction.document import write_document
from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.reproduction.paper_results import PAPER_NETWORKS


def sections(folder: ReproductionFolder) -> dict[str, str]:
    """The document's text by experiment, under its title."""
    write_document(folder)
    parts = unpadded(folder.document.read_text()).split("\n## ")[1:]
    return {part.partition("\n")[0]: part for part in parts}


@pytest.fixture
def folder(tmp_path: Path) -> ReproductionFolder:
    found = ReproductionFolder(tmp_path)
    write_networks(found)
    return found


def test_of_an_empty_folder_it_says_what_each_experiment_would_take(folder: ReproductionFolder) -> None:
    found = sections(folder)
    assert list(found) == [experiment.title for experiment in EXPERIMENTS.values()]
    for name, experiment in EXPERIMENTS.items():
        text = found[experiment.title]
        assert f"`resnet reproduce {name}`" in text
        if name == "table1":
            assert "| resnet152 | 7 | 1,000,000 | – | 1.000 | 11.3 |" in text
            continue
        assert f"`resnet reproduce {name} --budget full --data-dir DIR`" in text
        assert "### Smoke" not in text
        assert ("GPU hours, estimated" in text) == (name != "detection")
    assert not (folder.path / "plots").exists()


def test_finished_runs_are_shown_and_missing_ones_listed(folder: ReproductionFolder) -> None:
    shallow, deep, *_ = DEGRADATION.variants["smoke"]
    write_run(folder, shallow.recipe)
    write_run(folder, deep.recipe, test=None)
    found = sections(folder)
    text = found[DEGRADATION.title]
    assert "| plain-20 | 1 of 1 | 10.00 | 20.00 |" in text
    assert "Recipe of plain-20: `digits plainnet20, train_images=256, epochs=6, " in text
    assert "; all epochs of all runs took 0:00:24." in text  # six epochs of 4 s
    assert "**1 of 4 runs are finished**; unfinished: digits_plainnet56_seed0 (epoch 6 of 6)." in text
    assert "![degradation, smoke](plots/degradation_smoke.png)" in text
    assert (folder.path / "plots" / "degradation_smoke.png").is_file()


@pytest.mark.slow
def test_runs_at_the_full_budget_are_no_longer_to_be_run(folder: ReproductionFolder) -> None:
    experiment = EXPERIMENTS["depth"]
    variants = {variant.name: variant for variant in experiment.variants["full"]}
    write_run(folder, variants["ResNet-20"].recipe, budget="full", test=0.0876, rate=1000.0)
    text = sections(folder)[experiment.title]
    done, left = text.split("### Not run here")
    assert "| ResNet-20 | 1 of 1 | 10.00 | 8.76 | 8.75 (Table 6) | 164 x 50,000 | 1,000 |" in done
    assert "| ResNet-20 |" not in left
    assert "| ResNet-110 | 6.43 (Table 6, the best of 6.61 ± 0.16 over 5 runs) | 5 | 164 x 50,000 |" in left


@pytest.mark.slow
def test_hours_of_a_processor_are_estimated_from_measured_speed(folder: ReproductionFolder) -> None:
    small = EXPERIMENTS["degradation"].variants["small"][2]
    assert small.name == "ResNet-20"
    write_run(folder, small.recipe, budget="small", rate=500.0)
    # 164 x 50,000 / 500 s = 4.6 h
    assert "| 5 at 500 images/s |" in sections(folder)[EXPERIMENTS["depth"].title]


def test_a_damaged_run_raises(folder: ReproductionFolder) -> None:
    run = write_run(folder, DEGRADATION.variants["smoke"][0].recipe)
    (run.path / "history.csv").write_text("epoch,accuracy\n1,much\n")
    with pytest.raises(ValueError, match=r"Expected history\.csv as a run writes it"):
        write_document(folder)


@pytest.mark.slow
def test_networks_are_counted_once(tmp_path: Path) -> None:
    folder = ReproductionFolder(tmp_path)
    text = sections(folder)[EXPERIMENTS["table1"].title]
    assert "| resnet50 | 50 | 25,557,032 | – | 3.858 | 3.8 |" in text
    assert "| resnet1202 | 1202 | 19,421,274 | 19.4 M |" in text
    kept = folder.read("full", "networks")
    assert kept is not None
    assert [network["name"] for network in kept["networks"]] == list(PAPER_NETWORKS)
