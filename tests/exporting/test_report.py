"""The report of an export: where its weights began."""

import json
from pathlib import Path
from typing import Any

import pytest

from resnet_keras.exporting.report import initial_weights


def recipe(**changes: Any) -> dict[str, Any]:
    weights, continued = changes.get("weights"), changes.get("continue_from")
    return {"network": {"model": "resnet50", "weights": weights}, "schedule": {"continue_from": continued}}


@pytest.mark.parametrize(
    ("settings", "source", "license_"),
    [
        (recipe(), None, None),
        ({"network": {"model": "resnet50"}}, None, None),
        (recipe(weights="imagenet"), "imagenet", "MIT License (Kaiming He)"),
        (recipe(weights="hf://me/mine"), "hf://me/mine", "that of https://huggingface.co/me/mine"),
        (recipe(weights="/home/me/backbone.pth"), "backbone.pth", None),
    ],
)
def test_a_run_began_with_the_weights_of_its_recipe(
    settings: dict[str, Any], source: str | None, license_: str | None
) -> None:
    assert initial_weights("runs/mine", settings) == {"source": source, "license": license_}


@pytest.mark.parametrize("field", ["weights", "continue_from"])
def test_a_run_that_began_with_another_has_the_weights_of_that(tmp_path: Path, field: str) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(recipe(weights="torchvision")))
    found = initial_weights("runs/mine", recipe(**{field: str(tmp_path)}))
    assert found == {"source": "torchvision", "license": "BSD 3-Clause License (torchvision)"}


def test_runs_that_began_with_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(recipe(weights=str(tmp_path))))
    assert initial_weights("runs/mine", recipe(weights=str(tmp_path))) == {"source": None, "license": None}


def test_a_source_without_a_run_has_its_own_license() -> None:
    license_ = "Apache License 2.0, that of resnet_keras"
    assert initial_weights("resnet20_digits", None) == {"source": None, "license": license_}
