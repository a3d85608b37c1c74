"""A recipe: what decides the result of a training run, as typed data (arXiv:1512.03385, §3.4 and §4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from resnet_keras.fields import expect_choices
from resnet_keras.networks.architecture import (
    Architecture,
    BatchNorm,
    Part,
    Shortcut,
)
from resnet_keras.networks.catalog import architecture
from resnet_keras.networks.conventions import BottleneckStride, Conventions, ZeroChannels

Schedule = Literal["step", "cosine", "one_cycle"]
Loss = Literal["softmax", "binary"]
Decayed = Literal["all", "kernels"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Optimizer = Literal["sgd", "lamb"]
Policy = Literal["rand", "trivial"]
MixedLabels = Literal["parts", "whole"]
Resampling = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides the result of a run. Where and on what it runs is not part of it.

    Raises:
        ValueError: A name is unknown, or a number is out of its range.
    """

    model: str
    """Network to train, e.g. resnet50."""
    dataset: str
    """Data set: digits, cifar10, cifar100, imagenet2012, folder, or any image classification set of TFDS."""
    shortcut: Shortcut | None = None
    """Option of shortcuts (paper, section 3.3); the network's own if None."""
    zero_channels: ZeroChannels | None = None
    """Where shortcut option A adds zero channels; behind, or where the weights want them, if None."""
    bottleneck_stride: BottleneckStride | None = None
    """Convolution of a bottleneck with its stride: 1x1 (paper) or 3x3 (torchvision); as the weights want it if None."""
    batch_norm: BatchNorm = "per_replica"
    """Images that batch normalization takes its statistics from, with several replicas."""
    weights: str | None = None
    """Whence the initial weights come: a file or folder, imagenet, torchvision or hf://OWNER/NAME; random if None."""
    whiten: bool = False
    """Whether the stem begins as filters that decorrelate the training images' patches."""
    freeze: Part | None = None
    """Last part of the network that does not learn, with all before it; none if None."""
    freeze_batch_norms: bool = False
    """Whether all batch normalizations rest, also in parts that learn."""
    qat: bool = False
    """Whether the network learns to compute in int8 (arXiv:1712.05877), with batch normalization folded."""
    distill: bool = False
    """Whether it learns what the network of the initial weights answers, in place of the labels (arXiv:1503.02531)."""
    train_images: int | None = None
    """Train on at most this many images, the classes in their proportions; all if None."""
    image_size: int | None = None
    """Height and width that the network sees, in pixels; those of the weights, data set or network if None."""
    train_sizes: tuple[int, ...] = ()
    """Height and width in training, where others than image_size (arXiv:1906.06423): one, or some for as many parts."""
    epochs: int = 120
    """Passes over the training images, or over as many as they are."""
    batch_size: int = 256
    """Images per step, over all replicas."""
    accumulate: int = 1
    """Parts of a batch that are computed one after another, to save memory; the step is that of the whole batch."""
    rematerialize: bool = False
    """Whether the blocks' activations are computed anew in the backward pass, to save memory (arXiv:1604.06174)."""
    optimizer: Optimizer = "sgd"
    """SGD with momentum, or LAMB (arXiv:1904.00962)."""
    schedule: Schedule = "step"
    """Learning rate after the warm-up: lower at each of lr_drops, half a cosine to 0, or a line to 0."""
    peak_lr: float = 0.1
    """Learning rate after the warm-up."""
    lr_batch_size: int | None = None
    """Batch that the rates are for: with another they change in proportion (arXiv:1706.02677); never if None."""
    lr_drops: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Where a step schedule lowers the rate, as fractions of the run."""
    lr_factor: float = 0.1
    """What it multiplies the rate by at each of them."""
    warmup_steps: int = 0
    """Steps from warmup_lr to peak_lr: a rise, or with a step schedule at warmup_lr throughout."""
    warmup_epochs: float = 0.0
    """Epochs of warm-up, beside warmup_steps."""
    warmup_lr: float = 0.01
    """Learning rate of the warm-up."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Whether the momentum is Nesterov's."""
    l2: float = 1e-4
    """Weight decay, as the paper's framework has it: an L2 term in the gradient, with half this factor in the loss."""
    weight_decay: float = 0.0
    """Decay apart from the gradient (arXiv:1711.05101), times the learning rate; with LAMB, a part of its update."""
    l2_on: Decayed = "all"
    """What decays: all trainable weights, or kernels alone (neither biases nor batch normalization)."""
    clip_norm: float | None = None
    """Largest norm of all gradients together, to which longer ones are shortened; any if None."""
    ema: float = 0.0
    """Part that a moving average of weights and statistics keeps at each step; it is the result. None if 0."""
    loss: Loss = "softmax"
    """Cross-entropy of one choice among all classes, or of each class for itself (arXiv:2110.00476, section 2)."""
    label_smoothing: float = 0.0
    """Part of each label that is spread over all classes (arXiv:1512.00567, section 7)."""
    mixup: float = 0.0
    """Alpha of the beta distribution by which two images are blended (arXiv:1710.09412); 0 is never."""
    cutmix: float = 0.0
    """The same for a patch of one image in another (arXiv:1905.04899); with both, each has half of the batches."""
    mixed_labels: MixedLabels = "parts"
    """Of a mixed image, each class by its part, or every class of a fifth or more as whole (arXiv:2110.00476)."""
    erase: float = 0.0
    """Probability that a rectangle of an image becomes the mean color (arXiv:1708.04896)."""
    policy: Policy | None = None
    """Random operations on colors and shape: RandAugment (arXiv:1909.13719), TrivialAugment (arXiv:2103.10158)."""
    policy_layers: int = 2
    """Operations of RandAugment, each with probability one half."""
    policy_magnitude: float = 7.0
    """Their strength, from 0 to 10."""
    policy_spread: float = 0.5
    """Standard deviation of that strength."""
    repeats: int = 1
    """Times that an image stands in its batch, each time augmented anew (arXiv:1901.09335)."""
    stochastic_depth: float = 0.0
    """Probability that training leaves the last block's residual function out (arXiv:1603.09382)."""
    zero_init_residual: bool = False
    """Whether each block begins as its shortcut (arXiv:1706.02677, section 5.1)."""
    crop_area: tuple[float, float] | None = None
    """Range of a random crop's part of the image, of an aspect from 3/4 to 4/3 (arXiv:1409.4842, section 6)."""
    shorter_side: tuple[int, int] | None = None
    """Range, in pixels, that an image's shorter side is resized to at random before the crop (section 3.4)."""
    test_shorter_side: int | None = None
    """Shorter side, in pixels, of a test image before the central crop; as the weights have it, or the image size."""
    interpolation: Resampling | None = None
    """How images are resized; as the weights have it, or bilinear."""
    pad_pixels: int = 0
    """Pixels of padding on each side before a random crop (section 4.2)."""
    flip: bool = False
    """Whether half the training images are mirrored, at random."""
    alternate_flip: bool = False
    """Whether that is half at random in the first epoch, and from then on in turn (arXiv:2404.00498, section 3.6)."""
    test_flip: bool = False
    """Whether the final evaluation shows each image mirrored, too, and averages both."""
    color_noise: float = 0.0
    """Standard deviation of noise along the principal colors of ImageNet (section 3.4; AlexNet, section 4.1)."""
    precision: Precision = "float32"
    """Precision policy of Keras."""
    seed: int = 0
    """Of the initial weights, the order of the images and their augmentation."""

    def __post_init__(self) -> None:
        self.architecture  # noqa: B018  (raises for an unknown network or option)
        expect_choices(self)
        for field, (expected, holds) in _RANGES.items():
            self._expect(holds(getattr(self, field)), field, expected)
        for field, (expected, holds) in _OPTIONAL_RANGES.items():
            value = getattr(self, field)
            self._expect(value is None or holds(value), field, f"{expected}, or None")
        stride = self.architecture.total_stride
        side = self.image_size or self.architecture.image_size
        self._expect(self.image_size is None or self.image_size >= stride, "image_size", "at least the total stride")
        self._expect(all(s >= stride for s in self.train_sizes), "train_sizes", "at least the total stride")
        self._expect(len(self.train_sizes) <= self.epochs, "train_sizes", "at most as many as epochs")
        for field, least in (("shorter_side", max(self.train_sizes, default=side)), ("test_shorter_side", side)):
            value = getattr(self, field)
            shortest = value[0] if isinstance(value, tuple) else value
            self._expect(value is None or shortest >= least, field, "no shorter than the image size")
        self._expect(not (self.crop_area and self.shorter_side), "crop_area", "None, where `shorter_side` is given")
        self._expect(not self.l2 or self.optimizer == "sgd", "l2", "0 with LAMB, whose decay is `weight_decay`")
        self._expect(self.batch_size % self.accumulate == 0, "accumulate", f"a divisor of {self.batch_size}")
        self._expect(self.flip or not self.alternate_flip, "alternate_flip", "False without `flip`")
        self._expect(not self.whiten or self.weights is None, "whiten", "False, where `weights` are given")
        self._expect(
            not self.qat or self.precision == "float32", "precision", "float32 with `qat`, which rounds by itself"
        )
        self._expect(not self.qat or self.batch_norm == "per_replica", "batch_norm", "per_replica with `qat`, at rest")
        self._expect(not (self.distill and self.loss == "binary"), "loss", "softmax with `distill`")

    def _expect(self, holds: bool, field: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"Expected `{field}` to be {expected}. Received: {getattr(self, field)!r}")

    @property
    def architecture(self) -> Architecture:
        """The network's row of the table, with this recipe's options."""
        row = architecture(self.model)
        if row.shortcut is None and self.shortcut is not None:
            raise ValueError(f"Expected `shortcut` to be None: {self.model} has none. Received: {self.shortcut!r}")
        conventions = Conventions(zero_channels=self.zero_channels, bottleneck_stride=self.bottleneck_stride)
        return replace(
            row,
            shortcut=self.shortcut or row.shortcut,
            conventions=row.conventions.merged(conventions),
            batch_norm=self.batch_norm,
            stochastic_depth=self.stochastic_depth,
            zero_init_residual=self.zero_init_residual,
        )

    @property
    def soft_labels(self) -> bool:
        """Whether an image may have parts of several classes, or each class is judged for itself."""
        return bool(self.mixup or self.cutmix or self.label_smoothing or self.loss == "binary" or self.distill)

    @property
    def crops_each_image(self) -> bool:
        """Whether each training image is cropped for itself, and not with its batch."""
        return bool(self.shorter_side or self.crop_area)

    @property
    def lr_scale(self) -> float:
        """What the learning rates are multiplied by, for the size of the batch."""
        return self.batch_size / self.lr_batch_size if self.lr_batch_size else 1.0

    def size_in(self, epoch: int) -> int | None:
        """Returns height and width in training in an epoch, counted from 0; `None` if those of evaluation."""
        if not self.train_sizes:
            return None
        return self.train_sizes[epoch * len(self.train_sizes) // self.epochs]


def _rises(values: tuple[float, ...]) -> bool:
    return list(values) == sorted(set(values)) and all(0 < value < 1 for value in values)


_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "dataset": ("the name of a data set", bool),
    **{
        field: ("at least 1", lambda value: value >= 1)
        for field in ("epochs", "batch_size", "accumulate", "repeats", "policy_layers")
    },
    **{
        field: ("at least 0", lambda value: value >= 0)
        for field in (
            *("warmup_steps", "warmup_epochs", "pad_pixels", "color_noise", "l2", "weight_decay"),
            *("mixup", "cutmix", "policy_spread", "seed"),
        )
    },
    **{field: ("above 0", lambda value: value > 0) for field in ("peak_lr", "warmup_lr")},
    **{field: ("in [0, 1)", lambda value: 0 <= value < 1) for field in ("momentum", "label_smoothing", "ema")},
    "lr_factor": ("in (0, 1)", lambda value: 0 < value < 1),
    "erase": ("in [0, 1]", lambda value: 0 <= value <= 1),
    "policy_magnitude": ("in [0, 10]", lambda value: 0 <= value <= 10),
    "lr_drops": ("rising fractions in (0, 1)", _rises),
}
_OPTIONAL_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "train_images": ("at least 1", lambda value: value >= 1),
    "lr_batch_size": ("at least 1", lambda value: value >= 1),
    "clip_norm": ("above 0", lambda value: value > 0),
    "crop_area": ("two rising parts in (0, 1]", lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1),
    "shorter_side": ("two rising lengths in pixels", lambda value: len(value) == 2 and 0 < value[0] <= value[1]),
}
