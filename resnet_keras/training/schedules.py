"""Learning rate schedules of recipes."""

from __future__ import annotations

from typing import Any

import keras

from resnet_keras.recipes.recipe import Recipe


def learning_rate_schedule(
    recipe: Recipe, steps_per_epoch: int, first_step: int = 0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate schedule of a recipe. Steps count from 0.

    The steps of the warm-up have `warmup_lr`. A "step" schedule then has `peak_lr`, which is multiplied by `lr_factor`
    at each of `lr_drops`. A "cosine" schedule rises from `warmup_lr` to `peak_lr` during the warm-up and then falls
    along half a cosine (arXiv:1608.03983, Eqn. 5), to 0 at the end of the run. A "one_cycle" schedule rises and falls
    along two lines (arXiv:1708.07120). A "poly" schedule falls as `lr_power` of the rest of the run (arXiv:1606.00915,
    section 3.1), after a warm-up that rises as that of a cosine. With `lr_batch_size`, both rates are in proportion to
    the batch size.

    Args:
        recipe: Its schedule, batch size and depth apply.
        steps_per_epoch: Steps in an epoch.
        first_step: Step of the run that the optimizer's first step is, for a run that continues another.
    """
    schedule = _whole_schedule(recipe, steps_per_epoch)
    return LaterSteps(schedule, first_step) if first_step else schedule


def _whole_schedule(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    schedule = recipe.schedule
    peak, first = schedule.peak_lr * recipe.lr_scale, schedule.warmup_lr * recipe.lr_scale
    total = schedule.epochs * steps_per_epoch
    warmup = min(schedule.warmup(steps_per_epoch, recipe.architecture.depth), total - 1)
    if schedule.lr_schedule == "one_cycle":
        return OneCycle(first, peak, warmup, total)
    if schedule.lr_schedule == "poly":
        return Poly(first, peak, warmup, total, schedule.lr_power)
    if schedule.lr_schedule == "cosine":
        if not warmup:
            return keras.optimizers.schedules.CosineDecay(peak, decay_steps=total)
        return keras.optimizers.schedules.CosineDecay(
            first, decay_steps=total - warmup, warmup_target=peak, warmup_steps=warmup
        )
    starts = {0: first if warmup else peak, warmup: peak}
    for i, fraction in enumerate(schedule.lr_drops, start=1):
        starts[max(round(fraction * total), warmup)] = peak * schedule.lr_factor**i
    # Keras counts a boundary to the interval before it and needs at least one; the end of the run is harmless.
    later = sorted(starts)[1:]
    boundaries = [step - 1 for step in later] + [total - 1]
    rates = [starts[step] for step in sorted(starts)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [*rates, rates[-1]])


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly and then falls linearly to 0 (arXiv:1708.07120).

    Args:
        first: Rate of the first step.
        peak: Rate of step `rise`.
        rise: Steps of the rise.
        total: Steps of the run.
    """

    def __init__(self, first: float, peak: float, rise: int, total: int) -> None:
        super().__init__()
        self.first, self.peak, self.rise, self.total = first, peak, rise, total

    def __call__(self, step: Any) -> Any:
        """Returns the rate of a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        up = self.first + (self.peak - self.first) * step / max(self.rise, 1)
        down = self.peak * (self.total - step) / (self.total - self.rise)
        return keras.ops.where(step < self.rise, up, keras.ops.maximum(down, 0.0))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"first": self.first, "peak": self.peak, "rise": self.rise, "total": self.total}


class Poly(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly and then falls to 0 as a power of the rest (arXiv:1606.00915, section 3.1).

    Args:
        first: Rate of the first step, if there is a rise.
        peak: Rate of step `rise`.
        rise: Steps of the rise.
        total: Steps of the run.
        power: Power of the rest of the steps.
    """

    def __init__(self, first: float, peak: float, rise: int, total: int, power: float) -> None:
        super().__init__()
        self.first, self.peak, self.rise, self.total, self.power = first, peak, rise, total, power

    def __call__(self, step: Any) -> Any:
        """Returns the rate of a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        up = self.first + (self.peak - self.first) * step / max(self.rise, 1)
        rest = keras.ops.clip((self.total - step) / (self.total - self.rise), 0.0, 1.0)
        return keras.ops.where(step < self.rise, up, self.peak * rest**self.power)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {name: getattr(self, name) for name in ("first", "peak", "rise", "total", "power")}


class LaterSteps(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule from a later step on.

    Args:
        schedule: The whole schedule.
        first_step: Its step that is step 0 here.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, first_step: int) -> None:
        super().__init__()
        self.schedule, self.first_step = schedule, first_step

    def __call__(self, step: Any) -> Any:
        """Returns the rate of a step, counted from 0."""
        return self.schedule(step + self.first_step)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"schedule": self.schedule, "first_step": self.first_step}
