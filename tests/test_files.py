"""A file or folder is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from resnet_keras import files

ROOT = Path(files.__file__).parents[1]


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


@pytest.mark.parametrize(("umask", "modes"), [(0o022, (0o755, 0o644)), (0o077, (0o700, 0o600))])
def test_new_folder_and_its_files_have_the_permissions_of_the_umask(
    tmp_path: Path, umask: int, modes: tuple[int, int]
) -> None:
    before = os.umask(umask)
    try:
        with files.new_folder(tmp_path / "model") as aside:
            (aside / "saved_model.pb").write_bytes(b"x")
        with files.new_version(tmp_path / "versions") as new:
            (new.aside / "saved_model.pb").write_bytes(b"x")
    finally:
        os.umask(before)
    for folder in (tmp_path / "model", tmp_path / "versions" / "1"):
        assert tuple(stat.S_IMODE(os.stat(path).st_mode) for path in (folder, folder / "saved_model.pb")) == modes


def test_new_versions_at_once_get_numbers_at_their_end(tmp_path: Path) -> None:
    with files.new_version(tmp_path) as one:
        (one.aside / "name").write_text("one")
        with files.new_version(tmp_path) as other:
            (other.aside / "name").write_text("other")
        assert other.path == tmp_path / "1"
    assert one.path == tmp_path / "2"
    assert [(path / "name").read_text() for path in (other.path, one.path)] == ["other", "one"]
    assert names(tmp_path) == ["1", "2"]


def test_new_version_of_a_number_that_another_process_has_taken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=r"Received: .*7"), files.new_version(tmp_path, 7) as new:
        (new.aside / "name").write_text("mine")
        (tmp_path / "7").mkdir()
        (tmp_path / "7" / "name").write_text("other")
    assert (tmp_path / "7" / "name").read_text() == "other"
    with pytest.raises(FileExistsError), files.new_version(tmp_path, 7):
        pytest.fail("it was entered")
    assert names(tmp_path) == ["7"]


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = (
        "import os, sys\n"
        "from resnet_keras import files\n"
        "with files.new_version(sys.argv[1]), files.scratch_folder() as scratch:\n"
        "    (scratch / 'images.npy').write_bytes(b'x')\n"
        "    os._exit(9)\n"
    )
    scratch, versions = tmp_path / "scratch", tmp_path / "versions"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    assert subprocess.run([sys.executable, "-c", child, str(versions)], env=environment, check=False).returncode == 9
    assert len(names(scratch)) == len(names(versions)) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with files.new_version(versions) as mine, files.scratch_folder() as folder:
        assert names(scratch) == [folder.name]
        assert names(versions) == [mine.aside.parent.name]
        with files.new_version(versions), files.scratch_folder():
            assert len(names(scratch)) == len(names(versions)) == 2
        assert folder.is_dir()
    assert names(scratch) == []
    assert names(versions) == ["1", "2"]


def test_without_locks_only_what_is_older_than_a_day_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    old, new = tmp_path / ".aside-old", tmp_path / ".aside-new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    files.write_text(tmp_path / "note.txt", "")
    assert names(tmp_path) == [".aside-new", "note.txt"]


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


def test_json_inside_itself_is_an_error_of_the_file(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(ValueError, match="too many lists or objects inside each other"):
            files.parse_json(text)
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match="a.json. Received: JSON of too many"):
            files.read_json(tmp_path / "a.json")


def test_json_of_files_is_parsed_in_one_place() -> None:
    """Python's own parser raises a RecursionError, which is no error of the input to a program."""
    parser = re.compile(r"json\.load\(|json\.loads\([^()]*(\(.*\))?\.?read")
    assert parser.search('json.loads((folder / "x").read_text())')
    modules = (ROOT / "resnet_keras").rglob("*.py")
    assert [path.name for path in modules if parser.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "..a", "x" * 250, "ä" * 125])
def test_names_inside_a_folder_are_plain(name: str) -> None:
    assert files.is_plain_name(name)


@pytest.mark.parametrize(
    "name", ["", "/a", "..", "../a", "a/../../b", "a\0", "a\nb", "\x1b[31m", "x" * 251, "ä" * 126, "a/" * 2048 + "a"]
)
def test_other_names_are_not(name: str) -> None:
    assert not files.is_plain_name(name)


_WRITER = """
import hashlib, json, random, sys
from resnet_keras import files

rng = random.Random(int(sys.argv[2]))
while True:
    with files.new_version(sys.argv[1]) as new:
        hashes = {}
        for name in map(str, range(8)):
            content = rng.randbytes(rng.randrange(200_000))
            (new.aside / name).write_bytes(content)
            hashes[name] = hashlib.sha256(content).hexdigest()
        files.write_json(new.aside / "hashes.json", hashes)
    print(new.path, flush=True)
"""


@pytest.mark.slow
def test_no_version_is_ever_visible_half_written_whenever_writers_are_killed(tmp_path: Path) -> None:
    rng, home, seen = random.Random(16), tmp_path / "home", set[str]()
    home.mkdir()

    def look() -> None:
        for version in sorted(
            (path for path in home.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
        )[-3:]:
            hashes = json.loads((version / "hashes.json").read_text())
            found = {name: hashlib.sha256((version / name).read_bytes()).hexdigest() for name in hashes}
            assert found == hashes
            assert len(hashes) == 8
            seen.add(version.name)

    for seed in range(21):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(home), str(seed)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert writer.stdout
        assert writer.stdout.readline()  # it has written one
        end = time.monotonic() + rng.uniform(0, 0.2)
        while time.monotonic() < end:
            look()
        writer.kill()
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        look()
    with files.new_version(home) as new:
        (new.aside / "a").write_text("a")
    assert len(seen) > 21
    assert all(name.isdigit() for name in names(home))  # and what the killed ones left is swept
