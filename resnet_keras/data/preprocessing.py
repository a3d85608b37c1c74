"""Preprocessing of images for a network, as one object that belongs to the model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from resnet_keras.checks.fields import check_fields

Interpolation = Literal["bilinear", "bicubic"]
ChannelOrder = Literal["rgb", "bgr"]
MOST_SIDE = 4096
"""Longest side of a network's input; a batch of 32 such images takes 6 GB."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Conversion of an image to a network's input, outside training.

    Pixels are on the scale 0–255, so `mean` and `std` include other scales: for inputs in [0, 1] they are 0 and 255,
    for [-1, 1] both are 127.5, and PyTorch's 0.485 and 0.229 are 123.675 and 58.395.

    Attributes:
        image_size: Height and width of the network's input, in pixels.
        channels: 3 for color, 1 for gray.
        mean: Value subtracted from the pixels (0–255), per channel, in the network's order of channels.
        std: Divisor of the difference, per channel.
        shorter_side: Length in pixels that an image's shorter side is resized to before the central crop. `None`
            scales the image to just cover `image_size`.
        interpolation: How pixels are resized, "bilinear" or "bicubic", both antialiased when reducing.
        channel_order: Channel order of the network's input. Pixels are "rgb" until they are normalized.

    Raises:
        ValueError: A field has a value that is not listed above, or another number of channels than `channels`.
    """

    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shorter_side: int | None = None
    interpolation: Interpolation = "bilinear"
    channel_order: ChannelOrder = "rgb"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"Expected `channels` of 1 or 3. Received: {self.channels!r}")
        size = tuple(self.image_size) if isinstance(self.image_size, Iterable) else (self.image_size,)
        if len(size) != 2 or any(int(side) != side or side < 1 for side in size):
            raise ValueError(
                f"Expected whole pixels for `image_size` of a height and a width above 0. Received: {self.image_size!r}"
            )
        if max(size) > MOST_SIDE:
            raise ValueError(f"Expected `image_size` of at most {MOST_SIDE:,} pixels. Received: {self.image_size!r}")
        object.__setattr__(self, "image_size", tuple(map(int, size)))
        for field in ("mean", "std"):
            object.__setattr__(self, field, tuple(map(float, getattr(self, field))))
            if not all(map(math.isfinite, getattr(self, field))):
                raise ValueError(f"Expected `{field}` of finite numbers. Received: {getattr(self, field)}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"Expected one mean and one std per channel ({self.channels}). "
                f"Received: mean={self.mean}, std={self.std}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"Expected `std` above 0. Received: {self.std}")
        side = self.shorter_side
        if side is not None and int(side) != side:
            raise ValueError(f"Expected whole pixels for `shorter_side`. Received: {side}")
        if side is not None and side > 2 * MOST_SIDE:
            raise ValueError(f"Expected `shorter_side` of at most {2 * MOST_SIDE:,} pixels. Received: {side}")
        if side is not None and side < max(self.image_size):
            raise ValueError(
                f"Expected `shorter_side` to be no shorter than the crop, {self.image_size}. Received: {side}"
            )
        check_fields(self)
        if self.channel_order == "bgr" and self.channels != 3:
            raise ValueError(f'Expected 3 channels in the order "bgr". Received: {self.channels}')

    @property
    def crop_ratio(self) -> float:
        """The crop's longer side, as a part of the side that images are resized to: 0.875 for 224 of 256 pixels."""
        return max(self.image_size) / (self.shorter_side or max(self.image_size))

    def at(self, image_size: int | tuple[int, int], crop_ratio: float | None = None) -> Preprocessing:
        """Returns the same for a network input of another size.

        Args:
            image_size: Height and width in pixels, or one for both.
            crop_ratio: In (0, 1]; the crop ratio stays as it is if `None`.

        Raises:
            ValueError: The crop ratio is out of its range.
        """
        size = image_size if isinstance(image_size, tuple) else (int(image_size), int(image_size))
        if crop_ratio is not None and not 0 < crop_ratio <= 1:
            raise ValueError(f"Expected `crop_ratio` in (0, 1]. Received: {crop_ratio}")
        if crop_ratio is None and self.shorter_side is None:
            return replace(self, image_size=size)
        # Rounded down to a whole pixel, as in timm and transformers; 224/232 must not become 231.
        side = int(max(size) / (crop_ratio or self.crop_ratio) + 1e-6)
        return replace(self, image_size=size, shorter_side=side)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON can hold them."""
        return asdict(self)
