"""The formats of an export, one table for all of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["saved_model", "float32", "float16", "dynamic_range", "int8", "int16", "onnx"]
Runtime = Literal["saved_model", "litert", "onnx"]


@dataclass(frozen=True, kw_only=True)
class FormatInfo:
    """Properties of a format.

    Attributes:
        runtime: Library that runs its artifacts: "saved_model" (TensorFlow), "litert" or "onnx" (ONNX Runtime).
        default: Whether an export without `formats` writes it.
        quantization_aware: Whether a network from quantization-aware training can be written in it.
        integer: Whether activations are integers, so that calibration images set their scales.
        slow: Whether XNNPACK has no kernels for it, so that an image can take seconds.
        tolerance: The field of `ExportOptions` that limits the difference of a probability; `None` for no limit.
    """

    runtime: Runtime = "litert"
    default: bool = True
    quantization_aware: bool = False
    integer: bool = False
    slow: bool = False
    tolerance: str | None = None


FORMATS: dict[Format, FormatInfo] = {
    "saved_model": FormatInfo(runtime="saved_model", quantization_aware=True, tolerance="probability_tolerance"),
    "float32": FormatInfo(tolerance="probability_tolerance"),
    "float16": FormatInfo(tolerance="float16_tolerance"),
    "dynamic_range": FormatInfo(),
    "int8": FormatInfo(quantization_aware=True, integer=True),
    "int16": FormatInfo(default=False, integer=True, slow=True),
    "onnx": FormatInfo(runtime="onnx", default=False, tolerance="probability_tolerance"),  # its packages are an extra
}
