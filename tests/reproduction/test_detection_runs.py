"""Detectors of the reproduction: scales, tables, the document, and the smoke budget from start to end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from helpers.reproduced import write_networks
from helpers.tables import unpadded

from resnet_keras.cli import reproduce as program
from resnet_keras.detection.results import DetectionResult
from resnet_keras.reproduction import detection_runs
from resnet_keras.reproduction.detection_runs import measure_detectors, scales_for
from resnet_keras.reproduction.document import write_document
from resnet_keras.reproduction.folder import ReproductionFolder


def row(network: str, step: str, ap50: float) -> dict:
    numbers = dict.fromkeys(("ap", "ap75", "ap_medium", "ap_large", "ar1", "ar10", "ar100"), 0.25)
    numbers |= dict.fromkeys(("ar_small", "ar_medium", "ar_large"), 0.5)
    result = DetectionResult(
        **numbers, ap_small=None, ap50=ap50, class_ap={}, images=72, objects=9, voc2007_ap=0.5, voc2010_ap=0.6
    )
    return {"network": network, "step": step, "stamp": ["a.keras", 1, 2, "/data/cells"], "result": asdict(result)}


@pytest.mark.parametrize(
    ("shorter", "expected"),
    [(600, (200, 400, 600, 800, 1000)), (240, (80, 160, 240, 320, 400)), (64, (32, 40, 64, 88, 104))],
)
def test_scales_are_in_proportion_to_the_paper_s(shorter: int, expected: tuple[int, ...]) -> None:
    assert scales_for(shorter) == expected


def test_the_document_has_the_paper_s_numbers_and_says_what_was_not_run(tmp_path: Path) -> None:
    folder = ReproductionFolder(tmp_path)
    write_networks(folder)
    rows = [row("ResNet-18", "one scale", 0.611), row("ResNet-18", "+ box refinement", 0.634)]
    folder.write("small", "detection", {"rows": rows})
    write_document(folder)
    text = unpadded(folder.document.read_text())
    section = text[text.index("## Object detection") :]
    assert "| ResNet-18 | + box refinement | 72 | 63.4 | 25.0 | 25.0 | 50.0 | 60.0 |" in section
    assert "Test parts of cells. These are neither the paper's images nor its network" in section
    assert "Each row of a network adds to the one before." in section
    assert "### Not run here: the paper's recipes" in section
    assert "| 7 | ResNet-101 | VOC 07+12 | VOC 07 test | 76.4 | – |" in section
    assert "| 9 | ResNet-101 + box refinement | COCO train | COCO val | 49.9 | 29.9 |" in section


@dataclass
class Counted:
    """A detector that counts its evaluations."""

    evaluations: list[str]
    fit: tuple[int, int] = (240, 400)
    class_names: tuple[str, ...] = ("dog",)

    def evaluate(self, split: list[str], *, refinements: object) -> DetectionResult:
        """Returns any result."""
        self.evaluations.append(split[0])
        return DetectionResult(**row("", "", 0.5)["result"])


def test_results_of_one_data_set_stay_when_another_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted([])
    monkeypatch.setattr(detection_runs.Detector, "load", lambda path: counted)
    monkeypatch.setattr(detection_runs, "open_part_of_boxes", lambda name, part, source, **_: [name])
    for name in ("a.keras", "b.keras"):
        (tmp_path / name).write_text(name)
    folder = ReproductionFolder(tmp_path)

    def measured(network: str, file: str, dataset: str) -> list[str]:
        measure_detectors(folder, "full", "detection", {network: (tmp_path / file, dataset, tmp_path)})
        content = folder.read("full", "detection")
        assert content is not None
        return [each["network"] for each in content["rows"]]

    assert measured("of VOC", "a.keras", "voc/2007") == ["of VOC"] * 3
    assert measured("of COCO", "b.keras", "folder") == ["of VOC"] * 3 + ["of COCO"] * 3
    assert measured("of VOC", "a.keras", "voc/2007") == ["of VOC"] * 3 + ["of COCO"] * 3
    assert counted.evaluations == ["voc/2007"] * 3 + ["folder"] * 3
    (tmp_path / "a.keras").write_text("another")
    assert measured("of VOC", "a.keras", "voc/2007") == ["of VOC"] * 3 + ["of COCO"] * 3
    assert counted.evaluations[6:] == ["voc/2007"] * 3


def test_data_are_asked_for_before_anything_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_networks(ReproductionFolder(tmp_path))
    assert program.main(["detection", "--workdir", str(tmp_path)]) == 2
    assert "a folder of images with boxes. Received: none" in capsys.readouterr().err


@pytest.mark.slow
def test_the_smoke_budget_trains_two_detectors_and_measures_three_steps_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ReproductionFolder(tmp_path)
    write_networks(folder)
    assert program.main(["detection", "--budget", "smoke", "--workdir", str(tmp_path)]) == 0, capsys.readouterr().err
    measured = folder.read("smoke", "detection")
    assert measured is not None
    networks = ["ResNet-18, images of any kind", "ResNet-18 + context, images of any kind"]
    steps = ["one scale", "+ box refinement", "+ scales 32, 40, 64, 88, 104"]
    assert [(each["network"], each["step"]) for each in measured["rows"]] == [(n, s) for n in networks for s in steps]
    assert {each["result"]["images"] for each in measured["rows"]} == {16}
    before = folder.read("smoke", "detection")
    runs = [str(path) for path in sorted((tmp_path / "runs" / "smoke").iterdir()) if path.is_dir()]
    assert program.main(["detection", "--workdir", str(tmp_path), "--weights", *runs[:1]]) == 0
    given = folder.read("given", "detection")
    assert given is not None
    assert given["rows"][0]["result"] == measured["rows"][3 * ("context" in runs[0])]["result"]
    assert folder.read("smoke", "detection") == before
    assert "### Given networks" in folder.document.read_text()
