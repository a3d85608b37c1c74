"""Public names that do not exist, and those whose backend is missing."""

import importlib

import pytest

import resnet_keras
from resnet_keras.checks.extras import MissingExtra

ATTACHING = importlib.import_module("resnet_keras.checks.public_names")


@pytest.mark.parametrize(
    ("package", "name", "near"),
    [
        ("resnet_keras", "Resnet50", "ResNet50"),
        ("resnet_keras", "Clasifier", "Classifier"),
        ("resnet_keras.surgery", "folds", "fold"),
        ("resnet_keras.exporting", "Exports", "Export"),
    ],
)
def test_a_mistyped_name_gets_the_nearest(package: str, name: str, near: str) -> None:
    with pytest.raises(
        AttributeError, match=rf"^module '{package}' has no attribute '{name}'\. Did you mean {near}\?$"
    ):
        getattr(importlib.import_module(package), name)


def test_a_name_that_resembles_none_gets_no_suggestion() -> None:
    with pytest.raises(AttributeError, match=r"^module 'resnet_keras' has no attribute 'xyzzy'$"):
        _ = resnet_keras.xyzzy
    assert not hasattr(resnet_keras, "__wrapped__")


def test_a_missing_backend_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'jax'", name="jax.numpy")

    monkeypatch.setattr(ATTACHING.lazy_loader, "attach_stub", lambda *args: (missing, list, ["ResNet50"]))
    load, _, _ = ATTACHING.attach("resnet_keras", "")
    message = (
        r"Expected the package jax, for KERAS_BACKEND=jax: pip install jax \(the extra jax\), or unset KERAS_BACKEND"
    )
    with pytest.raises(MissingExtra, match=message):
        load("ResNet50")


def test_other_missing_packages_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

    monkeypatch.setattr(ATTACHING.lazy_loader, "attach_stub", lambda *args: (missing, list, ["ResNet50"]))
    load, _, _ = ATTACHING.attach("resnet_keras", "")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'pandas'$"):
        load("ResNet50")
