"""A segmentation network with its preprocessing and class names: images in, masks out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from resnet_keras import files
from resnet_keras.applications.model_files import has_member, open_model_file
from resnet_keras.data.class_names import check_class_names
from resnet_keras.data.image_ops import normalize, stretched
from resnet_keras.data.input_images import read_images
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.segmentation.full_size import full_mask
from resnet_keras.segmentation.measures import scores_of
from resnet_keras.weights.keras_archive import save_archive
from resnet_keras.weights.sources import SEGMENTER_MEMBER


@dataclass(frozen=True, eq=False, repr=False)
class Segmenter:
    """A segmentation network, its preprocessing and its class names.

    Example:
        >>> segmenter = segmentation.Segmenter(model, preprocessing, ("sky", "road"))
        >>> (mask,) = segmenter.predict("street.jpg")
        >>> segmentation.draw_mask(photo, mask, classes=2)

    Attributes:
        model: A network of normalized images (N, H, W, C) to scores (N, H, W, classes), or to a dictionary whose
            "logits" they are.
        preprocessing: Size that images are resized to as a whole, and their normalization; its shorter side does not
            apply.
        class_names: One name per class.

    Raises:
        ValueError: The network does not have one score per class name and pixel, or does not take images of the
            preprocessing's size; or a name is not a line of text.
    """

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", check_class_names(self.class_names))
        outputs, taken = scores_of(self.model.output).shape, self.model.input_shape
        if len(outputs) != 4 or outputs[-1] != len(self.class_names):
            raise ValueError(
                f"Expected a network with a score of each class ({len(self.class_names)}) at each pixel. "
                f"Received: {self.model.name}, with outputs of shape {tuple(outputs)}"
            )
        wanted = (*self.preprocessing.image_size, self.preprocessing.channels)
        if any(own not in (None, side) for own, side in zip(taken[1:], wanted, strict=True)):
            raise ValueError(
                f"Expected a network that takes images of its preprocessing, {wanted}. Received: {self.model.name}, "
                f"which takes {tuple(taken[1:])}"
            )

    def __repr__(self) -> str:
        """Returns the network's name, the size of its images, and the number of classes."""
        height, width = self.preprocessing.image_size
        return f"Segmenter({self.model.name}, {height}x{width}, {len(self.class_names)} classes)"

    @classmethod
    def load(cls, path: str | Path) -> Segmenter:
        """Returns the segmenter in a file that `save` wrote, or the final one of a run's folder.

        Raises:
            FileNotFoundError: There is no such file, or no finished run in the folder.
            ValueError: The file is damaged, malicious, or not of a segmenter.
        """

        def made(model: keras.Model, metadata: dict[str, Any]) -> Segmenter:
            return cls(model, Preprocessing(**metadata["preprocessing"]), tuple(metadata["class_names"]))

        return open_model_file(path, SEGMENTER_MEMBER, "a segmenter", made)

    def save(self, path: str | Path) -> None:
        """Writes a `.keras` file; an existing one is replaced once the new one is complete."""
        metadata = {"preprocessing": self.preprocessing.to_json(), "class_names": self.class_names}
        save_archive(self.model, path, SEGMENTER_MEMBER, metadata)

    def predict(self, images: Any) -> list[np.ndarray]:
        """Returns the mask of each image at the image's own size: integers (H, W), the indices of the classes.

        Args:
            images: A path, a folder, the bytes of an image file, a Pillow image, an array or a tensor of (H, W),
                (H, W, C) or (N, H, W, C), pixels 0–255; or a list or an iterator of these.

        Raises:
            FileNotFoundError: A path does not exist, or a folder has no image.
            ValueError: A file is damaged (the message names it), or an array is no image.
        """
        return [mask for _, mask in self.masks(images)]

    def masks(self, images: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields each image, upright, and its mask; see `predict`."""
        for image in read_images(images, self.preprocessing.channels):
            pixels = normalize(stretched(image.pixels, self.preprocessing), self.preprocessing)
            scores = scores_of(self.model(pixels[None], training=False))
            yield image.pixels, full_mask(scores[0], image.pixels.shape[:2])


def is_segmenter(path: str | Path) -> bool:
    """Returns whether a file is one that `Segmenter.save` wrote, or a folder that of a finished run with one."""
    return has_member(path, SEGMENTER_MEMBER)


def covered_fractions(mask: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Returns the fraction of a mask (H, W) that each class covers, of the classes that occur."""
    counts = np.bincount(mask.ravel(), minlength=len(class_names))
    return {name: float(count / mask.size) for name, count in zip(class_names, counts, strict=True) if count}


def write_mask(to: str | Path, image: np.ndarray, mask: np.ndarray, classes: int) -> None:
    """Writes TO.mask.png, whose palette indices are the labels, and TO.overlay.png, the image with the mask.

    Args:
        to: Path without an ending; its folder is made if there is none.
        image: Pixels 0–255 (H, W, C).
        mask: Labels uint8 (H, W).
        classes: Number of classes.
    """
    indexed = Image.fromarray(mask.astype(np.uint8))  # with a palette, its gray levels become indices
    indexed.putpalette(class_colors(256).ravel().tolist())
    overlay = Image.fromarray(draw_mask(image, mask, classes))
    Path(to).parent.mkdir(parents=True, exist_ok=True)
    for kind, picture in (("mask", indexed), ("overlay", overlay)):
        with files.new_file(f"{to}.{kind}.png") as aside:
            picture.save(aside, "PNG")


def draw_mask(image: Any, mask: Any, classes: int, *, alpha: float = 0.6) -> np.ndarray:
    """Returns an image with its mask in the colors of PASCAL VOC: uint8 (H, W, 3).

    Args:
        image: Pixels 0–255, RGB or gray (H, W, C).
        mask: Labels (H, W); labels outside the classes are not colored.
        classes: Number of classes.
        alpha: Opacity of the colors, 0 to 1.
    """
    pixels = np.asarray(image, np.float32)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    labels = np.asarray(mask)
    known = (labels >= 0) & (labels < classes)
    colors = class_colors(classes)[np.where(known, labels, 0)]
    mixed = np.where(known[..., None], (1 - alpha) * pixels + alpha * colors, pixels)
    return np.rint(mixed).astype(np.uint8)


def class_colors(classes: int) -> np.ndarray:
    """Returns the colors of PASCAL VOC's palette: uint8 (classes, 3). The bits of a label are spread over channels."""
    labels = np.arange(classes)[:, None]
    channel = np.arange(3)
    colors = np.zeros((classes, 3), np.int64)
    for bit in range(8):
        colors |= ((labels >> (3 * bit + channel)) & 1) << (7 - bit)
    return colors.astype(np.uint8)
