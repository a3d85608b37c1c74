"""The benchmark of detection on blood cells: what torchvision's training is told is what the recipe says."""

import argparse
import importlib
from pathlib import Path
from types import ModuleType

import pytest

from resnet_keras.detection.box_files import open_boxes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bccd(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bccd")


def test_the_peer_has_the_sizes_rates_and_images_of_the_recipe(bccd: ModuleType, test_data: Path) -> None:
    folder = test_data / "detection" / "bccd"
    if not folder.is_dir():
        pytest.skip("BCCD is not there")
    arguments = argparse.Namespace(weights=Path("file.safetensors"), canvas=(256, 320), epochs=1, batch_size=2)
    split = open_boxes(folder, "test", on_corrupt="skip")
    settings = bccd.peer_settings(bccd.recipe_of(arguments), split, split)
    assert settings["fit"] == [240, 320]  # 480x640 on the canvas
    assert len(settings["rates"]) == len(split) // 2 == 36
    # The recipe's rates are for 4 images; the warm-up is as long as the run but for its last step.
    assert settings["rates"][0] == pytest.approx(0.0005)
    assert settings["rates"][35] == pytest.approx(0.005)
    assert len(settings["test"]) == 72 and Path(settings["test"][0]["image"]).is_absolute()
    assert settings["classes"] == 3 and settings["anchor_sizes"] == [16, 32, 64, 128, 256]
