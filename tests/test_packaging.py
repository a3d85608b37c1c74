"""What is published: metadata, licenses, and the wheel and source archive as a stranger installs them."""

import email
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import resnet_keras

ROOT = Path(resnet_keras.__file__).parents[1]
MOST_BYTES = 5_000_000
"""Bound on the size of the wheel; `docs/getting_started.md` states the size."""

TRIAL = """
import keras
import numpy as np
import resnet_keras

assert "site-packages" in resnet_keras.__file__, resnet_keras.__file__
model = resnet_keras.ResNet20(classes=10, input_shape=(8, 8, 1))
split = resnet_keras.open_split("digits", "test")
preprocessing = resnet_keras.Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
classifier = resnet_keras.Classifier(model, preprocessing, tuple("0123456789"))
predictions = resnet_keras.evaluation.predict_split(classifier, split)
assert np.isfinite(resnet_keras.evaluate(classifier, split).top1_error)
assert len(resnet_keras.data.imagenet_class_names()) == 1000
classifier.save("digits.keras")
keras.utils.save_img("seven.png", split.images[0])
"""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def only(pattern: str, name: str) -> str:
    found = re.findall(pattern, text(name), re.MULTILINE)
    assert len(found) == 1, (name, pattern, found)
    return str(found[0])


def test_versions_agree() -> None:
    version = only(r'^version = "(.*)"$', "pyproject.toml")
    assert only(r"^version: (.*)$", "CITATION.cff") == version
    assert f"## {version} " in text("CHANGELOG.md")


def test_ruff_has_one_version() -> None:
    pinned = set(re.findall(r"ruff==([\d.]+)", text("pyproject.toml")))
    assert pinned == {only(r"ruff-pre-commit\n    rev: v([\d.]+)$", ".pre-commit-config.yaml")}


def test_the_license_is_apache_2_0_everywhere() -> None:
    assert only(r'^license = "(.*)"$', "pyproject.toml") == only(r"^license: (.*)$", "CITATION.cff") == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text("LICENSE")


def test_notices_name_all_data_in_the_package() -> None:
    package = Path(resnet_keras.__file__).parent
    code = {".py", ".pyi", ".pyc", ".typed"}
    data = [path for path in package.rglob("*") if path.is_file() and path.suffix not in code]
    notices = text("THIRD_PARTY_NOTICES.md")
    assert data
    for path in data:
        assert f"`{path.relative_to(ROOT).as_posix()}`" in notices


def test_photographs_in_the_repository_are_named_in_the_notices() -> None:
    photographs = [*ROOT.glob("examples/**/*.jpg"), ROOT / "examples" / "super_resolution" / "details.png"]
    for path in photographs:
        assert f"`{path.relative_to(ROOT).as_posix()}`" in text("THIRD_PARTY_NOTICES.md")


def test_every_extra_is_in_getting_started() -> None:
    section = text("pyproject.toml").partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = re.findall(r"^(\w+) = \[", section, re.MULTILINE)
    table = re.findall(r"^\| (`\w+`.*?) \|", text("docs/getting_started.md"), re.MULTILINE)
    assert {"export", "docs", "dev"} <= set(extras)
    assert set(extras) <= {name for cell in table for name in re.findall(r"`(\w+)`", cell)}


def test_continuous_integration_runs_every_supported_python() -> None:
    named = re.findall(r"Python :: (3\.\d+)\"", text("pyproject.toml"))
    matrix = only(r"^ +python-version: \[(.*)\]$", ".github/workflows/ci.yml")
    assert re.findall(r"3\.\d+", matrix) == named


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel that is built from it."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("dist")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the project is not a Git checkout")
    tree = folder / "tree"  # a copy: a build leaves folders in the tree
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


@pytest.mark.slow
def test_the_wheel_has_data_stubs_and_licenses_and_is_small(archives: tuple[Path, Path]) -> None:
    source, wheel = archives
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    package = Path(resnet_keras.__file__).parent
    expected = {
        path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    information = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert {name for name in names if not name.startswith(information)} == expected
    assert {"resnet_keras/py.typed", "resnet_keras/data/digits.npz", "resnet_keras/surgery/__init__.pyi"} <= names
    assert {f"{information}/licenses/{name}" for name in ("LICENSE", "THIRD_PARTY_NOTICES.md")} <= names
    assert wheel.stat().st_size <= MOST_BYTES
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "docs/index.md", "tests/test_packaging.py", "Makefile"} <= inside


@pytest.mark.slow
def test_a_package_index_shows_the_readme_with_absolute_links(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(file.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    repository = dict(line.split(", ") for line in metadata.get_all("Project-URL"))["Repository"]
    links = re.compile(r"\]\(([^)]+)\)")
    wanted = links.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    pages = [each if "://" in each else f"{repository}/blob/main/{each}" for each in wanted]
    pages = [each.replace("/blob/", "/raw/") if each.endswith(".png") else each for each in pages]
    assert links.findall(metadata.get_payload()) == pages
    assert sum(each.startswith(f"{repository}/raw/main/benchmarks/") for each in pages) == 1


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder(archives: tuple[Path, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(archives[1])], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    others = [path for path in sys.path if path.endswith("-packages")]
    # The packages that resnet_keras needs; the files that lead to a checkout of it are not read along this way.
    (own / "needed.pth").write_text("\n".join(others) + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(str(python), "-c", TRIAL)
    program = str(python.with_name("resnet"))
    assert run(program, "--version").split() == ["resnet_keras", archives[1].name.split("-")[1]]
    assert "usage: resnet COMMAND" in run(program, "--help")
    assert "resnet20" in run(program, "networks")
    assert run(program, "predict", "digits.keras", "seven.png").startswith("seven.png: ")


def test_the_constraints_are_within_the_bounds_of_all_dependencies() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", text("constraints.txt"), re.MULTILINE))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    core, extras = text("pyproject.toml").partition("[project.optional-dependencies]")[::2]
    core = core.partition("dependencies = [")[2]
    bounds = [Requirement(each) for each in re.findall(r'^    "([^"]+)",', core, re.MULTILINE)]
    assert len(bounds) >= 14
    for each in bounds:
        assert canonicalize_name(each.name) in pinned, each
    others = re.findall(r'"([A-Za-z][\w.-]*(?:\[[^]]*\])?[<>=!~][^"]*)"', extras.partition("\n[project.urls]")[0])
    bounds += [Requirement(each) for each in others]
    assert len(bounds) > 30
    for each in bounds:
        version = pinned.get(canonicalize_name(each.name))
        assert version is None or each.specifier.contains(version), f"{each}, pinned to {version}"


def test_keras_is_a_version_without_known_holes() -> None:
    (keras,) = re.findall(r'^    "(keras>[^"]+)",', text("pyproject.toml"), re.MULTILINE)
    allowed = Requirement(keras).specifier
    versions = ("3.12.0", "3.12.3", "3.12.4", "3.13.2", "3.14.1", "3.15.0", "3.15.1", "3.16.0")
    assert [each for each in versions if each in allowed] == ["3.12.4", "3.15.1", "3.16.0"]


def workflow(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(text(f".github/workflows/{name}.yml"))
    assert isinstance(found, dict)
    return found


def commands_of(job: dict[str, Any]) -> list[str]:
    return [line for step in job["steps"] for line in step.get("run", "").splitlines()]


def test_workflows_are_yaml_with_their_jobs_and_commands_that_exist() -> None:
    ci, newest = workflow("ci"), workflow("newest")
    assert list(ci["jobs"]) == ["lint", "test", "build", "docs"]
    assert [each["cron"] for each in newest[True]["schedule"]] == ["17 4 * * 1"]  # YAML 1.1 takes `on` for true
    targets = set(only(r"^\.PHONY: (.+)$", "Makefile").split())
    pinned = [entry.get("constraints") for entry in ci["jobs"]["test"]["strategy"]["matrix"]["include"]]
    assert pinned == ["constraints.txt"]
    jobs = [*ci["jobs"].values(), *newest["jobs"].values()]
    made = [line.split()[1] for job in jobs for line in commands_of(job) if line.startswith("make ")]
    assert made == ["test", "docs", "constraints"]
    assert targets.issuperset(made)
    tools = {line.split()[0] for job in jobs for line in commands_of(job)}
    assert tools == {"pip", "ruff", "mypy", "make", "python", "twine", "resnet", "git"}
    assert commands_of(ci["jobs"]["lint"])[1:] == ["ruff format --check .", "ruff check .", "mypy resnet_keras"]
