"""The learning rate at every boundary and one step to either side of it."""

import math

import keras
import pytest

from resnet_keras.recipes.catalog import RECIPES, Recipe
from resnet_keras.training.schedules import learning_rate_schedule

STEP = Recipe.from_flat(model="resnet20", dataset="cifar10", epochs=10, peak_lr=0.1, lr_drops=(0.25, 0.5, 0.75))
COSINE = STEP.replace(lr_schedule="cosine")
EPOCH = 100  # steps; 1000 in all


def rates(recipe: Recipe, steps_per_epoch: int, *steps: int) -> list[float]:
    schedule = learning_rate_schedule(recipe, steps_per_epoch)
    return [float(schedule(step)) for step in steps]


def half_cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


@pytest.mark.parametrize("warmup", [0, 40])
@pytest.mark.parametrize(("boundary", "before", "after"), [(250, 0.1, 0.01), (500, 0.01, 0.001), (750, 0.001, 0.0001)])
def test_the_rate_is_divided_by_10_from_the_step_of_each_drop_on(
    boundary: int, before: float, after: float, warmup: int
) -> None:
    recipe = STEP.replace(warmup_steps=warmup)
    found = rates(recipe, EPOCH, boundary - 1, boundary, boundary + 1)
    assert found == pytest.approx([before, after, after], rel=1e-6)


def test_each_drop_multiplies_by_the_factor() -> None:
    found = rates(RECIPES["cifar10_wide"], EPOCH, 0, 5_999, 6_000, 11_999, 12_000, 15_999, 16_000, 19_999)
    assert found == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008], rel=1e-6)


def test_without_a_warm_up_the_first_step_has_the_peak_and_the_last_the_lowest_rate() -> None:
    assert rates(STEP, EPOCH, 0, 1, 999) == pytest.approx([0.1, 0.1, 0.0001], rel=1e-6)


def test_the_warm_up_lasts_as_many_steps_as_the_recipe_says() -> None:
    recipe = STEP.replace(warmup_steps=40, warmup_lr=0.02)
    assert rates(recipe, EPOCH, 0, 1, 38, 39, 40, 41) == pytest.approx([0.02] * 4 + [0.1] * 2, rel=1e-6)


def test_a_warm_up_of_one_step_is_one_step() -> None:
    recipe = STEP.replace(warmup_steps=1, warmup_lr=0.02)
    assert rates(recipe, EPOCH, 0, 1, 2) == pytest.approx([0.02, 0.1, 0.1], rel=1e-6)


def test_resnet110_on_cifar_follows_section_4_2() -> None:
    found = rates(
        RECIPES["cifar10"].replace(model="resnet110"), 390, 0, 399, 400, 31_979, 31_980, 47_969, 47_970, 63_959
    )
    assert found == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rel=1e-6)


def test_resnet50_on_imagenet_starts_at_a_tenth_and_is_divided_three_times() -> None:
    found = rates(RECIPES["imagenet"], 5004, 0, 150_119, 150_120, 300_239, 300_240, 450_359, 450_360)
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001], rel=1e-6)


@pytest.mark.parametrize("warmup", [0, 5])
def test_a_step_schedule_without_drops_keeps_its_peak(warmup: int) -> None:
    recipe = STEP.replace(lr_drops=(), warmup_steps=warmup, warmup_lr=0.02)
    assert rates(recipe, EPOCH, 0, warmup, 999) == pytest.approx([0.02 if warmup else 0.1, 0.1, 0.1], rel=1e-6)


@pytest.mark.parametrize(
    ("epochs", "warmup", "expected"),
    [
        # 8 steps, drops at 2, 4 and 6; the warm-up outlasts none, one, two, all of them.
        (8, 1, [0.02, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]),
        (8, 2, [0.02, 0.02, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]),
        (8, 3, [0.02, 0.02, 0.02, 0.01, 0.001, 0.001, 0.0001, 0.0001]),
        (8, 5, [0.02, 0.02, 0.02, 0.02, 0.02, 0.001, 0.0001, 0.0001]),
        (8, 6, [0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.0001, 0.0001]),
        (8, 7, [0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.0001]),
        # As long as the run or longer: the last step alone is none of it.
        (8, 8, [0.02] * 7 + [0.0001]),
        (8, 400, [0.02] * 7 + [0.0001]),
        (2, 400, [0.02, 0.001]),  # drops at 0.5, 1 and 1.5 steps, rounded to 0, 1 and 2
    ],
)
def test_a_warm_up_that_outlasts_drops_ends_at_the_rate_that_is_due_after_them(
    epochs: int, warmup: int, expected: list[float]
) -> None:
    recipe = STEP.replace(epochs=epochs, warmup_steps=warmup, warmup_lr=0.02)
    assert rates(recipe, 1, *range(epochs)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 400])
def test_a_run_of_one_step_has_a_rate_above_0(schedule: str, warmup: int) -> None:
    recipe = STEP.replace(epochs=1, lr_schedule=schedule, warmup_steps=warmup)  # type: ignore[arg-type]
    (rate,) = rates(recipe, 1, 0)
    assert 0 < rate < 0.1 + 1e-6


def test_a_cosine_without_warm_up_falls_from_the_peak_to_0() -> None:
    steps = (0, 1, 250, 500, 750, 999, 1000)
    expected = [0.1 * half_cosine(step / 1000) for step in steps]
    assert rates(COSINE, EPOCH, *steps) == pytest.approx(expected, abs=1e-8)
    assert expected[0] == 0.1
    assert expected[3] == pytest.approx(0.05)
    assert expected[-2] < 1e-6


def test_a_cosine_rises_during_the_warm_up_and_then_falls_to_0_at_the_end_of_the_run() -> None:
    recipe = COSINE.replace(warmup_steps=200, warmup_lr=0.01)
    rising = [0.01 + 0.09 * step / 200 for step in (0, 1, 100, 199)]
    assert rates(recipe, EPOCH, 0, 1, 100, 199) == pytest.approx(rising, rel=1e-5)
    falling = [0.1 * half_cosine((step - 200) / 800) for step in (200, 201, 600, 999, 1000)]
    assert falling[0] == 0.1
    assert falling[2] == pytest.approx(0.05)
    assert rates(recipe, EPOCH, 200, 201, 600, 999, 1000) == pytest.approx(falling, abs=1e-8)


def test_a_cosine_whose_warm_up_outlasts_the_run_reaches_the_peak_in_its_last_step() -> None:
    recipe = COSINE.replace(epochs=5, warmup_steps=400, warmup_lr=0.02)
    assert rates(recipe, 1, 0, 1, 2, 3, 4) == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1], rel=1e-5)


@pytest.mark.parametrize("recipe", [STEP, COSINE, COSINE.replace(warmup_steps=7), STEP.replace(warmup_steps=7)])
def test_schedules_survive_keras_serialization(recipe: Recipe) -> None:
    schedule = learning_rate_schedule(recipe, EPOCH)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    for step in (0, 6, 7, 499, 500, 999):
        assert float(again(step)) == float(schedule(step))


def test_one_cycle_rises_and_falls_along_lines() -> None:
    recipe = STEP.replace(lr_schedule="one_cycle", warmup_steps=200, warmup_lr=0.02)
    found = rates(recipe, EPOCH, 0, 100, 199, 200, 201, 600, 999)
    rise, fall = 0.08 / 200, 0.1 / 800
    expected = [0.02, 0.06, 0.1 - rise, 0.1, 0.1 - fall, 0.05, fall]
    assert found == pytest.approx(expected, rel=1e-5)


def test_one_cycle_without_a_rise_starts_at_the_peak() -> None:
    assert rates(STEP.replace(lr_schedule="one_cycle"), EPOCH, 0, 500) == pytest.approx([0.1, 0.05], rel=1e-6)


def test_poly_falls_by_a_power_of_the_rest() -> None:
    recipe = STEP.replace(lr_schedule="poly", lr_power=0.9)
    expected = [0.1 * (1 - step / 1000) ** 0.9 for step in (0, 1, 500, 999)]
    assert rates(recipe, EPOCH, 0, 1, 500, 999) == pytest.approx(expected, rel=1e-5)
    warm = rates(recipe.replace(warmup_steps=200, warmup_lr=0.02), EPOCH, 0, 100, 200, 600, 1000)
    assert warm == pytest.approx([0.02, 0.06, 0.1, 0.1 * 0.5**0.9, 0.0], rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("schedule", ["step", "cosine", "one_cycle", "poly"])
def test_both_rates_are_in_proportion_to_the_batch_size(schedule: str) -> None:
    recipe = STEP.replace(lr_schedule=schedule, warmup_steps=40, warmup_lr=0.02, lr_batch_size=32, batch_size=128)
    assert rates(recipe, EPOCH, 0, 40) == pytest.approx([0.08, 0.4], rel=1e-6)
    assert rates(recipe.replace(batch_size=16), EPOCH, 0, 40) == pytest.approx([0.01, 0.05], rel=1e-6)
    assert rates(recipe.replace(lr_batch_size=None), EPOCH, 0, 40) == pytest.approx([0.02, 0.1], rel=1e-6)


@pytest.mark.parametrize("name", ["one_cycle", "poly"])
def test_a_schedule_of_our_own_survives_its_configuration(name: str) -> None:
    schedule = learning_rate_schedule(STEP.replace(lr_schedule=name, warmup_steps=10), EPOCH)
    again = type(schedule).from_config(schedule.get_config())
    assert [float(again(step)) for step in (0, 5, 10, 700)] == [float(schedule(step)) for step in (0, 5, 10, 700)]


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_epochs_of_warm_up_are_steps_of_the_data(schedule: str) -> None:
    by_epochs = STEP.replace(lr_schedule=schedule, warmup_epochs=2.5, warmup_steps=10)
    by_steps = STEP.replace(lr_schedule=schedule, warmup_steps=260)
    steps = (0, 1, 259, 260, 261, 999)
    assert rates(by_epochs, EPOCH, *steps) == pytest.approx(rates(by_steps, EPOCH, *steps))
