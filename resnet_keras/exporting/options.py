"""Options of an export, from which the command line makes its flags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from resnet_keras.checks.fields import at_least, between, check_counts, check_fields
from resnet_keras.exporting.formats import FORMATS, Format

_AGREEMENT = 0.98


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Formats of an export, their input and output types, and the tolerances of their verification.

    Raises:
        ValueError: A name is unknown, or a number is out of its range.
    """

    formats: tuple[Format, ...] | None = None
    """Formats to write. All but int16 and onnx if None; saved_model and int8 after quantization-aware training."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the SavedModel's convolutions and of everything between the first and the last."""
    pixels: Literal["uint8", "float32"] = "uint8"
    """Type of the pixels, 0 to 255, that the SavedModel and the ONNX file take."""
    sizes: Literal["any", "fixed"] = "any"
    """Image sizes that the SavedModel takes: any, which it resizes and crops, or the network's own."""
    top_k: int = 5
    """Number of classes that the SavedModel returns for an image file."""
    batch: int | None = None
    """Images per call of the LiteRT and ONNX files; any number if None."""
    int8_input: Literal["uint8", "float32"] = "uint8"
    """Type of the pixels that int8 takes."""
    int8_output: Literal["float32", "uint8"] = "float32"
    """Type of the probabilities that int8 returns."""
    test_images: int = 1000
    """Largest number of test images for the verification."""
    calibration_images: int = 256
    """Number of training images, as many of each class, that set the scales of int8 and int16."""
    latency: bool = False
    """Measure the latency of every artifact, too."""
    probability_tolerance: Annotated[float, at_least(0)] = 1e-4
    """Largest difference of a probability, for saved_model, float32, and onnx."""
    float16_tolerance: Annotated[float, at_least(0)] = 1e-2
    """Largest difference of a probability, for float16."""
    bfloat16_tolerance: Annotated[float, at_least(0)] = 1e-1
    """Largest difference of a probability, for a SavedModel in bfloat16."""
    agreement: Annotated[float | None, between(0, 1)] = None
    """Smallest fraction of images with the same most probable class, for all formats: 0.98 if None, and one image may
    always differ. Of masks and boxes, that of equal pixels and detections; by the format if None."""

    def __post_init__(self) -> None:
        if self.formats is not None:
            unknown = [name for name in self.formats if name not in FORMATS]
            if unknown or not self.formats:
                raise ValueError(f"Expected `formats` among {', '.join(FORMATS)}. Received: {_listed(unknown)}")
        check_fields(self)
        check_counts(**{name: getattr(self, name) for name in ("top_k", "batch", "test_images", "calibration_images")})

    @property
    def least_agreement(self) -> float:
        """Smallest fraction of images with the same most probable class."""
        return _AGREEMENT if self.agreement is None else self.agreement

    def formats_for(self, *, quantization_aware: bool) -> tuple[Format, ...]:
        """Returns the formats to write, in the order of `FORMATS`.

        Args:
            quantization_aware: Whether the network comes from quantization-aware training.

        Raises:
            ValueError: The network comes from quantization-aware training, and `formats` has one that it lacks.
        """
        possible = [name for name, info in FORMATS.items() if info.quantization_aware or not quantization_aware]
        if self.formats is None:
            return tuple(name for name in possible if FORMATS[name].default)
        if other := [name for name in self.formats if name not in possible]:
            raise ValueError(
                f"Expected `formats` among {', '.join(possible)} for a network from quantization-aware training. "
                f"Received: {_listed(other)}"
            )
        return tuple(name for name in FORMATS if name in self.formats)

    def tolerance_of(self, name: Format) -> float | None:
        """Returns the largest difference of a probability that a format is allowed; `None` for any."""
        if name == "saved_model" and self.precision == "bfloat16":
            return self.bfloat16_tolerance
        field = FORMATS[name].tolerance
        return None if field is None else getattr(self, field)


def allowed_changes(agreement: float, images: int) -> int:
    """Returns on how many images an artifact may have another most probable class.

    One image of a few is a larger fraction than the tolerance: of 14, it is 7 %. It says little about the artifact, so
    it decides nothing, unless it is half of the images or `agreement` is 1.
    """
    allowed = int((1 - agreement) * images + 1e-9)
    return max(allowed, 1) if agreement < 1 and images > 2 else allowed


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
