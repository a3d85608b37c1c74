"""The commands on detectors."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.box_folders import VocFolder
from helpers.small_detectors import small_detector
from PIL import Image

import resnet_keras
from resnet_keras.cli import evaluate, export, predict
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection import detector
from resnet_keras.detection.detector import Detector

CANVAS = Preprocessing(image_size=(64, 96), channels=3, mean=(124, 116, 104), std=(58, 57, 57))

NAMES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file of a detector, and a folder of two images, one of which is broken."""
    folder = tmp_path_factory.mktemp("detector")
    Detector(small_detector(), CANVAS, NAMES).save(folder / "pets.keras")
    photos = folder / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(photos / "garden.png")
    (photos / "broken.png").write_bytes(b"not an image")
    return folder / "pets.keras", photos


def test_objects_are_printed_as_json_and_drawn_and_broken_images_named(
    saved: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, photos = saved
    flags = ["--json", "--boxes", str(tmp_path / "boxes"), "--least-score", "0.3"]
    assert predict.main([str(file), str(photos), *flags]) == predict.SOME_FAILED
    captured = capsys.readouterr()
    assert "broken.png" in captured.err
    line = json.loads(captured.out)
    assert line["image"] == str(photos / "garden.png")
    (every,) = Detector(small_detector(), CANVAS, NAMES).predict(photos / "garden.png")
    assert len(line["objects"]) == (every.scores >= 0.3).sum() > 0
    best = line["objects"][0]
    assert best["class"] == NAMES[every.labels[0]]
    assert best["score"] == pytest.approx(every.scores[0], abs=1e-5)
    np.testing.assert_allclose(best["box"], every.boxes[0], atol=1e-2)
    with Image.open(tmp_path / "boxes" / "garden.boxes.png") as picture:
        assert picture.size == (70, 50)


@pytest.mark.slow
def test_objects_are_printed_as_lines_by_a_program_that_has_made_no_detector(saved: tuple[Path, Path]) -> None:
    file, photos = saved
    command = [sys.executable, "-m", "resnet_keras.cli", "predict", str(file), str(photos / "garden.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r".*garden.png: \d+ objects", lines[0])
    assert all(re.fullmatch(r"  (cat|dog|bird) \d+\.\d\d% at (-?\d+\.\d, ){3}-?\d+\.\d", line) for line in lines[1:])


def test_whatever_opens_a_detector_has_its_layers() -> None:
    tree = ast.parse(Path(detector.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert "resnet_keras.detection.region_layers" in modules  # Keras knows them from there on


def test_names_are_as_many_as_classes_of_a_faster_rcnn() -> None:
    with pytest.raises(ValueError, match=r"a name for each of the 3 classes of faster_rcnn_resnet10. Received: 2"):
        Detector(small_detector(), CANVAS, NAMES[:2])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--masks", "masks"], "Expected no --masks, which is of segmenters. Received: masks"),
        (["--least-score", "2"], "Expected --least-score from 0 to 1. Received: 2.0"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(
    saved: tuple[Path, Path], capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert predict.main([str(saved[0]), str(saved[1]), *flags]) == 2
    captured = capsys.readouterr().err
    assert said in captured
    assert len(captured.splitlines()) == 1


def test_an_export_needs_images_and_no_flags_of_classifiers(
    saved: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(saved[0]), "--to", str(tmp_path)]) == 2
    assert "Expected --images, a folder of images with objects, or --data-dir, one of" in capsys.readouterr().err
    assert export.main([str(saved[0]), "--to", str(tmp_path), "--top-k", "3"]) == 2
    assert "Expected no --top-k with a detector" in capsys.readouterr().err
    assert export.main([str(saved[0]), "--to", str(tmp_path), "--agreement", "98"]) == 2
    assert "Expected --agreement to be in [0, 1], or None. Received: 98.0" in capsys.readouterr().err
    given: dict[str, Any] = {}

    def publish(*_: Any, **options: Any) -> SimpleNamespace:
        given.update(options)
        return SimpleNamespace(path=tmp_path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet_keras.exporting, "export_detections", publish)
        assert export.main([str(saved[0]), "--to", str(tmp_path), "--agreement", "0.98"]) == 0
    assert given["agreement"] == 0.98  # the value of classifiers counts here, too


@pytest.mark.slow
def test_an_export_is_a_version_with_a_card(
    saved: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = saved[1] / "garden.png"
    flags = ["--to", str(tmp_path), "--images", str(images), "--formats", "saved_model", "float32"]
    assert export.main([str(saved[0]), *flags]) == 0, capsys.readouterr().err
    version = tmp_path / "pets" / "1"
    report = json.loads((version / "export.json").read_text())
    assert [(each["format"], each["agreement"]) for each in report["artifacts"]] == [("saved_model", 1), ("float32", 1)]
    card = (version / "README.md").read_text()
    assert "A detector of 3 classes" in card
    assert "Labels are the places in: cat, dog, bird." in card


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["resnet20_digits", "--refine-boxes"], "Expected no --refine-boxes with a classifier"),
        (["{detector}", "--crops", "ten"], "Expected no --crops with a detector"),
        (["{detector}", "--scales", "64", "32"], "Expected --scales to be at most 8 rising lengths of 32 to 2000"),
    ],
)
def test_refinements_are_for_detectors_alone(
    saved: tuple[Path, Path], capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert evaluate.main([each.format(detector=saved[0]) for each in flags]) == 2
    captured = capsys.readouterr().err
    assert said in captured
    assert len(captured.splitlines()) == 1


@pytest.mark.slow
def test_a_detector_is_evaluated_with_refinements(
    saved: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = VocFolder(tmp_path / "voc")
    folder.add("one")
    (found,) = Detector.load(saved[0]).predict(folder.root / "JPEGImages" / "one.jpg")
    boxes = [(NAMES[label], box[0] + 1, box[1] + 1, *box[2:]) for box, _, label in zip(*found, strict=True)]
    folder.add("one", boxes, part="test")
    command = [str(saved[0]), "--data-dir", str(folder.root), "--json"]
    results = []
    for flags in ([], ["--refine-boxes", "--flip", "--scales", "64", "96"]):
        assert evaluate.main([*command, *flags]) == 0, capsys.readouterr().err
        results.append(json.loads(capsys.readouterr().out))
    assert results[0].keys() == results[1].keys()
    assert results[0]["ap"] == 1
    assert results[1]["ap"] < 1
