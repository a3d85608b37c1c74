"""Plots: what lines they draw."""

from pathlib import Path

import numpy as np
from helpers.reproduced import THREE_SEEDS, three_seeds
from matplotlib.axes import Axes

from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.reproduction.outcomes import outcomes
from resnet_keras.reproduction.plots import error_curves, response_curves


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_curves_are_means_over_seeds_at_the_steps_of_the_paper_s_axis(tmp_path: Path) -> None:
    figure = error_curves(outcomes(three_seeds(tmp_path), THREE_SEEDS, "smoke"))
    assert figure is not None
    test, training = figure.axes  # no residual network is there, and no panel for them
    assert [axes.get_title() for axes in figure.axes] == ["plain networks"] * 2
    assert [axes.get_ylabel() for axes in figure.axes] == ["test error, %", "training error, %"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["step"] * 2
    assert legend(test) == legend(training) == ["plain-20", "plain-56"]
    # 256 images in batches of 32: 8 steps an epoch. Validation runs after the last one alone.
    np.testing.assert_allclose(training.lines[0].get_xydata(), [[8 * (i + 1), 50 - 5 * i] for i in range(6)])
    np.testing.assert_allclose(test.lines[0].get_xydata(), [[48, 75]])
    assert test.get_ylim() == training.get_ylim()
    assert error_curves(outcomes(ReproductionFolder(tmp_path / "empty"), THREE_SEEDS, "smoke")) is None


def test_bars_of_networks_do_not_cover_each_other(tmp_path: Path) -> None:
    figure = error_curves(outcomes(three_seeds(tmp_path), THREE_SEEDS, "smoke"))
    assert figure is not None
    first, second = ([bar[0][0] for bar in bars.lines[2][0].get_segments()] for bars in figure.axes[1].containers)
    np.testing.assert_allclose(np.add(first, second) / 2, [8, 16, 24, 32, 40, 48])
    assert (np.subtract(second, first) > 0).all()
    assert np.subtract(second, first).max() < 8 / 2


def test_responses_are_drawn_in_order_and_sorted_means_over_runs() -> None:
    runs = [{"a": 1.0, "b": 3.0, "c": 2.0}, {"a": 2.0, "b": 5.0, "c": 2.0}]
    measured = {
        "networks": [
            {"name": "plain-20", "panel": "plain networks", "deviations": runs},
            {"name": "ResNet-20", "panel": "residual networks", "deviations": runs[:1]},
        ]
    }
    plain, residual, plain_sorted, residual_sorted = response_curves(measured).axes
    np.testing.assert_allclose(plain.lines[0].get_xydata(), [[1, 1.5], [2, 4], [3, 2]])
    np.testing.assert_allclose(plain_sorted.lines[0].get_xydata(), [[1, 4], [2, 2], [3, 1.5]])
    assert (legend(plain), legend(residual)) == (["plain-20"], ["ResNet-20"])
    assert plain.get_title() == "plain networks, in the order of the layers"
    assert residual_sorted.get_title() == "residual networks, by magnitude"
    assert (plain.get_xlabel(), plain_sorted.get_xlabel()) == ("layer", "rank of the layer")
    assert plain.get_ylabel() == "standard deviation of the response"
    assert plain.get_yscale() == "log"
    assert plain.get_ylim() != residual.get_ylim()  # beside a strong response, the others would be one line


def test_networks_of_a_panel_differ_in_color_and_marker() -> None:
    names = [f"network {i}" for i in range(6)]
    deviations = [{f"layer{i}": 1.0 for i in range(40)}]
    measured = {"networks": [{"name": name, "panel": "given", "deviations": deviations} for name in names]}
    axes, _ = response_curves(measured).axes
    assert len({line.get_color() for line in axes.lines}) == len({line.get_marker() for line in axes.lines}) == 6
    assert {line.get_markevery() for line in axes.lines} == {4}  # of 40 layers, 10 have a marker
