"""A file or folder is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_keras import files


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_new_file_appears_with_its_content_and_no_leftovers(tmp_path: Path) -> None:
    with files.new_file(tmp_path / "a" / "b" / "net.weights.h5") as aside:
        aside.write_bytes(b"new")
    assert (tmp_path / "a" / "b" / "net.weights.h5").read_bytes() == b"new"
    assert names(tmp_path / "a" / "b") == ["net.weights.h5"]


def test_new_file_keeps_every_suffix_since_keras_chooses_the_format_by_it(tmp_path: Path) -> None:
    with files.new_file(tmp_path / "net.weights.h5") as aside:
        assert aside.name.endswith(".weights.h5")
        aside.write_bytes(b"")


def test_old_file_is_complete_until_the_new_one_is(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text("old")
    with files.new_file(path) as aside:
        aside.write_text("half")
        assert path.read_text() == "old"
        assert aside != path
        aside.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["log.json"]


def test_reader_who_has_the_old_file_open_continues_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text("old")
    with path.open() as reader:
        files.write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failure_keeps_the_old_file_and_no_leftovers(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "log.json"
    path.write_text("old")
    with pytest.raises(error), files.new_file(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["log.json"]


def test_failure_creates_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.new_file(tmp_path / "log.json") as aside:
        aside.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_writing_nothing_raises_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.new_file(path):
        pass
    assert path.read_text() == "old"
    assert names(tmp_path) == ["log.json"]


def test_process_that_dies_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text("old")
    child = (
        "import os, sys\n"
        "from resnet_keras import files\n"
        "with files.new_file(sys.argv[1]) as aside:\n"
        "    aside.write_text('half')\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", child, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"


def test_new_file_has_the_permissions_of_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    files.write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_bare_name_is_written_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.write_text("note.txt", "here")
    assert (tmp_path / "note.txt").read_text() == "here"
    assert names(tmp_path) == ["note.txt"]


def test_new_folder_appears_with_all_that_was_put_in(tmp_path: Path) -> None:
    path = tmp_path / "exports" / "1"
    with files.new_folder(path) as aside:
        (aside / "variables").mkdir()
        (aside / "variables" / "data").write_bytes(b"x")
        (aside / "saved_model.pb").write_bytes(b"y")
        assert not path.exists()
    assert (path / "variables" / "data").read_bytes() == b"x"
    assert names(path) == ["saved_model.pb", "variables"]
    assert names(tmp_path / "exports") == ["1"]


def test_new_folder_can_be_read_by_other_users(tmp_path: Path) -> None:
    # A server often runs as another user than the one who exported.
    with files.new_folder(tmp_path / "model"):
        pass
    assert os.stat(tmp_path / "model").st_mode & 0o777 == 0o755


@pytest.mark.parametrize("there", ["file", "empty folder", "full folder"])
def test_new_folder_refuses_a_path_that_exists(tmp_path: Path, there: str) -> None:
    path = tmp_path / "model"
    if there == "file":
        path.write_text("old")
    else:
        path.mkdir()
        if there == "full folder":
            (path / "old").write_text("old")
    entered = False
    refused = pytest.raises(FileExistsError, match=r"Expected a folder that does not exist yet. Received: .*model")
    with refused, files.new_folder(path):
        entered = True
    assert not entered
    assert names(tmp_path) == ["model"]
    assert there != "full folder" or (path / "old").read_text() == "old"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_creates_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), files.new_folder(tmp_path / "model") as aside:
        (aside / "half").write_text("half")
        raise error
    assert names(tmp_path) == []


def test_json_reads_back_as_it_was(tmp_path: Path) -> None:
    content = {"error": 0.0875, "names": ["Hai", "Bär"], "none": None}
    files.write_json(tmp_path / "result.json", content)
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert text.endswith("}\n")


def test_content_that_json_cannot_hold_keeps_the_old_file(tmp_path: Path) -> None:
    files.write_json(tmp_path / "result.json", {"steps": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        files.write_json(tmp_path / "result.json", {"steps": object()})
    assert json.loads((tmp_path / "result.json").read_text()) == {"steps": 1}
    assert names(tmp_path) == ["result.json"]


def test_text_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    files.write_text(tmp_path / "note.txt", "Bär")
    assert (tmp_path / "note.txt").read_bytes() == "Bär".encode()
