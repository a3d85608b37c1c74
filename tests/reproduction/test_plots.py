"""Plots: what lines they draw."""

from pathlib import Path

import numpy as np
from helpers.reproduced import THREE_SEEDS, three_seeds

from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.reproduction.outcomes import outcomes
from resnet_keras.reproduction.plots import error_curves, response_curves


def test_curves_are_means_over_seeds_at_the_steps_of_the_paper_s_axis(tmp_path: Path) -> None:
    figure = error_curves(outcomes(three_seeds(tmp_path), THREE_SEEDS, "smoke"))
    assert figure is not None
    (axes,) = figure.axes  # no residual network is there, and no panel for them
    assert axes.get_title() == "plain networks"
    training, test = axes.lines[:2]
    # 256 images in batches of 32: 8 steps an epoch. Validation runs after the last one alone.
    np.testing.assert_allclose(training.get_xydata(), [[8 * (i + 1), 50 - 5 * i] for i in range(6)])
    np.testing.assert_allclose(test.get_xydata(), [[48, 75]])
    assert error_curves(outcomes(ReproductionFolder(tmp_path / "empty"), THREE_SEEDS, "smoke")) is None


def test_responses_are_drawn_in_order_and_sorted_means_over_runs() -> None:
    runs = [{"a": 1.0, "b": 3.0, "c": 2.0}, {"a": 2.0, "b": 5.0, "c": 2.0}]
    measured = {"networks": [{"name": "plain-20", "panel": "", "deviations": runs}]}
    above, below = response_curves(measured).axes
    np.testing.assert_allclose(above.lines[0].get_xydata(), [[1, 1.5], [2, 4], [3, 2]])
    np.testing.assert_allclose(below.lines[0].get_xydata(), [[1, 4], [2, 2], [3, 1.5]])
