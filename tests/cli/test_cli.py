"""Command lines, end to end."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from helpers.tables import unpadded

from resnet_keras.applications.classifier import Classifier
from resnet_keras.cli import convert, evaluate, export, networks, predict, recalibrate, recipes, runs, train
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import PART_OF

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "train": train, "evaluate": evaluate, "predict": predict, "convert": convert, "recalibrate": recalibrate,
    "export": export, "networks": networks, "recipes": recipes, "runs": runs,
}  # fmt: skip


def status_of(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Returns the exit status of a command, whether it returns it or raises it."""
    try:
        return main(arguments)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_tells_the_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(PROGRAMS[name].main, ["--help"]) == 0
    assert f"resnet {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_flag_that_is_none_ends_with_status_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(PROGRAMS[name].main, ["digits", "--no-such-flag"]) == 2
    assert "no-such-flag" in capsys.readouterr().err


def test_help_of_a_recipe_has_a_flag_for_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["cifar10", "--help-all"]) == 0
    said = capsys.readouterr().out
    for field in PART_OF:
        assert f"--{field.replace('_', '-')}" in said
    for title in ("Data: ", "Augmentation: ", "Optimization: ", "Schedule: ", "Network: ", "Evaluation ", "Run: "):
        assert f"\n{title}" in said


def test_short_helps_of_training_fit_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert len(overview.splitlines()) <= 24
    for name, recipe in RECIPES.items():
        assert re.search(rf"^  {name} +{recipe.network.model} ", overview, re.MULTILINE)
    assert train.main(["cifar10_wide", "--help"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 40
    assert "--model TEXT" in said and "(default: wide_resnet28_10)" in said
    assert "resnet train cifar10_wide --help-all" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cifar11"], "Received: cifar11. Did you mean cifar10?"),
        (["digits", "--model", "resnet57"], "Received: 'resnet57'. Did you mean resnet56?"),
        (["digits", "--epoch", "5"], "Received: --epoch. Did you mean --epochs?"),
        (["digits", "--precision", "mixed_float61"], "Received: mixed_float61. Did you mean mixed_float16?"),
    ],
)
def test_a_misspelled_word_is_told_with_the_nearest_one(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_recipe_is_trained_with_flags_over_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["digits", "--epochs", "1", "--batch-size", "128", "--workdir", str(tmp_path / "run")]
    assert train.main(arguments) == 0
    assert "359 images; see" in capsys.readouterr().out
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["schedule"]["epochs"], recipe["data"]["batch_size"], recipe["schedule"]["peak_lr"]) == (1, 128, 0.05)
    assert train.main(arguments) == 0
    assert "is finished" in capsys.readouterr().out
    assert train.main([*arguments, "--seed", "3"]) == 2
    assert "seed=3 (begun with 0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--epochs", "0"], "Expected `epochs` to be at least 1. Received: 0"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--dataset", "folder"], "Expected a folder of images"),
    ],
)
def test_bad_input_is_told_in_a_line_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    try:
        status = train.main(["digits", "--workdir", str(tmp_path / "run"), *flags])
    except SystemExit as end:
        status = end.code
    err = capsys.readouterr().err
    assert status == 2
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_run_is_evaluated(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(digits_run)]) == 0
    assert "digits/test: top-1 error" in capsys.readouterr().out
    assert evaluate.main([str(digits_run), "--split", "train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1438
    assert evaluate.main([str(digits_run / "model.keras"), "--dataset", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((digits_run / "evaluation.json").read_text())
    assert evaluate.main([str(digits_run / "model.keras")]) == 2
    assert evaluate.main([str(digits_run), "--split", "third"]) == 2
    assert "one of train, test. Received: 'third'" in capsys.readouterr().err


def test_several_classifiers_are_evaluated_together_by_a_protocol_with_details(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [str(digits_run), str(digits_run / "model.keras")]
    protocol = ["--crops", "full", "--scales", "8", "10", "--flip", "--average", "logits"]
    assert evaluate.main([*sources, *protocol, "--details", str(tmp_path / "details"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 359
    assert found == json.loads((tmp_path / "details" / "evaluation.json").read_text())
    assert {path.name for path in (tmp_path / "details").iterdir()} == {
        "evaluation.json", "classes.csv", "confusion.csv", "confusion.png"
    }  # fmt: skip
    assert evaluate.main([str(digits_run), "--crops", "ten", "--scales", "7"]) == 2
    assert "`scales` no shorter than the crop of (8, 8). Received: (7,)" in capsys.readouterr().err
    assert evaluate.main([]) == 2
    assert "Received: none" in capsys.readouterr().err


def test_weights_are_converted_and_the_file_is_opened_again(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert.main([str(digits_run), "--to", str(tmp_path / "copy.keras")]) == 0
    said = capsys.readouterr().out
    assert "97 matched, 0 missing, 0 unexpected, 0 shape mismatch" in said
    assert "its outputs differ by 0" in said
    results = []
    for source in (digits_run, tmp_path / "copy.keras"):
        assert evaluate.main([str(source), "--dataset", "digits", "--json"]) == 0
        results.append(capsys.readouterr().out)
    assert results[0] == results[1]


def test_flags_change_what_a_source_tells_of_its_preprocessing(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"digit {i}\n" for i in range(10)))
    to = tmp_path / "copy.keras"
    flags = ["--class-names", str(names), "--image-size", "14", "--crop-ratio", "0.875", "--interpolation", "bicubic"]
    assert convert.main([str(digits_run), "--to", str(to), *flags, "--mean", "100", "--std", "50"]) == 0
    capsys.readouterr()
    classifier = Classifier.load(to)
    expected = Preprocessing(
        image_size=(14, 14), channels=1, mean=(100.0,), std=(50.0,), shorter_side=16, interpolation="bicubic"
    )
    assert classifier.preprocessing == expected
    assert classifier.class_names[3] == "digit 3"


def test_weights_without_preprocessing_need_it_told(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bare.weights.h5"
    Classifier.load(digits_run).model.save_weights(path)
    to = tmp_path / "copy.keras"
    assert convert.main([str(path), "--to", str(to)]) == 2
    assert "Expected `preprocessing`, which" in capsys.readouterr().err
    assert not to.exists()
    told = ["--image-size", "8", "--mean", "77.9", "--std", "95.9"]
    assert convert.main([str(path), "--to", str(to), *told]) == 0


@pytest.mark.parametrize("program", [convert, recalibrate])
def test_only_keras_files_are_written(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], program: ModuleType
) -> None:
    assert program.main([str(digits_run), "--to", str(tmp_path / "copy.h5")]) == 2
    assert "Expected a file ending in .keras for --to" in capsys.readouterr().err


def test_a_source_that_is_none_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, said in (
        ("missing.pth", "missing.pth, which does not exist"),
        ("imagenet", "Expected a network with published weights, one of resnet18"),
        ("resnet18", "Expected weights in a file ending in .safetensors"),
    ):
        assert convert.main([source, "--to", str(tmp_path / "x.keras")]) == 2
        assert said in capsys.readouterr().err


def test_statistics_are_recalibrated_on_training_images(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "true.keras"
    assert recalibrate.main([str(digits_run), "--to", str(to), "--images", "700", "--batch-size", "100"]) == 0
    assert capsys.readouterr().out == f"{to}: statistics of 700 training images\n"
    before, after = (Classifier.load(path).model.get_layer("stem_conv_bn") for path in (digits_run, to))
    assert (before.moving_mean.numpy() != after.moving_mean.numpy()).any()
    assert (before.gamma.numpy() == after.gamma.numpy()).all()


def test_images_are_predicted_as_text_and_as_json(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seven = digits_run / "samples" / "7.png"
    assert predict.main([str(digits_run), str(seven), "--top-k", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{seven}: ")
    assert text.count("%") == 2
    assert predict.main([str(digits_run), str(digits_run / "samples"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 10
    assert all(len(line["classes"]) == 5 for line in lines)
    assert predict.main([str(digits_run), "missing.png"]) == 2
    assert "missing.png, which does not exist" in capsys.readouterr().err


def test_an_export_is_published_or_refused_with_status_1(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(digits_run), "--to", str(tmp_path), "--formats", "float32", "--test-images", "20"]
    assert export.main(arguments) == 0
    assert "published" in capsys.readouterr().out
    assert export.main([*arguments, "--probability-tolerance", "1e-12"]) == 1
    assert "Nothing is published" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*/[0-9]*")] == ["1"]
    assert export.main([*arguments, "--version", "1"]) == 2


def test_networks_are_printed_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert networks.main(["resnet20"]) == 0
    assert "| resnet20 | 20 | 269,722 |" in unpadded(capsys.readouterr().out)
    assert networks.main(["resnet21"]) == 2
    assert "Expected one of resnet18" in capsys.readouterr().err


@pytest.mark.parametrize(("script", "name"), [("train.py", "resnet train"), ("export.py", "resnet export")])
def test_the_scripts_at_the_root_are_the_same_programs(script: str, name: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"usage: {name}" in done.stdout


def test_a_program_starts_without_tensorflows_greeting(digits_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from resnet_keras.cli.predict import main; raise SystemExit(main())"]
    done = subprocess.run(
        [*command, str(digits_run), str(digits_run / "samples" / "1.png")],
        capture_output=True, text=True, check=False, env={"PATH": "", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0
    assert "1.png: " in done.stdout
    assert done.stderr == ""


@pytest.mark.usefixtures("recent_keras")
@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_programs_run_on_openvino(digits_run: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    more = [str(digits_run / "samples" / "7.png"), "--top-k", "1"] if name == "predict" else []
    code = f"from resnet_keras.cli.{name} import main; raise SystemExit(main())"
    environment = {"PATH": "", "KERAS_BACKEND": "openvino", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(digits_run), *more],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    here = PROGRAMS[name].main([str(digits_run), *more])
    assert here == 0
    if name == "evaluate":
        assert "359 images" in done.stdout
    else:
        assert "7.png: 7 " in done.stdout
