"""The public names: stubs, what they stand for, what a type checker sees, and who may import what."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import resnet_keras

PACKAGE = Path(resnet_keras.__file__).parent
ROOT = PACKAGE.parent
FOLDERS = ("", *sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()))
WITHOUT_DOCUMENTATION = (dict, tuple, str, int)
"""Tables and constants, which have no docstring of their own."""

RIGHT = """
import keras
import numpy as np
from resnet_keras import Architecture, Classifier, Preprocessing, ResNet50, build, freeze
import resnet_keras

model: keras.Model = ResNet50(classes=10, weights="imagenet", shortcut="B")
model = build(Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(8, 16)), input_shape=(None, None, 3))
preprocessing = Preprocessing(image_size=(32, 32), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
classifier = Classifier(model, preprocessing, ("cat", "dog"))
split = resnet_keras.open_split("digits", "test")
views = resnet_keras.evaluation.Views(crops="ten")
error: float = resnet_keras.evaluate(classifier, split, views=views).top1_error
matrix: np.ndarray = resnet_keras.evaluation.confusion_matrix(resnet_keras.evaluation.predict_split(classifier, split))
frozen = freeze(resnet_keras.with_head(model, 5), "stage2", batch_norms=True)
folded: keras.Model = resnet_keras.surgery.fold(model)
for prediction in resnet_keras.predict(classifier, ["seven.png"], top_k=3):
    name: str = prediction.classes[0][0]
report = resnet_keras.load_weights(model, "model.safetensors")
resnet_keras.train(resnet_keras.RECIPES["digits"], "runs/digits")
"""
WRONG = {
    "resnet_keras.ResNet20(clases=3)": 'Unexpected keyword argument "clases"; did you mean "classes"?',
    'resnet_keras.ResNet20(shortcut="D")': 'Argument "shortcut" has incompatible type',
    'resnet_keras.evaluation.Views(crops="nine")': 'Argument "crops" to "Views" has incompatible type',
    "resnet_keras.ResNet51": 'Module has no attribute "ResNet51"',
    "resnet_keras.surgery.fold(3.5, precise=True)": 'Unexpected keyword argument "precise" for "fold"',
}


def stub_of(folder: str) -> dict[str, str]:
    """Returns the module that each name in a folder's stub comes from, or an empty string for a module itself."""
    tree = ast.parse((PACKAGE / folder / "__init__.pyi").read_text(encoding="utf-8"))
    sources = {}
    for node in tree.body:
        assert isinstance(node, ast.ImportFrom), f"{folder}: a stub only re-exports. Received: {ast.unparse(node)}"
        assert node.level == 1
        for alias in node.names:
            assert alias.asname == alias.name, f"{folder}: {alias.name} is not re-exported as itself"
            sources[alias.name] = node.module or ""
    return sources


def module_of(folder: str) -> str:
    return f"resnet_keras.{folder}".rstrip(".")


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_in_a_stub_exist_and_are_documented(folder: str) -> None:
    package = importlib.import_module(module_of(folder))
    stub = stub_of(folder)
    assert sorted(stub) == sorted(package.__all__)
    for name, source in stub.items():
        value = getattr(package, name)
        if not source:
            assert inspect.ismodule(value)
            continue
        assert value is getattr(importlib.import_module(f"{module_of(folder)}.{source}"), name)
        assert not inspect.ismodule(value), f"{folder}.{name} is a module and a public name"
        words = (inspect.getdoc(value) or "").split()
        assert isinstance(value, WITHOUT_DOCUMENTATION) or len(words) >= 5, name


def test_about_thirty_five_names_stand_at_the_top() -> None:
    assert len([name for name, source in stub_of("").items() if source]) in range(30, 41)
    assert {name for name, source in stub_of("").items() if not source} == {*FOLDERS[1:], "files", "tables"}


def test_modules_have_no_name_of_a_public_function() -> None:
    for folder in FOLDERS:
        same = [
            name for name, source in stub_of(folder).items() if source and (PACKAGE / folder / f"{name}.py").is_file()
        ]
        assert not same, folder


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'resnet_keras' has no attribute 'ResNet51'"):
        resnet_keras.ResNet51  # noqa: B018
    with pytest.raises(AttributeError, match="module 'resnet_keras.surgery' has no attribute 'folding_up'"):
        resnet_keras.surgery.folding_up  # noqa: B018


def test_a_type_checker_sees_signatures(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text("\n".join(["import resnet_keras", *WRONG]))
    # Types of other packages are not looked up: it takes most of the time, and their arguments are not ours.
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-site-packages",
        "--ignore-missing-imports",
        "--cache-dir",
        "cache",
        "right.py",
        "wrong.py",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={"MYPYPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    for number, said in enumerate(WRONG.values(), start=2):
        assert any(line.startswith(f"wrong.py:{number}: ") and said in line for line in lines), (said, done.stdout)
    assert len({line.split(":")[1] for line in lines}) == len(WRONG)
    assert not [line for line in lines if line.startswith("right.py")], done.stdout


def test_examples_and_benchmarks_import_only_public_names() -> None:
    names_of = {folder: stub_of(folder) for folder in FOLDERS}
    public = {f"{module_of(folder)}.{name}" for folder, stub in names_of.items() for name in stub} | {"resnet_keras"}
    modules = {f"{module_of(folder)}.{name}" for folder, stub in names_of.items() for name in stub if not stub[name]}
    modules -= {f"resnet_keras.{folder}" for folder in FOLDERS}
    used = {}
    for file in sorted([*(ROOT / "examples").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            private = [
                name
                for name in names
                if name.startswith("resnet_keras") and name not in public and name.rpartition(".")[0] not in modules
            ]
            if private:
                used[str(file.relative_to(ROOT))] = private
    assert not used
