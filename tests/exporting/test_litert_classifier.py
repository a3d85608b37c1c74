"""Exports run by LiteRT alone: the classifier's answers, and files that are refused."""

import io
import json
import resource
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_keras.applications.classifier import Classifier
from resnet_keras.cli import evaluate, predict
from resnet_keras.exporting import litert_classifier
from resnet_keras.exporting.litert_classifier import CLASSIFIER, LiteRTClassifier, find_litert
from resnet_keras.exporting.litert_evaluation import evaluate_litert


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, digits_run: Path) -> Path:
    """A folder of images by class, of other sizes than the network's."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        file = folder / str(number % 3) / f"{number}.{'png' if number % 2 else 'jpg'}"
        file.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (9, 11), dtype=np.uint8)
        Image.fromarray(noise).resize((31 + number, 40), Image.Resampling.BICUBIC).save(file)
    return folder


def test_an_export_gives_the_names_and_probabilities_of_its_classifier(
    digits_run: Path, digits_export: Path, photos: Path
) -> None:
    expected = Classifier.load(digits_run).predict(str(photos), top_k=10)
    found = LiteRTClassifier.open(digits_export.parent).predict(photos, top_k=10)
    assert [each.path for each in found] == [each.path for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert [name for name, _ in one.classes[:3]] == [name for name, _ in other.classes[:3]]
        np.testing.assert_allclose(
            [dict(one.classes)[name] for name, _ in other.classes], [value for _, value in other.classes], atol=1e-5
        )


def test_neither_keras_nor_tensorflow_is_imported(digits_export: Path, photos: Path) -> None:
    code = (
        "import sys; from resnet_keras.cli.program import main\n"
        f"assert main(['predict', {str(digits_export)!r}, {str(photos / '0' / '0.jpg')!r}, '--json']) == 0\n"
        f"assert main(['evaluate', {str(digits_export / 'int8.tflite')!r}, '--data-dir', {str(photos)!r}, "
        "'--split', 'all', '--json']) == 0\n"
        "assert not {'keras', 'tensorflow', 'matplotlib', 'tensorflow_datasets', 'h5py'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    predicted, evaluated = map(json.loads, done.stdout.splitlines())
    assert len(predicted["classes"]) == 5
    assert evaluated["images"] == 12


def test_an_evaluation_has_the_errors_of_the_classifier(
    digits_run: Path, digits_export: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data-dir", str(photos), "--split", "all", "--json"]
    assert evaluate.main([str(digits_export / "float32.tflite"), *flags]) == 0
    assert evaluate.main([str(digits_run), *flags, "--dataset", "folder"]) == 0
    found, expected = map(json.loads, capsys.readouterr().out.splitlines())
    assert found == pytest.approx(expected, abs=1e-5)


def test_broken_images_are_named_or_skipped(digits_export: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name / "good.png")
    (tmp_path / "a" / "bad.png").write_bytes(b"no image")
    classifier = LiteRTClassifier(
        digits_export / "float32.tflite",
        LiteRTClassifier.open(digits_export).preprocessing,
        tuple("ab") + tuple("01234567"),
    )
    with pytest.raises(ValueError, match="bad.png"):
        evaluate_litert(classifier, tmp_path, "all")
    assert evaluate_litert(classifier, tmp_path, "all", "skip").labels.tolist() == [0, 1]


@pytest.mark.parametrize(("task", "what"), [("segmentation", "a segmentation network"), ("detection", "a detector")])
def test_exports_of_other_networks_are_refused_by_their_task(tmp_path: Path, task: str, what: str) -> None:
    version = tmp_path / "street" / "1"
    version.mkdir(parents=True)
    (version / "float32.tflite").write_bytes(b"TFL3")
    (version / "export.json").write_text(json.dumps({"task": task, "source": "runs/street"}))
    for source in (tmp_path / "street", version, version / "float32.tflite"):
        with pytest.raises(
            ValueError, match=f"run or .* that {what} was exported from, runs/street. Received: .*street"
        ):
            find_litert(source)
    (version / "export.json").write_text('["of another program"]')
    assert find_litert(version / "float32.tflite") == version / "float32.tflite"


def test_the_newest_version_and_its_float_file_come_first(tmp_path: Path) -> None:
    for version, names in {"2": ("int8", "float32"), "10": ("dynamic_range", "int8"), "x": ("float32",)}.items():
        (tmp_path / version).mkdir()
        (tmp_path / version / "export.json").write_text("{}")
        for name in names:
            (tmp_path / version / f"{name}.tflite").write_bytes(b"")
    assert find_litert(tmp_path) == tmp_path / "10" / "dynamic_range.tflite"
    assert find_litert(tmp_path / "2") == tmp_path / "2" / "float32.tflite"
    for path in (tmp_path / "10").glob("*.tflite"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected an export with one of float32.tflite.*Received: .*10"):
        find_litert(tmp_path)


def with_member(content: bytes, described: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """A file with another member behind the model."""
    whole = io.BytesIO(content)
    with zipfile.ZipFile(whole, "a", method) as archive:
        archive.writestr(CLASSIFIER, described)
    return whole.getvalue()


def test_hostile_files_are_refused_in_a_sentence(
    digits_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(digits_export / "float32.tflite") as archive:
        start = archive.infolist()[0].header_offset
    good = (digits_export / "float32.tflite").read_bytes()[:start]
    names = LiteRTClassifier.open(digits_export)
    described = {"preprocessing": names.preprocessing.to_json(), "class_names": names.class_names}
    wide = {**described, "preprocessing": {**names.preprocessing.to_json(), "image_size": [4000, 4000]}}
    few = {**described, "class_names": ["a"]}
    cases = {
        "empty": b"",
        "model_alone": good,
        "garbage_model": with_member(b"TFL3" * 100, json.dumps(described).encode()),
        "zeros": with_member(b"\x1c\0\0\0TFL3" + b"\0" * 1000, json.dumps(described).encode()),
        "deep": with_member(good, b"[" * 100_000),
        "list": with_member(good, b"[]"),
        "packed": with_member(good, b" " * 10**6, zipfile.ZIP_DEFLATED),
        "wide": with_member(good, json.dumps(wide).encode()),
        "few": with_member(good, json.dumps(few).encode()),
    }
    monkeypatch.setattr(litert_classifier, "_SECONDS", 30)
    image = tmp_path / "x.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image)
    for name, content in cases.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(content)
        assert predict.main([str(path), str(image)]) == 2, name
        told = capsys.readouterr().err
        assert told.startswith("resnet predict: Expected"), (name, told)
        assert "Received" in told and name in told and "Traceback" not in told


@pytest.mark.slow
def test_mutated_files_are_run_or_refused_in_a_process_of_their_own(digits_export: Path, tmp_path: Path) -> None:
    whole, rng = (digits_export / "float32.tflite").read_bytes(), np.random.default_rng(16)
    archive, outcomes = whole.rfind(b"PK\3\4"), Counter[str]()
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 12)):
            # The tables of a flatbuffer are at its ends.
            ends = (rng.integers(4000), rng.integers(archive - 40_000, archive), rng.integers(len(content)))
            content[int(rng.choice(ends))] = rng.integers(256)
        (tmp_path / "x.tflite").write_bytes(content)
        try:
            LiteRTClassifier.open(tmp_path / "x.tflite").predict(tmp_path / "a.png")
            outcomes["run"] += 1
        except ValueError as error:
            assert str(error).startswith("Expected ")
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    print(outcomes)
    assert min(outcomes.values()) > 5
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 << 20


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--crops", "ten"], "the center crop"),
        (["--dataset", "digits"], "--data-dir"),
        (["--average", "logits"], "the center crop"),
    ],
)
def test_what_needs_a_run_is_said(
    flags: list[str], told: str, digits_export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(digits_export), *flags]) == 2
    assert told in capsys.readouterr().err
