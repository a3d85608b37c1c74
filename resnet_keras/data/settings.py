"""Settings of the input pipeline, as the recipe's parts `data` and `augmentation`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from resnet_keras.checks.fields import Range, at_least, between, check_fields
from resnet_keras.data.preprocessing import Interpolation

AutoAugment = Literal["rand", "trivial"]
MixedLabels = Literal["parts", "whole"]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Data: data set, image sizes, batch size.

    Raises:
        ValueError: A field is out of its range.
    """

    dataset: Annotated[str, Range("the name of a data set", bool)]
    """Data set: digits, cifar10, cifar100, imagenet2012, folder, or a set of TFDS with labels, masks, or boxes."""
    train_images: Annotated[int | None, at_least(1)] = None
    """Number of training images, drawn with the classes in their proportions; all if None."""
    image_size: Annotated[int | None, at_least(1)] = None
    """Height and width of the network's input in pixels; those of the weights, data set or network if None."""
    crop_size: Annotated[tuple[int, int] | None, Range("two lengths of at least 1", lambda size: min(size) >= 1)] = None
    """Height and width of the input of a segmentation network in pixels; image_size for both if None."""
    ignored_label: Annotated[int, between(0, 255)] = 255
    """Label of pixels in masks that do not count."""
    train_sizes: Annotated[tuple[int, ...], Range("at least 1", lambda sizes: all(size >= 1 for size in sizes))] = ()
    """Height and width in training, if not image_size (arXiv:1906.06423): one, or several for as many equal phases."""
    batch_size: Annotated[int, at_least(1)] = 256
    """Images per step, over all replicas."""
    batch_fraction: Annotated[float | None, between(0, 1, open_low=True)] = None
    """Largest fraction of the training images in a batch: few images are trained in smaller batches."""
    carry_over: bool = False
    """Fill the last batch of an epoch with images of the next; otherwise images that fill no batch are left out."""
    test_shorter_side: Annotated[int | None, at_least(1)] = None
    """Shorter side of test images in pixels before the center crop; that of the weights or the image size if None."""
    interpolation: Interpolation | None = None
    """Interpolation of resized images; that of the weights, or bilinear, if None."""

    def __post_init__(self) -> None:
        check_fields(self)

    def train_size(self, epoch: int, epochs: int) -> int | None:
        """Returns height and width in training in epoch `epoch` of `epochs`, counted from 0; `None` for image_size."""
        return self.train_sizes[epoch * len(self.train_sizes) // epochs] if self.train_sizes else None


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation: random changes of training images and labels.

    Raises:
        ValueError: A field is out of its range, or two fields exclude each other.
    """

    shorter_side: Annotated[
        tuple[int, int] | None, Range("two rising lengths in pixels", lambda sides: 0 < sides[0] <= sides[1])
    ] = None
    """Range in pixels of an image's shorter side, resized at random before the crop (paper, section 3.4)."""
    crop_area: Annotated[
        tuple[float, float] | None, Range("two rising fractions in (0, 1]", lambda area: 0 < area[0] <= area[1] <= 1)
    ] = None
    """Range of a random crop's area as a fraction of the image, of aspect ratio 3/4 to 4/3 (arXiv:1409.4842)."""
    random_scale: Annotated[
        tuple[float, float] | None, Range("two rising factors above 0", lambda scale: 0 < scale[0] <= scale[1])
    ] = None
    """Range of the factor that image and mask are scaled by before the crop, in segmentation; none if None."""
    pad_pixels: Annotated[int, at_least(0)] = 0
    """Pixels of padding on each side before a random crop (paper, section 4.2)."""
    flip: bool = False
    """Mirror half of the training images at random."""
    alternate_flip: bool = False
    """Mirror each image in every other epoch, starting from a random half (arXiv:2404.00498, section 3.6)."""
    pca_lighting: Annotated[float, at_least(0)] = 0.0
    """Standard deviation of noise along the principal colors of ImageNet (paper, section 3.4; AlexNet, section 4.1)."""
    auto_augment: AutoAugment | None = None
    """Random operations on color and shape: RandAugment (arXiv:1909.13719) or TrivialAugment (arXiv:2103.10158)."""
    auto_augment_layers: Annotated[int, at_least(1)] = 2
    """Operations of RandAugment per image, each applied with probability 0.5."""
    auto_augment_magnitude: Annotated[float, between(0, 10)] = 7.0
    """Magnitude of RandAugment's operations, from 0 to 10."""
    auto_augment_magnitude_std: Annotated[float, at_least(0)] = 0.5
    """Standard deviation of that magnitude."""
    erase: Annotated[float, between(0, 1)] = 0.0
    """Probability that a random rectangle is set to the mean color (random erasing, arXiv:1708.04896)."""
    mixup: Annotated[float, at_least(0)] = 0.0
    """Alpha of the beta distribution of MixUp's weights (arXiv:1710.09412); 0 disables it."""
    cutmix: Annotated[float, at_least(0)] = 0.0
    """Alpha of the beta distribution of CutMix's areas (arXiv:1905.04899); 0 disables it. With MixUp, half each."""
    mixed_labels: MixedLabels = "parts"
    """Labels of a mixed image: each class by its part, or 1 for every class with more than 0.2 (arXiv:2110.00476)."""
    label_smoothing: Annotated[float, between(0, 1, open_high=True)] = 0.0
    """Fraction of each label spread over all classes (arXiv:1512.00567, section 7)."""
    repeated_augmentation: Annotated[int, at_least(1)] = 1
    """Copies of each image in its batch, each augmented independently (arXiv:1901.09335)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.crop_area and self.shorter_side:
            raise ValueError(
                f"Expected `crop_area` to be None, as `shorter_side` is given. Received: {self.crop_area!r}"
            )
        if self.alternate_flip and not self.flip:
            raise ValueError("Expected `alternate_flip` to be False without `flip`. Received: True")

    @property
    def soft_labels(self) -> bool:
        """Whether labels are probabilities of several classes."""
        return bool(self.mixup or self.cutmix or self.label_smoothing)

    @property
    def crops_each_image(self) -> bool:
        """Whether each image is cropped by itself, before it joins a batch."""
        return bool(self.shorter_side or self.crop_area)
