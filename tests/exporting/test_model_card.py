"""The model card: what it says of weights, images and tolerances, and what it leaves out."""

import json
from pathlib import Path
from typing import Any

import pytest

from resnet_keras.exporting.model_card import model_card


@pytest.fixture
def report(digits_export: Path) -> dict[str, Any]:
    return json.loads((digits_export / "export.json").read_text())


def test_it_names_the_images_the_calibration_and_the_tolerances(report: dict[str, Any]) -> None:
    card = model_card(report)
    assert card.startswith("# resnet20 on digits\n")
    assert "on 359 test images and was compared with the classifier, whose accuracy on them is" in card
    assert f"{report['calibration_images']} training images calibrated the integer formats." in card
    assert (
        "Allowed were another most probable class for 2.00% of the images (of a few, for one), and probabilities that "
        "differ by 0.0001 in `saved_model.pb` and `float32.tflite`, by 0.01 in `float16.tflite`, by any amount in "
        "`dynamic_range.tflite` and `int8.tflite`."
    ) in card
    assert '.signatures["fixed_size"])`' in card
    assert "icense" not in card  # the run began with random weights


def test_a_slow_artifact_of_fewer_images_has_its_own_numbers(report: dict[str, Any]) -> None:
    slow = report["artifacts"][-1]
    slow |= {"images": 120, "accuracy": 0.975, "classifier_accuracy": 0.9875}
    card = model_card(report)
    assert "on the number in the table of test images" in card and "accuracy on them is in the table, too." in card
    head, _, *rows = (line for line in card.splitlines() if line.startswith("|") and "`saved_model` " not in line)
    columns = [each.strip() for each in head.strip("|").split("|")]
    assert columns[-4:] == ["images", "accuracy", "the classifier's", "memory, MB"]
    first, last = ([each.strip() for each in rows[i].strip("|").split("|")] for i in (0, len(report["artifacts"]) - 1))
    assert last[-4:-1] == ["120", "97.50%", "98.75%"]
    assert first[-4:-1] == [
        "359",
        *(f"{report['artifacts'][0][key]:.2%}" for key in ("accuracy", "classifier_accuracy")),
    ]


def test_it_leaves_out_what_does_not_apply(report: dict[str, Any]) -> None:
    report["artifacts"] = report["artifacts"][:2]
    assert "calibrated" not in model_card(report)
    report["artifacts"] = report["artifacts"][1:]
    assert "fixed_size" not in model_card(report)


def test_it_names_the_initial_weights_and_their_license(report: dict[str, Any]) -> None:
    report["initial_weights"] = {"source": "imagenet", "license": "MIT License (Kaiming He)"}
    card = model_card(report)
    assert (
        "epochs on digits, from the weights `imagenet`. License of the initial weights: MIT License (Kaiming He)."
        in card
    )


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("noise", "on 359 images of noise and was compared with the classifier. That says nothing of photographs"),
        (
            "photos",
            "on 359 images without labels, of `photos` and was compared with the classifier. Its accuracy",
        ),
    ],
)
def test_it_says_which_images_had_no_labels(report: dict[str, Any], images: str, said: str) -> None:
    report["dataset"], report["images"] = None, images
    for artifact in report["artifacts"]:
        artifact["accuracy"] = artifact["classifier_accuracy"] = None
    card = model_card(report)
    assert card.startswith("# resnet20\n")
    assert said in card
    assert "accuracy |" not in card
