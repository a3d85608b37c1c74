"""The program `resnet`: its help, its errors, its exit statuses, and where its progress lines go."""

import importlib
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro
from helpers.tables import unpadded

from resnet_keras.checks.extras import MissingExtra
from resnet_keras.cli import program
from resnet_keras.cli.flags import flags_of

ROOT = Path(__file__).parents[2]
MOST_LINES = 42
"""Lines of a command's short help on a terminal of 80 columns."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of the picture."""

    sharpness: Literal["low", "high"] = "low"
    """How sharp it is."""
    layers: tuple[int, ...] = (1, 2)
    """Layers to draw."""


def draw(
    picture: tyro.conf.Positional[str],
    *,
    to: Path,
    quality: tyro.conf.OmitArgPrefixes[Quality] = Quality(),
    frame: bool = False,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = True,
) -> int:
    """Draws a picture.

    Args:
        picture: What to draw.
        to: File to write.
        quality: How well.
        frame: Draw a frame.
        json_output: Print JSON.
    """
    logging.getLogger("resnet_keras.data.splits").info("drawing %s", picture)
    print(to, quality.sharpness, quality.layers, frame, json_output)
    return 7


def test_flags_are_read_from_a_signature() -> None:
    found = {flag.name: (flag.value, flag.choices, flag.default, flag.text) for flag in flags_of(draw)}
    assert found["--sharpness"] == ("{low,high}", ("low", "high"), "low", "How sharp it is.")
    assert found["--layers"] == ("N ...", (), (1, 2), "Layers to draw.")
    assert found["--frame"] == ("", (), False, "Draw a frame.")
    assert list(found) == ["PICTURE", "--to", "--sharpness", "--layers", "--frame", "--json"]
    assert {flag.section for flag in flags_of(draw)} == {"Flags", "Quality of the picture"}


def test_the_short_help_has_sections_and_the_long_one_all_flags(capsys: pytest.CaptureFixture[str]) -> None:
    sections = {"Output": ("to", "json")}
    assert program.run(draw, "resnet draw", ["--help"], sections=sections) == 0
    short = capsys.readouterr().out
    assert short.startswith("usage: resnet draw PICTURE [flags]\n\nDraws a picture.\n")
    assert "Output:\n  --to PATH               File to write. (required)\n  --json " in short
    assert "(on; --no-json)" in short
    assert "3 more flags: resnet draw --help-all" in short
    assert "--sharpness" not in short
    assert program.run(draw, "resnet draw", ["--help-all"], sections=sections) == 0
    long = capsys.readouterr().out
    assert "Quality of the picture:\n  --sharpness {low,high}  How sharp it is. (default: low)" in long
    assert "(default: 1 2)" in long
    assert "more flags" not in long


def test_a_command_gets_its_arguments_and_returns_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(draw, "resnet draw", ["cat", "--to", "x.png", "--layers", "5", "--frame", "--no-json"]) == 7
    said = capsys.readouterr()
    assert said.out == "x.png low (5,) True False\n"
    assert said.err == "drawing cat\n"


def test_progress_goes_to_the_stream_of_the_command_and_the_handler_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("resnet_keras")
    before = (list(logger.handlers), logger.level, logger.propagate)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(sys.stdout)])  # as a library may do
    assert program.run(draw, "resnet draw", ["cat", "--to", "x.png"], progress="stdout") == 7
    said = capsys.readouterr()
    assert said.out == "drawing cat\nx.png low (1, 2) False True\n"
    assert said.err == ""
    assert (logger.handlers, logger.level, logger.propagate) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["draw"], "Expected a command, one of train, evaluate,"),
        (["trian"], "Received: trian. Did you mean train?"),
        (["evaluate", "run", "--crop", "ten"], "Received: --crop. Did you mean --crops?"),
        (["evaluate", "run", "--crops", "tne"], "one of center, ten, full. Received: tne. Did you mean ten?"),
        (["evaluate", "run", "--crops=tenn"], "Received: tenn. Did you mean ten?"),
        (["reproduce", "degredation"], "Did you mean degradation?"),
        (["workers", "two"], "Expected a number of workers. Received: two."),
    ],
)
def test_a_mistake_names_the_nearest_and_ends_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "resnet draw: interrupted\n"),
        (ValueError("Expected a cat. Received: a dog"), 2, "resnet draw: Expected a cat. Received: a dog\n"),
        (MissingExtra("pip install 'resnet_keras[export]'"), 2, "resnet draw: pip install 'resnet_keras[export]'\n"),
        (ConnectionError("worker 1 is lost"), 3, "resnet draw: worker 1 is lost\n"),
        (program.Preempted("the run is saved"), 4, "resnet draw: the run is saved\n"),
        (OSError(28, "disk full"), 2, "resnet draw: disk full\n"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        """Fails."""
        raise error

    assert program.run(failing, "resnet draw", []) == status
    assert capsys.readouterr().err == said


def test_errors_name_flags_and_not_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    def draw_wide(*, line_width: int = 0) -> None:
        """Draws."""
        raise ValueError(f"Expected `line_width` of at least 1 for `canvas`. Received: {line_width}")

    assert program.run(draw_wide, "resnet draw", ["--line-width", "0"]) == 2
    expected = "resnet draw: Expected --line-width of at least 1 for `canvas`. Received: 0\n"
    assert capsys.readouterr().err == expected


def test_a_closed_pipe_ends_quietly() -> None:
    code = "from resnet_keras.cli.program import main; import sys; sys.exit(main(['recipes']))"
    command = f'"{sys.executable}" -c "{code}" | head -1; echo status ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr == ""
    assert unpadded(done.stdout).splitlines()[0].startswith("| recipe |")
    assert done.stdout.splitlines()[1] in ("status 141", "status 0")


def test_help_fits_a_screen_and_loads_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code = (
        "import sys; from resnet_keras.cli.program import COMMANDS, main\n"
        "heavy = ('numpy', 'keras', 'tensorflow', 'matplotlib')\n"
        "def check(*names): assert not set(names) & set(sys.modules), set(names) & set(sys.modules)\n"
        "assert main(['--help']) == 0; check('tyro', *heavy)\n"
        "for name in COMMANDS:\n"
        "    print(f'== {name}')\n"
        "    assert main([name, '--help']) == 0\n"
        "    check(*heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.split("== ")
    assert len(first.splitlines()) <= 24
    assert max(map(len, first.splitlines())) <= 80
    for name in program.COMMANDS:
        assert f"  {name} " in first
    assert first.split("Examples:")[1].count("resnet ") == 2
    too_long = {text.split()[0]: len(text.splitlines()) for text in others if len(text.splitlines()) > MOST_LINES}
    assert not too_long
    assert len(others) == len(program.COMMANDS)


def test_the_program_is_found_by_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("resnet_keras ")
    assert program.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: resnet COMMAND")
    for command in (["-m", "resnet_keras.cli"], ["train.py"], ["export.py"]):
        done = subprocess.run(
            [sys.executable, *command, "--help"], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 0
        name = {"train.py": "resnet train", "export.py": "resnet export"}.get(command[-1], "resnet COMMAND")
        assert f"usage: {name}" in done.stdout
    for name in program.COMMANDS:
        assert callable(importlib.import_module(f"resnet_keras.cli.{name}").main)
