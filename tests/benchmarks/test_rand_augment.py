"""The RandAugment benchmark: it runs beside keras-cv and writes a page."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_the_page_has_a_ratio_for_each_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keras_cv", reason="keras-cv is not installed")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("rand_augment")
    monkeypatch.setattr(benchmark, "IMAGES", {8: benchmark.BATCH})
    rows = [line for line in benchmark.report(turns=1).splitlines() if line.startswith("| 8x8 ")]
    assert len(rows) == 3
    assert [row.endswith("x |") for row in rows] == [False, True, True]
