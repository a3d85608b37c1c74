"""Carrying out experiments: which runs in which order, what is measured of them, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.reproduced import evaluation, write_networks, write_run
from helpers.small_networks import TWO_STAGES, drawn
from helpers.tables import unpadded

from resnet_keras.applications.classifier import Classifier
from resnet_keras.cli import reproduce as program
from resnet_keras.data.opening import open_split
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.networks.builder import build
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.reproduction import peak_memory
from resnet_keras.reproduction import reproducer as reproduction
from resnet_keras.reproduction.catalog import EXPERIMENTS
from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.runs.post_training import measure_run, ten_crop_evaluation, training_evaluation


@pytest.fixture
def folder(tmp_path: Path) -> ReproductionFolder:
    found = ReproductionFolder(tmp_path / "reproduction")
    write_networks(found)
    return found


@pytest.mark.slow
def test_an_experiment_trains_what_it_lists_and_writes_the_document(
    folder: ReproductionFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained: list[tuple[Recipe, dict[str, Any]]] = []

    def train(recipe: Recipe, path: Path, **arguments: Any) -> None:
        trained.append((recipe, arguments))
        write_run(folder, recipe)

    monkeypatch.setattr(reproduction, "train", train)
    monkeypatch.setattr(reproduction, "measure_run", lambda path, **_: None)
    assert reproduction.reproduce("degradation", folder.path, budget="smoke") == folder.document
    assert tuple(recipe for recipe, _ in trained) == EXPERIMENTS["degradation"].recipes("smoke")
    assert trained[0][1]["validate_epochs"] == 1
    assert caplog.messages[1] == "run 2 of 4: digits_plainnet56_seed0"
    text = unpadded(folder.document.read_text())
    assert "| plain-56 | 1 of 1 | 10.00 | 20.00 |" in text
    assert folder.plot("budget", "x").parent.joinpath("degradation_smoke.png").stat().st_size > 1000


@pytest.mark.slow
def test_measures_of_a_run_are_of_its_training_images_and_stay(digits_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("recipe.json", "run.json", "model.keras"):
        (run / name).write_bytes((digits_run / name).read_bytes())
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps({**recipe, "data": {**recipe["data"], "train_images": 300}}))
    assert training_evaluation(run) is None
    measure_run(run)
    found = training_evaluation(run)
    assert found == evaluate(Classifier.load(run), stratified_sample(open_split("digits", "train"), 300), batch_size=32)
    assert found is not None
    assert found.images == 300
    assert ten_crop_evaluation(run) is None
    (run / "training_evaluation.json").write_text(json.dumps({**found.__dict__, "top1_error": 0.5}))
    (run / "model.keras").unlink()
    measure_run(run)
    assert training_evaluation(run).top1_error == 0.5  # type: ignore[union-attr]
    with pytest.raises(FileNotFoundError, match="Expected a finished run"):
        measure_run(run, ten_crop=True)


@pytest.mark.slow
def test_responses_and_protocols_of_a_run_that_is_given(
    folder: ReproductionFolder, digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["responses", "--workdir", str(folder.path), "--weights", str(digits_run)]) == 0
    measured = folder.read("given", "responses")
    assert measured is not None
    (network,) = measured["networks"]
    assert (network["dataset"], network["images"], len(network["deviations"][0])) == ("digits", 359, 19)
    small = build(TWO_STAGES, input_shape=(8, 8, 1), classes=10, classifier_activation=None)
    classifier = replace(Classifier.load(digits_run), model=drawn(small))
    classifier.save(tmp_path / "model.keras")
    file = str(tmp_path / "model.keras")
    command = ["protocols", "--workdir", str(folder.path), "--weights", file, "--dataset", "digits"]
    assert program.main(command) == 0
    first = folder.read("given", "protocols")
    assert first is not None
    assert [row["protocol"] for row in first["results"]] == ["1-crop", "10-crop", "multi-scale"]
    assert first["results"][0]["top1_error"] == evaluate(classifier, open_split("digits", "test")).top1_error
    capsys.readouterr()
    assert program.main(command) == 0  # all is known
    assert "1-crop:" not in capsys.readouterr().out
    assert folder.read("given", "protocols") == first
    text = unpadded(folder.document.read_text())
    assert "### Given networks" in text
    assert "| model | 10-crop | 359 |" in text
    assert "plots/responses_given.png" in text


@pytest.mark.slow
def test_each_network_responds_to_test_images_of_its_own_data_set(
    folder: ReproductionFolder, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [digits_run, tmp_path / "other"]
    shutil.copytree(*runs, ignore=shutil.ignore_patterns(".lock*"))
    splits = {"digits": open_split("digits", "test"), "cifar10": stratified_sample(open_split("digits", "test"), 20)}
    dataset = {runs[0]: "digits", runs[1]: "cifar10"}
    monkeypatch.setattr(reproduction, "dataset_of", lambda source, named, place: (named or dataset[source], place))
    monkeypatch.setattr(reproduction, "open_split", lambda name, split, **_: splits[name])
    monkeypatch.setattr(reproduction, "response_deviations", lambda network, batches: {"a_conv": 0.5})
    reproduction.reproduce("responses", folder.path, weights=runs)
    measured = folder.read("given", "responses")
    assert measured is not None
    found = [(network["name"], network["dataset"], network["images"]) for network in measured["networks"]]
    assert found == [("resnet20 (digits)", "digits", 359), ("resnet20 (other)", "cifar10", 20)]
    said = "359 test images of digits (resnet20 (digits)); 20 test images of cifar10 (resnet20 (other))."
    assert said in folder.document.read_text()
    # All networks of the protocols are evaluated together, so on one data set.
    refused = r"Expected networks of one data set, .* Received: resnet20 \(digits\) of digits, resnet20 \(other\) of"
    with pytest.raises(ValueError, match=refused):
        reproduction.reproduce("protocols", folder.path, weights=runs)


def test_an_error_names_what_is_missing_and_its_place(
    folder: ReproductionFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--workdir", str(folder.path), "--data-dir", str(tmp_path)]
    assert program.main(["protocols", "--budget", "full", *where]) == 2
    said = capsys.readouterr().err
    assert f"Expected the data set 'imagenet2012' under {tmp_path / 'imagenet2012'}" in said
    assert program.main(["responses", *where, "--weights", str(tmp_path / "absent.keras")]) == 2
    assert "absent.keras" in capsys.readouterr().err


def test_bad_input_is_refused_before_anything_is_done(folder: ReproductionFolder) -> None:
    with pytest.raises(ValueError, match=r"Expected one of table1, .* Received: 'x'"):
        reproduction.reproduce("x", folder.path)
    with pytest.raises(
        ValueError, match=r"Expected `budget` to be one of \('smoke', 'small', 'full'\)\. Received: 'xl'"
    ):
        reproduction.reproduce("depth", folder.path, budget="xl")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"Expected no `weights` or `dataset` for depth\. Received: \['a.keras'\], None"
    ):
        reproduction.reproduce("depth", folder.path, weights=["a.keras"])
    with pytest.raises(ValueError, match=r"Expected `weights` to show .* Received: none, and 'cifar10'"):
        reproduction.reproduce("protocols", folder.path, dataset="cifar10")
    assert not (folder.path / "runs").exists()


def test_the_document_alone(folder: ReproductionFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["document", "--workdir", str(folder.path)]) == 0
    assert capsys.readouterr().out == f"see {folder.document}\n"


def test_the_peak_is_that_of_the_process_and_of_a_run_that_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peak_memory, "train", lambda recipe, path, **arguments: evaluation(0.1))
    monkeypatch.setattr(peak_memory, "peak_memory", lambda: 2**21)
    recipe = EXPERIMENTS["layers1202"].recipes("smoke")[0]
    peak_memory._trained(recipe, tmp_path / "new", {})
    assert peak_memory.peak_bytes(tmp_path / "new") == 2**21
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "evaluation.json").write_text("{}")
    peak_memory._trained(recipe, tmp_path / "old", {})  # finished before: this process trained nothing
    assert peak_memory.peak_bytes(tmp_path / "old") is None


@pytest.mark.slow
def test_a_training_in_its_own_process_reports_memory_and_progress(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = EXPERIMENTS["depth"].recipes("smoke")[0]
    held = bytearray(2**30)  # of this process, which that one must not count
    result = peak_memory.train_in_new_process(recipe, tmp_path / "run")
    peak = peak_memory.peak_bytes(tmp_path / "run")
    assert result.images == 359
    assert peak is not None
    assert 2**28 < peak < len(held) + 2**29
    assert f"epoch 1/{recipe.schedule.epochs}: loss " in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shortcuts", "responses", "protocols"])
def test_experiments_at_the_smoke_budget(folder: ReproductionFolder, name: str) -> None:
    assert program.main([name, "--budget", "smoke", "--workdir", str(folder.path)]) == 0
    text = unpadded(folder.document.read_text())
    assert f"`resnet reproduce {name}`" in text
    assert "### Smoke: a check that everything works, on digits" in text
