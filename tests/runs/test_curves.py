"""Curves of runs: axes, titles, limits and legends."""

from typing import Any

import numpy as np
import pytest

from resnet_keras.runs.curves import draw_curves


def history(*errors: float, validated: bool = True) -> list[dict[str, float]]:
    """Returns a history of these test errors in percent; the training error is twice as large, the loss a tenth."""
    rows = [{"epoch": i, "accuracy": 1 - error / 50, "loss": error / 10} for i, error in enumerate(errors, start=1)]
    if validated:
        rows = [
            {**row, "val_accuracy": 1 - error / 100, "val_loss": 0.5} for row, error in zip(rows, errors, strict=True)
        ]
    return rows


def legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_errors_in_percent_and_losses_are_drawn_over_whole_epochs() -> None:
    figure = draw_curves([history(40.0, 20.0, 8.0)], "fast, resnet20")
    assert figure.get_suptitle() == "fast, resnet20"
    errors, losses = figure.axes
    assert (errors.get_xlabel(), errors.get_ylabel()) == ("epoch", "error, %")
    assert (losses.get_xlabel(), losses.get_ylabel()) == ("epoch", "loss, nats")
    assert legend(errors) == legend(losses) == ["training", "test"]
    assert legend(draw_curves([history(40.0)], "", "validation").axes[0]) == ["training", "validation"]
    training, test = errors.lines
    np.testing.assert_allclose(training.get_xydata(), [[1, 80], [2, 40], [3, 16]])
    assert test.get_xydata()[:, 1] == pytest.approx([40, 20, 8])
    figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in errors.get_xticks())
    assert errors.get_xlim() == (0, 3)


def test_a_long_title_takes_several_lines_within_the_figure() -> None:
    title = "cifar10_fast resnet20, train_sizes=(24, 32), teacher=resnet32_cifar10, teacher_share=0.5, epochs=56, " * 2
    figure = draw_curves([history(40.0, 20.0)], title.strip())
    assert " ".join(figure.get_suptitle().split()) == title.strip()
    figure.draw_without_rendering()
    (text,) = figure.texts
    box, page = text.get_window_extent(), figure.bbox
    assert page.x0 < box.x0 < box.x1 < page.x1
    assert page.y0 < box.y0 < box.y1 < page.y1
    assert box.y0 > max(axes.get_window_extent().y1 for axes in figure.axes)


@pytest.mark.parametrize(
    ("errors", "limits", "ticks"),
    [
        ((40.0, 8.0), (5, 100), ["5", "10", "20", "50", "100"]),
        ((45.0, 0.5), (0.5, 100), ["0.5", "1", "2", "5", "10", "20", "50", "100"]),
        ((45.0, 0.0), (10, 100), ["0", "20", "50", "100"]),  # a zero lies at the lower end
        (
            (0.5, 0.3),
            (0.2, 1),
            ["0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"],
        ),  # too near each other for powers of ten
    ],
)
def test_the_end_of_the_error_can_be_read(
    errors: tuple[float, ...], limits: tuple[float, float], ticks: list[str]
) -> None:
    figure = draw_curves([history(*errors)], "")
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim() == pytest.approx(limits)
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_yticklabels()] == ticks


def test_seeds_share_a_legend_and_a_run_without_validation_has_one_line() -> None:
    errors, _ = draw_curves([history(50.0, 9.0), history(50.0, 10.0)], "two seeds").axes
    assert [line.get_ydata()[-1] for line in errors.lines] == pytest.approx([18, 20, 9, 10])
    assert legend(errors) == ["training", "test"]
    errors, _ = draw_curves([history(50.0, 9.0, validated=False)], "").axes
    assert legend(errors) == ["training"]


def test_a_single_epoch_is_a_point_and_no_epoch_an_empty_figure() -> None:
    errors, _ = draw_curves([history(40.0)], "").axes
    assert errors.lines[1].get_marker() == "o"
    errors, _ = draw_curves([[]], "").axes
    assert not errors.lines
    assert errors.get_legend() is None
