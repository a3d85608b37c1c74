"""Quality of enlarged images, as in the literature: PSNR and SSIM of the luma, without the borders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from images import bicubic, pair
from matplotlib.figure import Figure

from resnet_keras import files
from resnet_keras.data import whole

SSIM_SIDE = 11
"""Side of the window of SSIM, in pixels."""

_SHOWN = 96  # side of the detail in the picture, in pixels
_ROWS = 4

Enlarge = Callable[[np.ndarray], np.ndarray]
"""Enlarges an image: uint8 (h, w, 3) -> uint8 (scale h, scale w, 3)."""


@dataclass(frozen=True)
class Quality:
    """PSNR in dB and SSIM, of an image or averaged over images."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Comparison:
    """Quality of a network and of bicubic interpolation on a folder of images.

    Attributes:
        folder: Name of the folder.
        images: Quality of network and bicubic interpolation, by file name.
    """

    folder: str
    images: dict[str, tuple[Quality, Quality]]

    @property
    def network(self) -> Quality:
        """The mean over the images."""
        return _mean([network for network, _ in self.images.values()])

    @property
    def bicubic(self) -> Quality:
        """The mean over the images."""
        return _mean([bicubic for _, bicubic in self.images.values()])

    def __str__(self) -> str:
        return (
            f"{self.folder} ({len(self.images)} images): PSNR {self.network.psnr:.2f} dB, SSIM "
            f"{self.network.ssim:.4f}; bicubic {self.bicubic.psnr:.2f} dB, {self.bicubic.ssim:.4f}"
        )


def luma(image: np.ndarray) -> np.ndarray:
    """Returns Y of ITU-R BT.601, 16–235, not rounded: uint8 RGB (H, W, 3) -> float64 (H, W)."""
    return 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def quality(image: np.ndarray, truth: np.ndarray, shave: int) -> Quality:
    """Returns PSNR and SSIM of two images uint8 (H, W, 3), of their luma without `shave` pixels at each border.

    SSIM has Gaussian windows of 11 x 11 pixels with a standard deviation of 1.5, all inside the image (Wang et al.
    2004, §III.C). The range of values, L and the peak of PSNR, is 255.

    Raises:
        ValueError: The images have different sizes, or are too small for a window.
    """
    if image.shape != truth.shape or min(truth.shape[:2]) < SSIM_SIDE + 2 * shave:
        raise ValueError(
            f"Expected two images of the same size, of at least {SSIM_SIDE + 2 * shave} pixels a side. "
            f"Received: {image.shape} and {truth.shape}"
        )
    inside = slice(shave, -shave or None)
    one, other = (luma(each)[inside, inside] for each in (image, truth))
    with np.errstate(divide="ignore"):  # PSNR is infinite for equal images
        psnr = 10 * np.log10(255**2 / np.mean((one - other) ** 2))
    given = (tf.constant(each[..., None], tf.float32) for each in (one, other))
    return Quality(float(psnr), float(tf.image.ssim(*given, max_val=255.0, filter_size=SSIM_SIDE, filter_sigma=1.5)))


def enlarging(model: keras.Model) -> Enlarge:
    """Returns a function that enlarges an image with a network and rounds to whole pixels."""

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
    def enlarge(small: tf.Tensor) -> tf.Tensor:
        return tf.cast(whole(model(tf.cast(small, tf.float32)[None], training=False)[0]), tf.uint8)

    return lambda small: enlarge(small).numpy()


def compare(enlarge: Enlarge, folder: str, images: Mapping[str, np.ndarray], scale: int) -> Comparison:
    """Reduces images, enlarges them with the network and with bicubic interpolation, and compares both."""
    found = {}
    for name, image in images.items():
        small, large = (each.numpy() for each in pair(tf.constant(image), scale))
        answers = enlarge(small), bicubic(tf.constant(small), scale).numpy()
        ours, theirs = (quality(answer, large, shave=scale) for answer in answers)
        found[name] = ours, theirs
    return Comparison(folder, found)


def draw(path: Path, enlarge: Enlarge, images: Mapping[str, np.ndarray], scale: int) -> None:
    """Draws a detail of the first images: enlarged by bicubic interpolation, by the network, and the original.

    The detail is where bicubic interpolation differs most from the original.
    """
    shown = list(images.items())[:_ROWS]
    figure = Figure(figsize=(7.5, 2.6 * len(shown)), layout="constrained")
    for axes, (name, image) in zip(figure.subplots(len(shown), 3, squeeze=False), shown, strict=True):
        small, large = (each.numpy() for each in pair(tf.constant(image), scale))
        smooth, ours = bicubic(tf.constant(small), scale).numpy(), enlarge(small)
        top, left = _hardest(np.abs(luma(smooth) - luma(large)))
        columns = (("bicubic", smooth), (f"network, x{scale}", ours), (f"original: {name}", large))
        for axis, (title, picture) in zip(axes, columns, strict=True):
            axis.imshow(picture[top : top + _SHOWN, left : left + _SHOWN], interpolation="nearest")
            measured = "" if picture is large else f", {quality(picture, large, scale).psnr:.2f} dB"
            axis.set_title(title + measured, fontsize=9)
            axis.set_axis_off()
    with files.new_file(path) as aside:
        figure.savefig(aside, dpi=100)


def _hardest(error: np.ndarray) -> tuple[int, int]:
    """Returns the upper left corner of the detail with the largest sum of errors (H, W)."""
    side = min(_SHOWN, *error.shape)
    sums = np.pad(error, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    return int(top), int(left)


def _mean(found: list[Quality]) -> Quality:
    return Quality(*np.mean([(each.psnr, each.ssim) for each in found], axis=0).tolist())
