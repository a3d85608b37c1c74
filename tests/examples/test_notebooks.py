"""The notebooks: they run from beginning to end, and what they store is small and of no machine."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

import resnet_keras

ROOT = Path(resnet_keras.__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
MOST_BYTES = 200_000


def read(path: Path) -> Any:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_there_are_two_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["export_litert_compare", "predict_explain_finetune"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_small_and_of_no_machine(path: Path) -> None:
    notebook = read(path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run from beginning to end"
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"/(?:root|home|Users|tmp|work)/", text)
    assert len(text) <= MOST_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = read(path)
    stored = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    again = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]

    def pictures(outputs: list[Any]) -> int:
        return sum("image/png" in output.get("data", {}) for output in outputs)

    assert list(map(pictures, again)) == list(map(pictures, stored))
