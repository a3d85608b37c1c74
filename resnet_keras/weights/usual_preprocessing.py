"""The preprocessing that is usual for the networks of libraries, for sources that do not give their own."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_keras.data.datasets import DATASETS
from resnet_keras.data.preprocessing import ChannelOrder, Preprocessing


@dataclass(frozen=True)
class UsualPreprocessing:
    """The preprocessing that is usual for a library's networks, and a sentence about it for the report."""

    preprocessing: Preprocessing
    note: str


def for_photos(
    mean: tuple[float, ...], std: tuple[float, ...], note: str, order: ChannelOrder = "rgb"
) -> UsualPreprocessing:
    """Returns the preprocessing of ImageNet's photographs: the center of 224 of 256 pixels (paper, §3.4)."""
    preprocessing = Preprocessing(
        image_size=(224, 224), channels=3, mean=mean, std=std, shorter_side=256, channel_order=order
    )
    return UsualPreprocessing(preprocessing, f"{note}; 224 of 256 pixels, bilinear")


def for_small_images(mean: tuple[float, ...], std: tuple[float, ...], note: str) -> UsualPreprocessing:
    """Returns the preprocessing of CIFAR's images, of 32 x 32 pixels (paper, §4.2)."""
    return UsualPreprocessing(Preprocessing(image_size=(32, 32), channels=3, mean=mean, std=std), note)


_IMAGENET, _CIFAR10 = DATASETS["imagenet2012"], DATASETS["cifar10"]
IMAGENET_PHOTOS = for_photos(_IMAGENET.mean, _IMAGENET.std, "pixels are normalized by ImageNet's mean and std")
KERAS_PHOTOS = for_photos(
    (103.939, 116.779, 123.68), (1.0,) * 3, "pixels become BGR and lose the authors' mean color", "bgr"
)
KERAS_V2_PHOTOS = for_photos((127.5,) * 3, (127.5,) * 3, "pixels become -1 to 1")
CIFAR10_IMAGES = for_small_images(_CIFAR10.mean, _CIFAR10.std, "pixels are normalized by CIFAR-10's mean and std")
# akamaster/pytorch_resnet_cifar10, whose networks have option A, normalizes CIFAR-10 by ImageNet's mean and std.
OPTION_A_IMAGES = for_small_images(_IMAGENET.mean, _IMAGENET.std, "pixels are normalized by ImageNet's mean and std")
