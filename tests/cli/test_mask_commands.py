"""The commands on segmentation networks."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.mask_folders import CLASSES, LITTLE
from PIL import Image

from resnet_keras.cli import evaluate, export, predict, runs, train
from resnet_keras.exporting import mask_exporter
from resnet_keras.networks.catalog import ARCHITECTURES


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "little", LITTLE)
        yield


def test_a_run_of_segmentation_is_evaluated_at_full_size(
    mask_run: Path, mask_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads((mask_run / "evaluation.json").read_text())
    assert evaluate.main([str(mask_run), "--details", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{mask_run} on test: mean IoU {result['mean_iou']:.2%}, pixel accuracy" in said
    for name in CLASSES:
        assert f"  {name:<4}  {result['class_iou'][name]:>8.2%}" in said
    assert json.loads((tmp_path / "evaluation.json").read_text()) == result
    file = str(mask_run / "model.keras")
    assert evaluate.main([file, "--data-dir", str(mask_data), "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--crops", "ten"], "Expected no --crops with a segmentation network"),
        (["--ignored-label", "7"], "Expected labels from 0 to 2, or 7 where pixels do not count"),
        (["--split", "dev"], "Expected a part of .*: test, train, val. Received: 'dev'"),
    ],
)
def test_what_a_segmentation_network_cannot_be_evaluated_on_is_one_line(
    mask_run: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert evaluate.main([str(mask_run), *flags]) == 2
    captured = capsys.readouterr().err
    assert len(captured.splitlines()) == 1
    assert re.search(said, captured)


def test_a_run_of_segmentation_predicts_masks(
    mask_run: Path, mask_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = mask_data / "test" / "images" / "0.png"
    assert predict.main([str(mask_run), str(image), "--masks", str(tmp_path), "--json"]) == 0
    classes = json.loads(capsys.readouterr().out)["classes"]
    assert sum(each["fraction"] for each in classes) == pytest.approx(1)
    mask = np.asarray(Image.open(tmp_path / "0.mask.png"))
    assert mask.shape == (40, 70) and mask.max() < 3


def test_images_of_one_name_have_masks_of_their_own(
    mask_run: Path, mask_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    for name, source in (("a/1.png", "0.png"), ("b/1.png", "1.png")):
        (photos / name).parent.mkdir(parents=True)
        shutil.copy(mask_data / "test" / "images" / source, photos / name)
    assert predict.main([str(mask_run), str(photos), "--masks", str(tmp_path / "masks")]) == 0
    written = {str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.mask.png")}
    assert written == {"a/1.mask.png", "b/1.mask.png"}
    (tmp_path / "file").touch()
    assert predict.main([str(mask_run), str(photos), "--masks", str(tmp_path / "file")]) == 2
    assert "Expected a folder for the results (--masks). Received: " in capsys.readouterr().err
    assert predict.main([str(mask_run), str(photos), "--top-k", "0"]) == 2
    assert "Expected --top-k of at least 1. Received: 0" in capsys.readouterr().err


def test_a_broken_image_or_mask_is_named(
    mask_run: Path, mask_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(mask_data, tmp_path / "data"))
    image = copied / "test" / "images" / "1.png"
    image.write_bytes(image.read_bytes()[:60])
    assert evaluate.main([str(mask_run), "--data-dir", str(copied)]) == 2
    captured = capsys.readouterr().err
    assert re.search(r"Expected whole images .* and masks \(PNG\)\. Received: .*1\.png", captured)


@pytest.mark.slow
def test_a_run_of_segmentation_is_exported_with_a_card(
    mask_run: Path, mask_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(mask_run), "--to", str(tmp_path), "--formats", "onnx"]) == 2
    assert "Expected --formats among saved_model, float32" in capsys.readouterr().err
    assert export.main([str(mask_run), "--to", str(tmp_path), "--top-k", "3"]) == 2
    assert "Expected no --top-k with a segmentation network" in capsys.readouterr().err
    assert export.main([str(mask_run), "--to", str(tmp_path), "--skip-broken"]) == 2
    assert "Expected no --skip-broken with a segmentation network" in capsys.readouterr().err
    flags = ["--formats", "saved_model", "--images", str(mask_data / "test" / "images"), "--agreement", "0.98"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_exporter, "MOST_COMPARED", 3)
        assert export.main([str(mask_run), "--to", str(tmp_path), *flags]) == 0
    version = tmp_path / mask_run.name / "1"
    report = json.loads((version / "export.json").read_text())
    assert report["options"] == {"agreement": 0.98}  # the value of classifiers counts here, too
    assert (report["task"], report["images_there"], report["artifacts"][0]["images"]) == ("segmentation", 4, 3)
    assert "Masks of 3 of 4 images were compared" in (version / "README.md").read_text()
    assert [each["format"] for each in report["artifacts"]] == ["saved_model"]
    assert report["artifacts"][0]["agreement"] > 0.999
    card = (version / "README.md").read_text()
    assert "fcn over little at output stride 32, 3 classes" in card
    assert "On the 4 test images of its run, at their full size, the model has a mean IoU of" in card


def test_a_table_of_runs_has_a_run_of_segmentation(mask_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.main([str(mask_run)]) == 0
    assert "mean IoU, %" in capsys.readouterr().out


def test_the_help_of_segmentation_has_its_flags_and_a_head_is_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["segmentation", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--head" in said and "--crop-size" in said and len(said.splitlines()) <= 45
    assert train.main(["unet"]) == 2
    assert "That is a head: resnet train segmentation --head unet" in capsys.readouterr().err
