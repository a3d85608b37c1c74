"""Recipe: the settings that determine the result of a training run (arXiv:1512.03385, §3.4 and §4.2)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from resnet_keras.checks.fields import at_least, check_fields, nearest
from resnet_keras.data.settings import Augmentation, DataSettings
from resnet_keras.networks.architecture import Architecture
from resnet_keras.recipes.settings import (
    DetectionSettings,
    EvaluationSettings,
    NetworkSettings,
    Optimization,
    Schedule,
)

TaskName = Literal["classification", "segmentation", "detection", "localization"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that determine the result of a training run; where and on what it runs is not part of it.

    A recipe has seven parts. The names of their fields are unique, so `replace` changes fields of any part:

    ```python
    RECIPES["cifar10"].replace(model="resnet56", epochs=200, lr_schedule="cosine")
    ```

    Raises:
        ValueError: A name is unknown, a value out of its range, or two fields exclude each other.
    """

    network: NetworkSettings
    data: DataSettings
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimization: Optimization = field(default_factory=Optimization)
    schedule: Schedule = field(default_factory=Schedule)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    seed: Annotated[int, at_least(0)] = 0
    """Seed of the initial weights, the order of the images and their augmentation."""

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_task()
        stride = self.architecture.total_stride
        side = self.data.image_size or self.architecture.image_size
        sizes = self.data.train_sizes
        self._expect(
            side >= stride or self.data.image_size is None, "image_size", f"at least the total stride, {stride}"
        )
        self._expect(all(size >= stride for size in sizes), "train_sizes", f"at least the total stride, {stride}")
        self._expect(len(sizes) <= self.schedule.epochs, "train_sizes", f"at most {self.schedule.epochs}, one an epoch")
        shortest = self.augmentation.shorter_side[0] if self.augmentation.shorter_side else None
        for name, value, size in (
            ("shorter_side", shortest, max(sizes, default=side)),
            ("test_shorter_side", self.data.test_shorter_side, side),
        ):
            self._expect(value is None or value >= size, name, f"no shorter than the image size, {size}")
        batch = self.data.batch_size
        self._expect(batch % self.optimization.accumulate == 0, "accumulate", f"a divisor of `batch_size`, {batch}")
        copies = self.augmentation.repeated_augmentation
        self._expect(copies == 1 or not self.data.carry_over, "carry_over", "False with `repeated_augmentation`")
        in_floats = not self.network.quantization_aware or self.optimization.precision == "float32"
        self._expect(in_floats, "precision", "float32 with `quantization_aware`, which rounds by itself")

    def _check_task(self) -> None:
        """Checks that fields that are of another task have their defaults."""
        values, defaults = self.flat(), self.defaults()
        task = {
            "classification": "without a `head`",
            "segmentation": f"with the head {self.network.head}",
            "detection": "with `detector`",
            "localization": "with the head box",
        }[self.task]
        for name in _ONLY_FOR[self.task]:
            without = "without a `detector`" if name in _OF_BOXES else task
            self._expect(values[name] == defaults[name], name, f"{defaults[name]} {without}")
        size = self.data.crop_size
        if self.network.head == "unet":
            self._expect(self.network.output_stride is None, "output_stride", "None with the head unet")
            whole = size is None or not (size[0] % _UNET_STRIDE or size[1] % _UNET_STRIDE)
            self._expect(whole, "crop_size", f"two multiples of {_UNET_STRIDE} with the head unet")

    def _expect(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"Expected `{name}` to be {expected}. Received: {self.flat()[name]!r}")

    @classmethod
    def from_flat(cls, **values: Any) -> Recipe:
        """Returns a recipe of fields by their names alone; `model` and `dataset` are required.

        Raises:
            ValueError: A field is unknown or missing, or has an invalid value.
        """
        _expect_known(values)
        for name in ("model", "dataset"):
            if name not in values:
                raise ValueError(f"Expected the field {name!r} of a recipe. Received: {', '.join(values) or 'none'}")
        parts = {part: kind(**_values_of(part, values)) for part, kind in _PARTS.items()}
        return cls(**parts, **{name: value for name, value in values.items() if PART_OF[name] is None})

    def replace(self, **changes: Any) -> Recipe:
        """Returns the recipe with other values of some fields, named without their part.

        Raises:
            ValueError: A field is unknown, or has an invalid value.
        """
        _expect_known(changes)
        parts = {part: _values_of(part, changes) for part in _PARTS}
        replaced = {part: dataclasses.replace(getattr(self, part), **own) for part, own in parts.items() if own}
        own = {name: value for name, value in changes.items() if PART_OF[name] is None}
        return dataclasses.replace(self, **replaced, **own)

    def flat(self) -> dict[str, Any]:
        """Returns the values of all fields by their names, without their parts."""
        return {name: getattr(getattr(self, part) if part else self, name) for name, part in PART_OF.items()}

    @staticmethod
    def defaults() -> dict[str, Any]:
        """Returns the default of each field that has one, by its name."""
        kinds = [Recipe, *_PARTS.values()]
        own = [each for kind in kinds for each in fields(kind) if each.name in PART_OF]
        return {each.name: each.default for each in own if each.default is not dataclasses.MISSING}

    @property
    def task(self) -> TaskName:
        """What the network is trained for: a class for each image, pixel, or object, or for an image and its object."""
        if self.detection.detector:
            return "detection"
        if self.network.head == "box":
            return "localization"
        return "segmentation" if self.network.head else "classification"

    @property
    def architecture(self) -> Architecture:
        """Architecture of the network, with this recipe's options."""
        return self.network.architecture

    @property
    def soft_labels(self) -> bool:
        """Whether labels are one value per class: of several classes, or each class judged by itself."""
        optimization = self.optimization
        return self.augmentation.soft_labels or optimization.loss == "binary" or optimization.teacher is not None

    @property
    def lr_scale(self) -> float:
        """Factor of the learning rates for this batch size."""
        base = self.schedule.lr_batch_size
        return self.data.batch_size / base if base else 1.0


_UNET_STRIDE = 32
_OF_MASKS = ("output_stride", "crop_size", "ignored_label", "random_scale", "auxiliary_loss")
_OF_BOXES = tuple(each.name for each in fields(DetectionSettings) if each.name != "detector")
_OF_IMAGES = (
    *("fit_head", "whiten_stem", "quantization_aware", "rematerialize", "train_sizes", "carry_over"),
    *("test_shorter_side", "shorter_side", "crop_area", "pad_pixels", "alternate_flip", "pca_lighting"),
    *("auto_augment", "erase", "mixup", "cutmix", "label_smoothing", "repeated_augmentation", "loss", "teacher"),
    *("teacher_share", "temperature", "test_flip"),
)
_ONLY_FOR: dict[TaskName, tuple[str, ...]] = {
    "classification": (*_OF_MASKS, *_OF_BOXES),
    "segmentation": (*_OF_IMAGES, *_OF_BOXES, "train_images", "batch_fraction"),
    "detection": (*_OF_IMAGES, *_OF_MASKS, "head", "image_size", "accumulate"),
    "localization": (*_OF_IMAGES, *_OF_MASKS, *_OF_BOXES),
}
"""Fields that keep their defaults in each task: those of the others."""
_PARTS: dict[str, Any] = {
    "network": NetworkSettings,
    "data": DataSettings,
    "augmentation": Augmentation,
    "optimization": Optimization,
    "schedule": Schedule,
    "evaluation": EvaluationSettings,
    "detection": DetectionSettings,
}
PART_OF: dict[str, str | None] = {
    **{each.name: part for part, kind in _PARTS.items() for each in fields(kind)},
    "seed": None,
}
"""The part that each field belongs to; `None` for fields of the recipe itself."""


def flatten(content: Any) -> dict[str, Any]:
    """Returns the fields of a recipe's JSON by their names, without their parts; unknown fields, too.

    Args:
        content: A recipe as JSON: a dictionary of the parts, each a dictionary, and `seed`.

    Raises:
        ValueError: The content has another shape, or a field lies outside its part.
    """
    if not isinstance(content, dict):
        raise ValueError(f"Expected a recipe as an object of its parts, {', '.join(_PARTS)}. Received: {content!r}")
    found: dict[str, Any] = {}
    for part, values in content.items():
        if part in _PARTS and not isinstance(values, dict):
            raise ValueError(f"Expected the part {part!r} of a recipe to be an object. Received: {values!r}")
        own = values if part in _PARTS else {part: values}
        for name, value in own.items():
            if name in PART_OF and PART_OF[name] != (part if part in _PARTS else None):
                place = f"in the part {PART_OF[name]!r}" if PART_OF[name] else "outside the parts"
                raise ValueError(f"Expected the field {name!r} of a recipe {place}. Received: it in {part!r}")
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def _values_of(part: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if PART_OF[name] == part}


def _expect_known(values: dict[str, Any]) -> None:
    for name in values:
        if name not in PART_OF:
            near = nearest(name, PART_OF) or f" Expected one of {', '.join(PART_OF)}"
            raise ValueError(f"Expected fields of a recipe. Received: {name!r}.{near}")
