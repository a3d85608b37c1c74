"""README and docs: their size, links, commands, and Python names."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import resnet_keras
from resnet_keras.cli.program import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
MOST_WORDS = 1200


def commands(text: str) -> set[str]:
    """Returns the commands of the program in indented blocks and in code spans."""
    spans = re.findall(r"`([^`]+)`", text)
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    found = (part.strip() for line in [*spans, *lines] for part in re.split(r" -- |  +#", " ".join(line.split("\n"))))
    return {" ".join(each.split()).removeprefix("$ ") for each in found if re.match(r"(\$ )?resnet [a-z]", each)}


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS
    first = text.splitlines()[:20]
    assert any(line.strip().startswith("make demo") for line in first)
    assert any(line.strip().startswith("make test") for line in first)
    for page in PAGES[2:]:
        assert page.name == "index.md" or f"docs/{page.name}" in text


def test_links_lead_to_files() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), (page.name, target)


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
        for command in commands(page.read_text(encoding="utf-8")):
            check(command, page.name, helps, capsys)


def test_the_commands_of_the_demo_exist(capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("make"):
        pytest.skip("there is no make")
    done = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^\S*/(resnet .*)$", done.stdout, re.MULTILINE)
    assert [command.split()[1] for command in found] == ["train", "evaluate", "export", "predict"]
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
