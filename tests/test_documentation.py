"""README, docs, and API reference: size, links, commands, code, names, and the site that is built from them."""

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.documents import Block, anchors, blocks, links
from keras.src.backend.common import global_state

import resnet_keras
from resnet_keras.cli.program import COMMANDS, main

ROOT = Path(__file__).parents[1]
DOCS = sorted(ROOT.glob("docs/*.md"))
REFERENCE = sorted(ROOT.glob("docs/api/*.md"))
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS)
MOST_WORDS = 1200
SHELLS = ("sh", "bash", "shell", "console")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(page: Path) -> set[str]:
    """Returns the commands of the program in indented blocks, in fenced blocks of a shell, and in code spans."""
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for block in blocks(page):
        if block.language in SHELLS:
            lines += block.code.replace("\\\n", " ").splitlines()
    found = (
        part.strip() for line in [*spans, *lines] for part in re.split(r" -- |  +#| && ", " ".join(line.split("\n")))
    )
    return {" ".join(each.split()).removeprefix("$ ") for each in found if re.match(r"(\$ )?resnet [a-z]", each)}


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS
    first = text.splitlines()[:20]
    assert any(line.strip().startswith("make demo") for line in first)
    assert any(line.strip().startswith("make test") for line in first)


def test_every_page_is_in_the_overview_and_in_the_navigation() -> None:
    overview = {path for path, _ in links(ROOT / "docs" / "index.md")}
    sections = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def pages(entry: str | list | dict) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]

    listed = pages(sections)
    assert sorted(listed) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in [*DOCS, *REFERENCE])
    assert overview >= {page.name for page in DOCS if page.name != "index.md"}


def test_links_lead_to_files_and_anchors() -> None:
    broken = []
    for page in (*PAGES, *REFERENCE):
        for path, anchor in links(page):
            target = page if not path else (page.parent / path).resolve()
            if path.startswith(("https://", "mailto:")):
                continue
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append((name_of(page), f"{path}#{anchor}"))
    assert not broken


def test_every_public_name_has_a_place_in_the_reference() -> None:
    places = {anchor for page in REFERENCE for anchor in anchors(page)}
    public = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    folders = ("", *public["folders"]())
    names = {
        f"resnet_keras.{folder}.{name}".replace("..", ".")
        for folder in folders
        for name in public["public_names"](folder)
    }
    missing = sorted(names - places)
    assert not missing, "`python docs/generate.py` writes their pages"


def test_generated_pages_are_current() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["api_pages"]()
    assert sorted(pages) == REFERENCE, "`python docs/generate.py` writes the pages"
    changed = [name_of(page) for page, text in pages.items() if page.read_text(encoding="utf-8") != text]
    assert not changed, "`python docs/generate.py` writes the pages"


@pytest.mark.slow
def test_generated_tables_are_current() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["tables"]()
    global_state.set_global_attribute("uninitialized_variables", [])  # Keras would draw them all after its next scope
    changed = [name_of(page) for page, text in pages.items() if page.read_text(encoding="utf-8") != text]
    assert not changed, "`python docs/generate.py --tables` writes the tables"


def test_generated_parts_are_replaced_between_their_marks() -> None:
    replaced = runpy.run_path(str(ROOT / "docs" / "generate.py"))["replaced"]
    page = "before\n<!-- generated: zoo -->\nold\n<!-- end -->\nafter <!-- end -->"
    assert replaced(page, "zoo", "new\nrows") == page.replace("old", "new\nrows")
    with pytest.raises(ValueError, match="Received: 0"):
        replaced(page, "other", "")


def check(command: str, place: str, helps: dict[tuple[str, ...], str], capsys: pytest.CaptureFixture[str]) -> None:
    """Checks that a subcommand, its flags and its recipe exist; `helps` keeps the texts of help."""
    _, name, *words = command.split()
    assert name in COMMANDS, (place, command)
    flags = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
    if name in ("train", "bench"):  # their flags are those of a recipe, or of what is measured
        path = (name, "digits") if name == "train" else (name, *words[: 2 if words[0] == "input" else 1])
        path = tuple("digits" if word == "RECIPE" else word for word in path)
    else:
        path = (name,)
    if path not in helps:
        assert main([*path, "--help-all"]) == 0
        helps[path] = capsys.readouterr().out
    for flag in flags:
        assert flag in ("--help", "--help-all") or re.search(rf"  {flag}\b", helps[path]), (place, command)
    recipe = words[0] if name == "train" and words else None
    assert recipe in (None, "RECIPE", "--help", *resnet_keras.RECIPES), (place, command)


def test_commands_and_their_flags_exist(capsys: pytest.CaptureFixture[str]) -> None:
    helps: dict[tuple[str, ...], str] = {}
    for page in PAGES:
        for command in sorted(commands(page)):
            check(command, page.name, helps, capsys)


def test_blocks_of_a_shell_are_shell() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.language in SHELLS and block.language != "console":
                done = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, check=False)
                assert done.returncode == 0, (name_of(page), block.line, done.stderr)


def test_the_commands_of_the_demo_exist(capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("make"):
        pytest.skip("there is no make")
    done = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^\S*/(resnet .*)$", done.stdout, re.MULTILINE)
    photo = ["predict"] if "resnet20_cifar10" in resnet_keras.list_pretrained() else []
    assert [command.split()[1] for command in found] == ["train", "evaluate", "export", "predict", *photo]
    assert all((ROOT / word).is_file() for command in found for word in command.split() if word.startswith("examples/"))
    helps: dict[tuple[str, ...], str] = {}
    for command in found:
        check(command, "Makefile", helps, capsys)


def test_names_in_code_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"\bresnet_keras((?:\.[A-Za-z_]\w*)+)", page.read_text(encoding="utf-8")):
            value = resnet_keras
            for name in path[1:].split("."):
                if isinstance(value, dict):
                    break
                value = getattr(value, name)


def test_messages_in_troubleshooting_are_those_of_the_package() -> None:
    rows = re.findall(r"^\| `+(.*?)`+ \|", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    source = "".join(path.read_text("utf-8") for path in (ROOT / "resnet_keras").rglob("*.py"))
    assert len(rows) > 10
    assert not [row for row in rows if row not in source]


def test_presets_of_peers_exist() -> None:
    text = (ROOT / "docs" / "migration.md").read_text("utf-8")
    for name, place, pattern in (
        ("keras_cv", "models/backbones/resnet_v*/*presets.py", r"`(resnet[^`]*)`"),
        ("keras_hub", "models/resnet/resnet_presets.py", r"`(resnet_[^`]*)`"),
    ):
        pytest.importorskip(name)
        folder = Path(str(importlib.util.find_spec(name).origin)).parent / "src"  # type: ignore[union-attr]
        presets = "".join(path.read_text("utf-8") for path in folder.glob(place))
        rows = [line for line in text.splitlines() if line.startswith("| presets")]
        named = [each for row in rows for each in re.findall(pattern, row.split("|")[1])]
        mine = [each for each in named if ("_imagenet" in each) == (name == "keras_hub")]
        assert mine
        assert not [preset for preset in mine if f'"{preset}"' not in presets]


def run_blocks(page: Path, chosen: list[Block]) -> None:
    """Runs blocks of a page in order, in one namespace; an error is reported at its line of the page."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in chosen:
        code = "\n" * (block.line - 1) + block.code
        exec(compile(code, str(page), "exec"), namespace)


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python" and not block.mark.startswith("skip")]


@pytest.fixture
def reader(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as home and working folder of a reader who follows a page."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_run(folder: Path, chosen: list[Block], request: pytest.FixtureRequest) -> None:
    """Gives a reader the run and the export of the demo if the code reads them."""
    if any("runs/digits_resnet20" in block.code for block in chosen):
        shutil.copytree(request.getfixturevalue("digits_run"), folder / "runs" / "digits_resnet20")
    if any("saved_models/digits_resnet20" in block.code for block in chosen):
        shutil.copytree(request.getfixturevalue("digits_export"), folder / "saved_models" / "digits_resnet20" / "1")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", [page for page in PAGES if any(not b.mark for b in python_blocks(page))], ids=name_of)
def test_quick_python_blocks_run(page: Path, reader: Path, request: pytest.FixtureRequest) -> None:
    chosen = [block for block in python_blocks(page) if not block.mark]
    with_run(reader, chosen, request)
    run_blocks(page, chosen)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.mark for b in python_blocks(page))], ids=name_of)
def test_all_python_blocks_run(page: Path, reader: Path, request: pytest.FixtureRequest) -> None:
    data = os.environ.get("RESNET_KERAS_TEST_DATA")
    chosen = [block for block in python_blocks(page) if data or block.mark != "needs DATA"]
    if data:
        (reader / "tensorflow_datasets").symlink_to(Path(data) / "tensorflow_datasets")
    with_run(reader, chosen, request)
    run_blocks(page, chosen)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without warnings."""
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_public_name(site: Path) -> None:
    places = {anchor for page in REFERENCE for anchor in anchors(page) if anchor.startswith("resnet_keras.")}
    found = {name for page in site.glob("api/*.html") for name in re.findall(r'id="([^"]+)"', page.read_text("utf-8"))}
    assert not places - found


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(r'(?:src|srcset)="(?:https?:)?//[^"]*"', text), page.name
        assert not re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|preload)"[^>]+href="(?:https?:)?//', text), (
            page.name
        )
        assert 'data-md-component="source"' not in text, page.name
