"""examples/ode: the networks that are compared, a short run, and the sweep over the solvers of a trained block."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest
from helpers.tables import unpadded

EXAMPLE = Path(__file__).parents[2] / "examples" / "ode" / "compare.py"


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ode_compare", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their types up
    spec.loader.exec_module(module)
    return module


compare = example()


@pytest.mark.parametrize("name", [compare.RESIDUAL, compare.OWN_WEIGHTS, *compare.BLOCKS])
def test_every_network_has_the_weights_of_its_last_stage(name: str) -> None:
    model = compare.network(name, (8, 64), (8, 8, 1))
    before = 9 * 8 + 2 * 9 * 8**2 + 9 * (8 * 64 + 64**2) + 8 * 64  # stem, two blocks and a projection
    batch_norms = 4 * (3 * 8 + 3 * 64)
    head = 64 * 10 + 10
    residual = 2 * 9 * 64**2 + 2 * 4 * 64
    derivative = 2 * (9 * 65 * 64 + 64) + 3 * 2 * 64
    last = {compare.RESIDUAL: 6 * residual, compare.OWN_WEIGHTS: 6 * derivative + 2 * 64}
    assert model.count_params() == before + batch_norms + head + last.get(name, derivative + 2 * 64)
    assert model.output_shape == (None, 10)


@pytest.mark.slow
def test_a_short_run_says_what_it_came_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compare.WIDTHS, "digits", (8, 32))
    run, model, _ = compare.train("euler", "digits", 3, epochs=1, train_images=96)
    assert (run.network, run.seed, run.forward, run.backward) == ("euler", 3, 6, 0)
    assert run.parameters == model.count_params()
    assert 0 < run.test_error < 1
    other = compare.Run("euler", 4, run.parameters, run.test_error + 0.02, 1.0, 6.0, 0.0)
    (line,) = unpadded(compare.table([run, other])).splitlines()[2:]
    assert line.startswith(f"| euler | {run.parameters:,} | {100 * run.test_error + 1:.2f} ± 1.41 | 6.0 | – |")


@pytest.mark.slow
def test_the_sweep_compares_solvers_with_the_exact_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(0)
    settings = [{"solver": "rk4", "steps": 1}, {"solver": "rk4", "steps": 8}, {"solver": "dopri5", "rtol": 0.01}]
    monkeypatch.setattr(compare, "SWEEP", tuple(settings))
    monkeypatch.setattr(compare, "REFERENCE", {"solver": "rk4", "steps": 32, "dtype": "float64"})
    monkeypatch.setitem(compare.BLOCKS, "small", {"solver": "euler", "steps": 1})
    model = compare.network("small", (8, 32), (8, 8, 1))
    rows = compare.sweep(model, np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32"))
    assert [row["evaluations"] for row in rows[:2]] == [4, 32]
    assert rows[0]["error"] > 3 * rows[1]["error"] > 0
    lines = unpadded(compare.sweep_table(rows)).splitlines()
    assert lines[2].startswith("| rk4, 1 steps | 4 | ")
    assert lines[4].startswith("| dopri5, tolerance 1e-02 | ")
