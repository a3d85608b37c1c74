"""What an export is to be: typed data, which the command line makes its flags of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from resnet_keras.fields import expect_choices

Format = Literal["saved_model", "float32", "float16", "dynamic_range", "int8", "int16"]
FORMATS: tuple[Format, ...] = get_args(Format)
DEFAULT_FORMATS: tuple[Format, ...] = FORMATS[:5]
QUANTIZED_FORMATS: tuple[Format, ...] = ("saved_model", "int8")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is written, and how far it may lie from the classifier.

    Raises:
        ValueError: A name is unknown, or a number is out of its range.
    """

    formats: tuple[Format, ...] | None = None
    """What to write; all but int16 if None, or what networks trained for int8 (--qat) have: saved_model and int8."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the SavedModel, from its first convolution to its last."""
    pixels: Literal["uint8", "float32"] = "uint8"
    """Type of the images, 0 to 255, that the SavedModel takes."""
    sizes: Literal["any", "fixed"] = "any"
    """Whether the SavedModel takes images of any size, which it resizes and crops, or of the network's alone."""
    top_k: int = 5
    """Classes that the SavedModel answers to image files."""
    batch: int | None = None
    """Images in a call of the LiteRT files; any number if None."""
    int8_input: Literal["uint8", "float32"] = "uint8"
    """Type of the pixels that int8 takes."""
    int8_output: Literal["float32", "uint8"] = "float32"
    """Type of the probabilities that int8 returns."""
    test_images: int = 1000
    """Test images to compare on, at most."""
    calibration_images: int = 256
    """Training images, as many of each class, that set the scales of int8 and int16."""
    probability_tolerance: float = 1e-4
    """Largest difference of a probability, for saved_model and float32."""
    float16_tolerance: float = 1e-2
    """The same for float16."""
    bfloat16_tolerance: float = 1e-1
    """The same for a SavedModel in bfloat16."""
    agreement: float = 0.98
    """Smallest fraction of images with the same most probable class, for all."""

    def __post_init__(self) -> None:
        if self.formats is not None:
            unknown = [form for form in self.formats if form not in FORMATS]
            if unknown or not self.formats:
                known = ", ".join(FORMATS)
                raise ValueError(f"Expected `formats` among {known}. Received: {', '.join(unknown) or 'none'}")
        expect_choices(self)
        for field in ("top_k", "batch", "test_images", "calibration_images"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"Expected `{field}` of at least 1. Received: {value}")

    def formats_for(self, *, quantized: bool) -> Sequence[Format]:
        """Returns what to write of a network.

        Raises:
            ValueError: It was trained for int8, and another format is asked for.
        """
        if not quantized:
            return DEFAULT_FORMATS if self.formats is None else self.formats
        other = [form for form in self.formats or () if form not in QUANTIZED_FORMATS]
        if other:
            raise ValueError(
                f"Expected `formats` among {', '.join(QUANTIZED_FORMATS)} of a network trained for int8. "
                f"Received: {', '.join(other)}"
            )
        return self.formats or QUANTIZED_FORMATS
