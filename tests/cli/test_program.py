"""The program `resnet`: its help, its errors, its exit statuses, and where its progress lines go."""

import importlib.util
import logging
import os
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
        (["train", "cifar11"], "Received: cifar11. Did you mean cifar10"),
        (["train", "ResNet50"], "Received: ResNet50. That is a network: resnet train imagenet --model resnet50"),
        (["train", "resnet-56"], "That is a network: resnet train cifar10 --model resnet56"),
        (["train", "--model", "resnet20"], "Name one before the flags: resnet train cifar10 --model ..."),
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


def sketch(
    pictures: tyro.conf.Positional[tuple[Path, ...]],
    *,
    to: Path,
    lines: int = 3,
    width: float | None = None,
    layers: tuple[int, ...] = (),
    origin: tuple[float, float] | None = None,
    pen: Literal["fine", "broad"] | None = None,
    border: bool | None = None,
    frame: bool = False,
) -> None:
    """Sketches pictures."""
    print(pictures, to, lines, width, layers, origin, pen, border, frame)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--to x --lines x", "Expected --lines to be an integer. Received: x"),
        ("--to x --lines 1.5", "Expected --lines to be an integer. Received: 1.5"),
        ("--to x --lines=", "Expected --lines to be an integer. Received: no value"),
        ("--to x --lines", "Expected --lines to be an integer. Received: no value"),
        ("--to x --lines --frame", "Expected --lines to be an integer. Received: no value"),
        ("--to x --lines None", "Expected --lines to be an integer. Received: None"),
        ("--to x --width wide", "Expected --width to be a number or None. Received: wide"),
        ("--to x --layers 1 two 3", "Expected --layers to be integers. Received: two"),
        ("--to x --layers 1 a.png", "Expected --layers to be integers. Received: a.png"),
        ("--to x --origin 1", "Expected --origin to be 2 numbers or None. Received: 1"),
        ("--to x --origin 1 b", "Expected --origin to be 2 numbers or None. Received: 1 b"),
        ("--to x --pen brod", "Expected --pen to be one of fine, broad or None. Received: brod. Did you mean broad?"),
        ("--to x --border", "Expected --border to be True or False or None. Received: no value"),
        ("--to x --frame=yes", "Expected --frame without a value. Received: yes"),
        ("--to x --no-frame=yes", "Expected --frame without a value. Received: yes"),
        ("--to", "Expected --to to be a path. Received: no value"),
        ("a.png", "Expected --to PATH. Received: no --to. See --help."),
        ("--to x --line 3", "Expected a flag of this command. Received: --line. Did you mean --lines? See --help-all."),
        ("--to x -l 3", "Expected a flag of this command. Received: -l. See --help-all."),
    ],
)
def test_a_flag_that_does_not_parse_is_one_line(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(sketch, "resnet sketch", arguments.split()) == 2
    assert capsys.readouterr().err == f"resnet sketch: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("a.png b.png --to x", "(PosixPath('a.png'), PosixPath('b.png')) x 3 None () None None None False"),
        ("--to x --lines -1 --width None --layers", "() x -1 None () None None None False"),
        ("--to=x --width nan --layers 1 2 --origin -1 .5", "() x 3 nan (1, 2) (-1.0, 0.5) None None False"),
        ("--to x --pen None --border True --frame", "() x 3 None () None None True True"),
        ("--layers 1 --to x -- a.png", "(PosixPath('a.png'),) x 3 None (1,) None None None False"),
    ],
)
def test_a_flag_takes_every_value_of_its_type(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(sketch, "resnet sketch", arguments.split()) == 0
    assert capsys.readouterr().out == f"{said}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train digits --epochs x", "resnet train: Expected --epochs to be an integer. Received: x"),
        ("train digits --peak-lr fast", "resnet train: Expected --peak-lr to be a number. Received: fast"),
        ("train digits --epochs 3 4", "resnet train: Expected flags of this command. Received: 4. See --help."),
        ("train digits --no-download=1", "resnet train: Expected --download without a value. Received: 1"),
        ("evaluate run --scales 224 big", "resnet evaluate: Expected --scales to be integers. Received: big"),
        ("convert net.pth", "resnet convert: Expected --to PATH. Received: no --to. See --help."),
        ("convert --to net.keras", "resnet convert: Expected SOURCE. Received: none. See --help."),
        ("convert net.pth --to a --mean 1 x 3", "resnet convert: Expected --mean to be numbers or None. Received: x"),
        ("predict run a.png --top-k many", "resnet predict: Expected --top-k to be an integer. Received: many"),
        ("bench input digits --seconds x", "resnet bench: Expected --seconds to be a number. Received: x"),
        (
            "bench scaling resnet50 --images-per-second 0",
            "resnet bench: Expected --images-per-second to be above 0. Received: 0.0",
        ),
        ("bench export x --threads a", "resnet bench: Expected --threads to be integers or None. Received: a"),
        ("runs r --csv", "resnet runs: Expected --csv to be a path or None. Received: no value"),
        (
            "reproduce table1 --budget",
            "resnet reproduce: Expected --budget to be one of smoke, small, full. Received: ",
        ),
        ("recalibrate run --images x", "resnet recalibrate: Expected --images to be an integer"),
    ],
)
def test_each_command_reports_a_bad_value_in_one_line(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(arguments.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_what_the_checks_do_not_know_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_keras.cli.flags.check", lambda arguments, flags: None)
    assert program.run(sketch, "resnet sketch", ["--to", "x", "--lines", "x"]) == 2
    said = capsys.readouterr()
    assert said.err == "resnet sketch: Expected arguments as in resnet sketch --help. Received: --to x --lines x\n"
    assert said.out == ""


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
    for words in (["--version"], ["-V"], ["version"], ["train", "--version"]):
        assert program.main(words) == 0
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


def test_packages_that_keras_imports_on_the_side_are_hidden_from_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    with program._without_side_doors(), pytest.raises(ImportError):
        importlib.import_module("sklearn")
    assert "sklearn" not in sys.modules
    assert importlib.util.find_spec("sklearn") is not None


@pytest.mark.parametrize(
    ("left_off", "asked", "expected"), [(True, None, "1"), (True, "0", "0"), (False, None, None), (False, "0", "0")]
)
def test_onednn_is_turned_on_where_tensorflow_would_not_unless_somebody_decides(
    monkeypatch: pytest.MonkeyPatch, left_off: bool, asked: str | None, expected: str | None
) -> None:
    monkeypatch.setattr(program, "leaves_onednn_off", lambda: left_off)
    monkeypatch.setattr(program, "_import_tensorflow", lambda: None)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)  # it is as if nothing had imported it
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", asked or "")
    if asked is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    program.start_tensorflow(single_images=True)
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == asked
    program.start_tensorflow()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected
