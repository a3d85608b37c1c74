"""An evaluation as slow as it is plain: Pillow resizes, NumPy crops and normalizes, one view after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from helpers.small_networks import drawn
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.evaluation.views import Views
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_CONVOLUTIONS = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="A")


def read(path: str, channels: int = 3) -> np.ndarray:
    """Returns the pixels of a file, uint8 (H, W, channels)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB" if channels == 3 else "L")).reshape(image.height, image.width, channels)


def size_at(image: np.ndarray, side: int | None, chosen: Preprocessing) -> tuple[int, int]:
    """Returns the height and width that an image is resized to for a shorter side; `None` is the classifier's own."""
    height, width = image.shape[:2]
    side = chosen.shorter_side if side is None else side
    if side is None:  # it just fills the network's input
        scale = max(chosen.image_size[0] / height, chosen.image_size[1] / width)
        return max(round(height * scale), chosen.image_size[0]), max(round(width * scale), chosen.image_size[1])
    longer = int(side * max(height, width) / min(height, width))
    return (side, longer) if height <= width else (longer, side)


def resized(image: np.ndarray, size: tuple[int, int], chosen: Preprocessing) -> np.ndarray:
    picture = Image.fromarray(image[..., 0] if chosen.channels == 1 else image)
    for step in ((size[1], picture.height), (size[1], size[0])):  # rows first, whatever the Pillow
        picture = picture.resize(step, _FILTERS[chosen.interpolation])
    return np.asarray(picture).reshape(*size, chosen.channels)


def shorter_sides(chosen: Preprocessing, views: Views) -> Sequence[int | None]:
    if views.scales:
        return views.scales
    if views.crops == "full":
        return [round(side / 224 * max(chosen.image_size)) for side in (224, 256, 384, 480, 640)]
    return [None]


def crops_of(image: np.ndarray, chosen: Preprocessing, views: Views, side: int | None) -> list[np.ndarray]:
    """Returns the views of an image at one scale, uint8."""
    image = resized(image, size_at(image, side, chosen), chosen)
    height, width = chosen.image_size
    below, beside = image.shape[0] - height, image.shape[1] - width
    center = (round(below / 2.0), round(beside / 2.0))  # torchvision's CenterCrop
    corners = {
        "center": [center],
        "ten": [center, (0, 0), (0, beside), (below, 0), (below, beside)],  # torchvision's TenCrop
        "full": [],
    }[views.crops]
    images = [image, image[:, ::-1]] if views.crops == "ten" else [image]
    crops = [each[top : top + height, left : left + width] for each in images for top, left in corners] or images
    if views.flip:
        crops += [crop[:, ::-1] for crop in crops]
    return crops


def normalized(pixels: np.ndarray, chosen: Preprocessing) -> np.ndarray:
    pixels = pixels.astype("float64")
    if chosen.channel_order == "bgr":
        pixels = pixels[..., [2, 1, 0]]
    return (pixels - np.array(chosen.mean)) / np.array(chosen.std)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


@dataclass(frozen=True)
class Member:
    """A classifier, and what it does by hand: a normalized view (H, W, C) -> logits (classes,)."""

    classifier: Classifier
    logits: Callable[[np.ndarray], np.ndarray]


def linear(chosen: Preprocessing, names: Sequence[str], seed: int = 0, *, softmax_at_end: bool = False) -> Member:
    """Returns a classifier of one layer, to which each pixel counts by its place."""
    rng = np.random.default_rng(seed)
    image = keras.Input((*chosen.image_size, chosen.channels))
    activation = "softmax" if softmax_at_end else None
    outputs = keras.layers.Dense(len(names), activation=activation)(keras.layers.Flatten()(image))
    model = keras.Model(image, outputs)
    size = int(np.prod(chosen.image_size)) * chosen.channels
    kernel, bias = rng.normal(0, 2 * size**-0.5, (size, len(names))), rng.normal(0, 0.3, len(names))
    model.set_weights([kernel, bias])
    return Member(Classifier(model, chosen, tuple(names)), lambda view: view.reshape(-1) @ kernel + bias)


def convolutional(
    chosen: Preprocessing, names: Sequence[str], seed: int = 0, *, softmax_at_end: bool = False
) -> Member:
    """Returns a small residual network; by hand, its classifier is applied at each place of the last feature map."""
    activation = "softmax" if softmax_at_end else None
    shape = (*chosen.image_size, chosen.channels)
    model = build(_CONVOLUTIONS, input_shape=shape, classes=len(names), classifier_activation=activation)
    drawn(model, seed)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([3 * kernel, bias])
    maps = build(_CONVOLUTIONS, include_top=False, input_shape=(None, None, chosen.channels))
    maps.set_weights(model.get_weights()[:-2])
    anywhere = tf.TensorSpec((1, None, None, chosen.channels), tf.float32)
    features = tf.function(lambda images: maps(images, training=False), input_signature=[anywhere])

    def logits(view: np.ndarray) -> np.ndarray:
        (places,) = np.asarray(features(view[None].astype("float32")), "float64")
        scores = [place @ (3 * kernel) + bias for row in places for place in row]
        return np.mean(scores, axis=0)

    return Member(Classifier(model, chosen, tuple(names)), logits)


def probabilities(members: Sequence[Member], image: np.ndarray, views: Views) -> np.ndarray:
    """Returns the prediction of an ensemble for one image: (classes,)."""
    scores = []
    for member in members:
        chosen = member.classifier.preprocessing
        for side in shorter_sides(chosen, views):
            for crop in crops_of(image, chosen, views, side):
                logits = member.logits(normalized(crop, chosen))
                scores.append(softmax(logits) if views.average == "probabilities" else logits)
    mean = np.mean(scores, axis=0)
    return mean if views.average == "probabilities" else softmax(mean)
