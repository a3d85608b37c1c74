"""Grad-CAM: where in an image a network finds a class (arXiv:1610.02391)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import matplotlib
import numpy as np
import tensorflow as tf

from resnet_keras import files
from resnet_keras.applications.outputs import features_and_logits
from resnet_keras.data.image_ops import center, scaled_size
from resnet_keras.data.preprocessing import Preprocessing

_COLORS = "turbo"


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Where in an image a classifier finds a class; a notebook shows it as a picture.

    Attributes:
        image: The whole image, RGB, uint8 (H, W, 3).
        heat_map: How much each pixel speaks for the class, float32 (H, W) in [0, 1]; 0 outside the crop that the
            network sees, and everywhere if nothing speaks for the class.
        class_name: The class.
        probability: Its probability.
        path: The image file; `None` if the image did not come from one.
    """

    image: np.ndarray
    heat_map: np.ndarray
    class_name: str
    probability: float
    path: str | None = None

    def __str__(self) -> str:
        """Returns the class and its probability, after the path if there is one."""
        text = f"{self.class_name} {self.probability:.2%}"
        return text if self.path is None else f"{self.path}: {text}"

    def overlay(self, opacity: float = 0.6) -> np.ndarray:
        """Returns the heat map over the image, uint8 RGB (H, W, 3): the hotter, the more opaque.

        Args:
            opacity: That of the hottest pixel, in [0, 1].

        Raises:
            ValueError: The opacity is out of its range.
        """
        if not 0 <= opacity <= 1:
            raise ValueError(f"Expected `opacity` in [0, 1]. Received: {opacity}")
        colors = matplotlib.colormaps[_COLORS](self.heat_map, bytes=True)[..., :3]
        weight = opacity * self.heat_map[..., None]
        return np.rint((1 - weight) * self.image + weight * colors).astype(np.uint8)

    def save(self, path: str | Path, opacity: float = 0.6) -> None:
        """Writes `overlay` as a PNG; an existing file is replaced once the new one is complete.

        Raises:
            ValueError: The file does not end in .png, or the opacity is out of its range.
        """
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"Expected a file ending in .png. Received: {path}")
        content = self._png(opacity)
        with files.new_file(path) as aside:
            aside.write_bytes(content)

    def _png(self, opacity: float) -> bytes:
        content: bytes = tf.io.encode_png(self.overlay(opacity)).numpy()
        return content

    def _repr_png_(self) -> bytes:
        return self._png(0.6)


def class_map(model: keras.Model, inputs: np.ndarray, class_index: int) -> np.ndarray:
    """Returns the Grad-CAM of a class over the last feature map before pooling, activated in all networks.

    Channels are weighted by the mean gradient of the class's logit, and what speaks against the class is 0
    (arXiv:1610.02391, equations 1 and 2). With average pooling and one dense layer, that is CAM (arXiv:1512.04150), the
    feature map times the weights of the logit, but for a constant.

    Args:
        model: A classifier of normalized images that pools its last feature map.
        inputs: One normalized image, float32 (1, H, W, C).
        class_index: Index of the class.

    Returns:
        float32 (h, w), the size of the feature map, at least 0; not scaled.

    Raises:
        ValueError: The network does not pool a feature map, or Keras's backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"Expected the backend tensorflow, for gradients. Received: {keras.backend.backend()}")
    pools = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    last = pools[-1] if pools else None
    if last is None or last.keepdims:  # squeeze-and-excitation keeps them
        raise ValueError(f"Expected a network that averages its last feature map. Received: {model.name!r}")
    body = keras.Model(model.input, last.input)
    head = keras.Model(last.input, features_and_logits(model).output["logits"])
    features = tf.cast(body(inputs, training=False), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        score = head(features, training=False)[:, class_index]
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
    heat: np.ndarray = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))[0].numpy()
    return heat


def over_image(heat: np.ndarray, height: int, width: int, preprocessing: Preprocessing) -> np.ndarray:
    """Returns a map of the crop that a network sees, laid over the whole image and scaled to a maximum of 1.

    Args:
        heat: At least 0, (h, w).
        height: That of the image in pixels.
        width: That of the image in pixels.
        preprocessing: Its resizing and crop apply.

    Returns:
        float32 (height, width) in [0, 1], interpolated bilinearly; 0 outside the crop.
    """
    size = scaled_size(tf.constant([height, width]), preprocessing)
    corner = center(size, preprocessing.image_size).numpy()
    rows, columns = (
        _interpolation(length, int(size[i]), int(corner[i]), preprocessing.image_size[i], heat.shape[i])
        for i, length in enumerate((height, width))
    )
    scaled = heat / heat.max() if heat.max() > 0 else np.zeros_like(heat)
    return np.clip(rows @ scaled.astype(np.float32) @ columns.T, 0.0, 1.0)


def _interpolation(length: int, resized: int, corner: int, cropped: int, cells: int) -> np.ndarray:
    """Returns the weight of each cell of a map for each pixel of an image along one axis, float32 (length, cells)."""
    at = (np.arange(length) + 0.5) * resized / length - corner  # in pixels of the crop
    cell = np.clip(at * cells / cropped - 0.5, 0, cells - 1)
    low = np.floor(cell).astype(int)
    weights = np.zeros((length, cells), np.float32)
    pixels = np.arange(length)
    weights[pixels, low] = 1 - (cell - low)
    weights[pixels, np.minimum(low + 1, cells - 1)] += cell - low
    weights[(at < 0) | (at > cropped)] = 0
    return weights
