"""Command lines, end to end."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tables import unpadded
from PIL import Image

import resnet_keras
from resnet_keras.applications.classifier import Classifier
from resnet_keras.cli import convert, evaluate, explain, export, networks, predict, recalibrate, recipes, runs, train
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import PART_OF

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "train": train, "evaluate": evaluate, "predict": predict, "explain": explain, "convert": convert,
    "recalibrate": recalibrate, "export": export, "networks": networks, "recipes": recipes, "runs": runs,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """The folder of a finished run of ResNet-8 on digits, the arguments of `resnet train`, and its output."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    flags = ["--model", "resnet8", "--epochs", "4", "--batch-size", "128", "--workdir", str(folder)]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert train.main(["digits", *flags]) == 0
    return folder, ["digits", *flags], out.getvalue()


@pytest.fixture(scope="module")
def run(trained: tuple[Path, list[str], str]) -> Path:
    """The folder of that run."""
    return trained[0]


def test_help_names_the_command_and_an_unknown_flag_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for name, program in PROGRAMS.items():
        assert program.main(["--help"]) == 0
        assert f"resnet {name}" in capsys.readouterr().out
        assert program.main(["digits", "--no-such-flag"]) == 2
        assert "no-such-flag" in capsys.readouterr().err


def test_help_of_a_recipe_has_a_flag_for_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["cifar10", "--help-all"]) == 0
    said = capsys.readouterr().out
    for field in PART_OF:
        assert f"--{field.replace('_', '-')}" in said
    for title in (
        "Data: ",
        "Augmentation: ",
        "Optimization: ",
        "Schedule: ",
        "Network: ",
        "Evaluation ",
        "Detection: ",
        "Run: ",
    ):
        assert f"\n{title}" in said


def test_short_helps_of_training_fit_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert len(overview.splitlines()) <= 30
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
        (["cifar11"], "Received: cifar11. Did you mean cifar10, cifar10_qat or"),
        (["digits", "--model", "resnet57"], "Received: 'resnet57'. Did you mean resnet56, resnet50 or resnet152?"),
        (["finetune", "--learning-rate", "0.1"], "Received: --learning-rate. Did you mean --peak-lr?"),
        (["finetune", "--arch", "resnet50"], "Received: --arch. Did you mean --model?"),
        (["digits", "--epoch", "5"], "Received: --epoch. Did you mean --epochs?"),
        (["digits", "--precision", "mixed_float61"], "Received: mixed_float61. Did you mean mixed_float16?"),
    ],
)
def test_a_misspelled_word_is_an_error_with_the_nearest_one(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_recipe_is_trained_with_flags_over_it(
    trained: tuple[Path, list[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments, said = trained
    assert "359 images; see" in said
    recipe = json.loads((folder / "recipe.json").read_text())
    assert (recipe["schedule"]["epochs"], recipe["data"]["batch_size"], recipe["schedule"]["peak_lr"]) == (4, 128, 0.05)
    assert train.main(arguments) == 0
    assert "is finished" in capsys.readouterr().out
    assert train.main([*arguments, "--seed", "3"]) == 2
    assert "seed=3 (begun with 0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--epochs", "0"], "Expected --epochs to be at least 1. Received: 0"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--dataset", "folder"], "Expected a folder of images"),
    ],
)
def test_bad_input_is_one_line_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    status = train.main(["digits", "--workdir", str(tmp_path / "run"), *flags])
    err = capsys.readouterr().err
    assert status == 2
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_run_is_evaluated(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(run)]) == 0
    assert "digits/test: top-1 error" in capsys.readouterr().out
    assert evaluate.main([str(run), "--split", "train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1438
    # In the batches of the run, by which the loss is rounded.
    assert evaluate.main([str(run / "model.keras"), "--dataset", "digits", "--batch-size", "128", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "evaluation.json").read_text())
    assert evaluate.main([str(run / "model.keras")]) == 2
    assert evaluate.main([str(run), "--split", "third"]) == 2
    assert "one of train, test. Received: 'third'" in capsys.readouterr().err


@pytest.mark.slow
def test_several_classifiers_are_evaluated_together_by_a_protocol_with_details(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [str(run), str(run / "model.keras")]
    protocol = ["--crops", "full", "--scales", "8", "10", "--flip", "--average", "logits"]
    assert evaluate.main([*sources, *protocol, "--details", str(tmp_path / "details"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    views = resnet_keras.evaluation.Views(crops="full", scales=(8, 10), flip=True, average="logits")
    classifiers = [Classifier.from_pretrained(source) for source in sources]
    test = resnet_keras.open_split("digits", "test")
    expected = resnet_keras.evaluation.predict_split(classifiers, test, views=views).evaluation
    assert (found["images"], found["top1_error"]) == (359, expected.top1_error)
    assert found["loss"] == pytest.approx(expected.loss, rel=1e-5)
    plain = resnet_keras.evaluation.predict_split(classifiers, test).evaluation
    assert found["loss"] != pytest.approx(plain.loss, rel=1e-3)
    assert found == json.loads((tmp_path / "details" / "evaluation.json").read_text())
    assert {path.name for path in (tmp_path / "details").iterdir()} == {
        "evaluation.json", "classes.csv", "confusion.csv", "confusion.png"
    }  # fmt: skip
    assert evaluate.main([str(run), "--crops", "ten", "--scales", "7"]) == 2
    assert "--scales no shorter than the crop of (8, 8). Received: (7,)" in capsys.readouterr().err
    assert evaluate.main([]) == 2
    assert "Received: none" in capsys.readouterr().err


def test_weights_are_converted_and_the_file_is_opened_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert.main([str(run), "--to", str(tmp_path / "copy.keras")]) == 0
    said = capsys.readouterr().out
    assert "41 matched, 0 missing, 0 unexpected, 0 shape mismatch" in said
    assert "its outputs differ by 0" in said
    # In the batches of the run, by which the loss is rounded.
    assert evaluate.main([str(tmp_path / "copy.keras"), "--dataset", "digits", "--batch-size", "128", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "evaluation.json").read_text())


def test_flags_override_the_preprocessing_of_a_source(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"digit {i}\n" for i in range(10)))
    to = tmp_path / "copy.keras"
    flags = ["--class-names", str(names), "--image-size", "14", "--crop-ratio", "0.875", "--interpolation", "bicubic"]
    assert convert.main([str(run), "--to", str(to), *flags, "--mean", "100", "--std", "50"]) == 0
    capsys.readouterr()
    classifier = Classifier.load(to)
    expected = Preprocessing(
        image_size=(14, 14), channels=1, mean=(100.0,), std=(50.0,), shorter_side=16, interpolation="bicubic"
    )
    assert classifier.preprocessing == expected
    assert classifier.class_names[3] == "digit 3"


def test_weights_without_preprocessing_need_flags_for_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bare.weights.h5"
    Classifier.load(run).model.save_weights(path)
    to = tmp_path / "copy.keras"
    assert convert.main([str(path), "--to", str(to)]) == 2
    error = capsys.readouterr().err
    assert "Expected --image-size, --mean and --std" in error
    assert error.endswith("Received: no --image-size and no --mean and no --std\n")
    assert not to.exists()
    known = ["--image-size", "8", "--mean", "77.9", "--std", "95.9"]
    assert convert.main([str(path), "--to", str(to), *known]) == 0


def test_only_keras_files_are_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for program in (convert, recalibrate):
        assert program.main([str(run), "--to", str(tmp_path / "copy.h5")]) == 2
        assert "a file ending in .keras for --to" in capsys.readouterr().err


def test_an_unknown_source_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, said in (
        ("missing.pth", "missing.pth, which does not exist"),
        ("imagenet", "Expected a network with published weights called 'imagenet', one of resnet18"),
        ("resnet18", "Expected weights in a file ending in .safetensors"),
    ):
        assert convert.main([source, "--to", str(tmp_path / "x.keras")]) == 2
        assert said in capsys.readouterr().err


def test_statistics_are_recalibrated_on_training_images(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "true.keras"
    assert recalibrate.main([str(run), "--to", str(to), "--images", "700", "--batch-size", "100"]) == 0
    assert capsys.readouterr().out == f"{to}: statistics of 700 training images\n"
    before, after = (Classifier.load(path).model.get_layer("stem_conv_bn") for path in (run, to))
    assert (before.moving_mean.numpy() != after.moving_mean.numpy()).any()
    assert (before.gamma.numpy() == after.gamma.numpy()).all()


def test_batches_of_class_folders_are_mixed_for_statistics(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        file = tmp_path / "data" / "train" / ("dark" if number < 20 else "light") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 0 if number < 20 else 255).save(file)
    shown: list[np.ndarray] = []

    def seen(model: Any, batches: Any) -> int:
        shown.extend(np.asarray(images) for images, _ in batches)
        return sum(map(len, shown))

    monkeypatch.setattr(resnet_keras.surgery, "recalibrate", seen)
    flags = ["--dataset", "folder", "--data-dir", str(tmp_path / "data"), "--images", "30", "--batch-size", "10"]
    assert recalibrate.main([str(run), "--to", str(tmp_path / "true.keras"), *flags]) == 0
    assert [len(images) for images in shown] == [10, 10, 10]
    for images in shown:  # either class is a single value
        assert 0 < (images.mean((1, 2, 3)) > images.mean()).sum() < 10


def test_images_are_predicted_as_text_and_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seven = run / "samples" / "7.png"
    assert predict.main([str(run), str(seven), "--top-k", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{seven}: ")
    assert text.count("%") == 2
    assert predict.main([str(run), str(run / "samples"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 10
    assert all(len(line["classes"]) == 5 for line in lines)
    assert predict.main([str(run), "missing.png"]) == 2
    assert "missing.png, which does not exist" in capsys.readouterr().err


def test_an_export_is_published_or_refused_with_status_1(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(run), "--to", str(tmp_path), "--formats", "float32", "--test-images", "20"]
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
    assert "Expected the name of a network; `resnet networks` prints all" in capsys.readouterr().err


@pytest.mark.slow
def test_a_program_starts_without_tensorflows_greeting(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from resnet_keras.cli.predict import main; raise SystemExit(main())"]
    done = subprocess.run(
        [*command, str(run), str(run / "samples" / "1.png")],
        capture_output=True, text=True, check=False, env={"PATH": "", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0
    assert "1.png: " in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.usefixtures("recent_keras")
def test_programs_run_on_openvino(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    seven = str(run / "samples" / "7.png")
    code = (
        "import sys; from resnet_keras.cli.program import main\n"
        "run, seven = sys.argv[1:]\n"
        "raise SystemExit(main(['evaluate', run]) or main(['predict', run, seven, '--top-k', '1']))"
    )
    environment = {"PATH": "", "KERAS_BACKEND": "openvino", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(run), seven]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "359 images" in done.stdout
    assert "7.png: 7 " in done.stdout


def test_names_of_weights_in_the_package_stand_for_a_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main(["resnet20_digits", str(run / "samples" / "7.png"), "--top-k", "1"]) == 0
    assert re.fullmatch(r".*7\.png: 7 \d+\.\d\d%\n", capsys.readouterr().out)
    assert evaluate.main(["resnet20_digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1_error"] < 0.02
    assert evaluate.main(["resnet20_digit"]) == 2
    assert "Did you mean resnet20_digits?" in capsys.readouterr().err
    written = [str(run), "--to", str(tmp_path / "x.safetensors"), "--layout", "resnet_keras"]
    assert convert.main([*written, "--mean", "3"]) == 2
    assert "no flag but --to and --data-dir with --layout resnet_keras. Received: --mean" in capsys.readouterr().err
    assert convert.main(written) == 0
    assert "by `resnet train digits --model resnet8 --batch-size 128 --epochs 4 --seed 0`" in capsys.readouterr().out
    assert predict.main([str(tmp_path / "x.safetensors"), str(run / "samples")]) == 0


def test_a_heat_map_is_drawn_over_an_image(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seven = str(run / "samples" / "7.png")
    assert explain.main(["resnet20_digits", seven]) == 0
    assert re.fullmatch(r".*7\.png: 7 \d+\.\d\d%; 7_heat_map\.png\n", capsys.readouterr().out)
    assert explain.main([str(run), seven, "--class", "1", "--to", "one.png"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"7_heat_map.png", "one.png"}
    assert explain.main(["resnet20_digits", seven, "--class", "ten"]) == 2
    assert "Expected one of the classifier's 10 classes. Received: 'ten'" in capsys.readouterr().err
    assert explain.main(["resnet20_digits", seven, "--to", "one.jpg"]) == 2
    assert "ending in .png for --to. Received: one.jpg" in capsys.readouterr().err
