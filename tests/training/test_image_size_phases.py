"""The parts of a run: what is left of an epoch first, then epochs with images of one size."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training.image_size_phases import Phase, phases


def phases_of(recipe: Recipe, steps: int, done: int = 0) -> Iterator[Phase]:
    return phases(recipe.data, recipe.schedule.epochs, steps, done)


RECIPE = RECIPES["cifar10"].replace(epochs=6)


def test_a_run_on_images_of_one_size_is_one_phase() -> None:
    assert list(phases_of(RECIPE, 10)) == [Phase(0, 60, 10, None)]
    assert list(phases_of(RECIPE.replace(train_sizes=(24,)), 10)) == [Phase(0, 60, 10, 24)]
    assert list(phases_of(RECIPE, 10, 20)) == [Phase(20, 60, 10, None)]


def test_sizes_share_the_epochs_evenly() -> None:
    found = list(phases_of(RECIPE.replace(train_sizes=(16, 24, 32)), 10))
    assert found == [Phase(0, 20, 10, 16), Phase(20, 40, 10, 24), Phase(40, 60, 10, 32)]


def test_sizes_that_do_not_divide_the_epochs_have_them_as_evenly_as_can_be() -> None:
    for count in range(1, 7):
        recipe = RECIPE.replace(train_sizes=tuple(range(16, 16 + count)))
        found = list(phases_of(recipe, 10))
        assert [phase.image_size for phase in found] == list(recipe.data.train_sizes)
        lengths = [(phase.last_step - phase.first_step) // 10 for phase in found]
        assert max(lengths) - min(lengths) <= 1


def test_the_same_size_again_is_no_new_phase_and_a_size_may_come_back() -> None:
    assert list(phases_of(RECIPE.replace(train_sizes=(16, 16, 32)), 10)) == [
        Phase(0, 40, 10, 16),
        Phase(40, 60, 10, 32),
    ]
    back = list(phases_of(RECIPE.replace(train_sizes=(16, 32, 16)), 10))
    assert [phase.image_size for phase in back] == [16, 32, 16]


def test_mid_epoch_the_rest_of_the_epoch_is_first() -> None:
    recipe = RECIPE.replace(train_sizes=(16, 32))
    assert list(phases_of(recipe, 10, 3)) == [Phase(3, 10, 7, 16), Phase(10, 30, 10, 16), Phase(30, 60, 10, 32)]
    assert list(phases_of(recipe, 10, 29)) == [Phase(29, 30, 1, 16), Phase(30, 60, 10, 32)]
    assert list(phases_of(recipe, 10, 59)) == [Phase(59, 60, 1, 32)]


def test_of_a_run_that_is_over_nothing_is_left() -> None:
    assert list(phases_of(RECIPE, 10, 60)) == []


@pytest.mark.parametrize("sizes", [(), (16,), (16, 32), (16, 24, 32), (32, 16, 32), (16, 17, 18, 19, 20)])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("epochs", [5, 6, 11])
def test_phases_join_and_end_with_the_run_from_wherever_it_resumes(
    sizes: tuple[int, ...], steps: int, epochs: int
) -> None:
    recipe = RECIPE.replace(epochs=epochs, train_sizes=sizes)
    for done in range(epochs * steps):
        found = list(phases_of(recipe, steps, done))
        assert found[0].first_step == done
        assert found[-1].last_step == epochs * steps
        assert all(one.last_step == other.first_step for one, other in pairwise(found))
        for i, phase in enumerate(found):
            length = phase.last_step - phase.first_step
            assert length > 0
            assert phase.last_step % steps == 0
            assert length == phase.steps if done % steps and i == 0 else length % phase.steps == 0
            if i or done % steps == 0:
                assert phase.steps == steps
            epochs_of = range(phase.first_step // steps, phase.last_step // steps)
            assert {recipe.data.train_size(epoch, epochs) for epoch in epochs_of} == {phase.image_size}
