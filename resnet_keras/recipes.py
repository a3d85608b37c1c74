"""Recipes: what decides the result of a training run, as typed data (arXiv:1512.03385, §3.4 and §4.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from resnet_keras.architectures import (
    ARCHITECTURES,
    Architecture,
    BatchNorm,
    BottleneckStride,
    Part,
    Shortcut,
    ZeroChannels,
    architecture,
)

Schedule = Literal["step", "cosine", "one_cycle"]
Loss = Literal["softmax", "binary"]
Decayed = Literal["all", "kernels"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


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
    """Images that batch normalisation takes its statistics from, with several replicas."""
    weights: str | None = None
    """Whence the initial weights come: a file or folder, imagenet, torchvision or hf://OWNER/NAME; random if None."""
    freeze: Part | None = None
    """Last part of the network that does not learn, with all before it; none if None."""
    freeze_batch_norms: bool = False
    """Whether all batch normalisations rest, also in parts that learn."""
    train_images: int | None = None
    """Train on at most this many images, the classes in their proportions; all if None."""
    image_size: int | None = None
    """Height and width that the network sees, in pixels; those of the weights, data set or network if None."""
    epochs: int = 120
    """Passes over the training images."""
    batch_size: int = 256
    """Images per step, over all replicas."""
    schedule: Schedule = "step"
    """Learning rate after the warm-up: tenfold lower at each of lr_drops, half a cosine to 0, or a line to 0."""
    peak_lr: float = 0.1
    """Learning rate after the warm-up."""
    lr_drops: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Where a step schedule divides the rate by 10, as fractions of the run."""
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
    l2_on: Decayed = "all"
    """What decays: all trainable weights, or kernels alone (neither biases nor batch normalisation)."""
    clip_norm: float | None = None
    """Largest norm of all gradients together, to which longer ones are shortened; any if None."""
    loss: Loss = "softmax"
    """Cross-entropy of one choice among all classes, or of each class for itself (arXiv:2110.00476, section 2)."""
    label_smoothing: float = 0.0
    """Part of each label that is spread over all classes (arXiv:1512.00567, section 7)."""
    mixup: float = 0.0
    """Alpha of the beta distribution by which two images are blended (arXiv:1710.09412); 0 is never."""
    cutmix: float = 0.0
    """The same for a patch of one image in another (arXiv:1905.04899); with both, each has half of the batches."""
    erase: float = 0.0
    """Probability that a rectangle of an image becomes the mean colour (arXiv:1708.04896)."""
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
    pad_pixels: int = 0
    """Pixels of padding on each side before a random crop (section 4.2)."""
    flip: bool = False
    """Whether half the training images are mirrored, at random."""
    color_noise: float = 0.0
    """Standard deviation of noise along the principal colours of ImageNet (section 3.4; AlexNet, section 4.1)."""
    precision: Precision = "float32"
    """Precision policy of Keras."""
    seed: int = 0
    """Of the initial weights, the order of the images and their augmentation."""

    def __post_init__(self) -> None:
        self.architecture  # noqa: B018  (raises for an unknown network or option)
        for field, choices in (("schedule", Schedule), ("l2_on", Decayed), ("precision", Precision), ("loss", Loss)):
            self._expect(getattr(self, field) in get_args(choices), field, f"one of {get_args(choices)}")
        self._expect(bool(self.dataset), "dataset", "the name of a data set")
        self._expect(self.freeze in (None, *get_args(Part)), "freeze", f"one of {get_args(Part)}, or None")
        self._expect(self.train_images is None or self.train_images >= 1, "train_images", "at least 1, or None")
        for field in ("epochs", "batch_size"):
            self._expect(getattr(self, field) >= 1, field, "at least 1")
        for field in ("warmup_steps", "pad_pixels", "color_noise", "l2", "seed", "warmup_epochs", "mixup", "cutmix"):
            self._expect(getattr(self, field) >= 0, field, "at least 0")
        self._expect(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")
        self._expect(0 <= self.erase <= 1, "erase", "in [0, 1]")
        self._expect(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "above 0, or None")
        area = self.crop_area or (1.0, 1.0)
        self._expect(len(area) == 2 and 0 < area[0] <= area[1] <= 1, "crop_area", "two rising parts in (0, 1]")
        self._expect(not (self.crop_area and self.shorter_side), "crop_area", "None, where `shorter_side` is given")
        for field in ("peak_lr", "warmup_lr"):
            self._expect(getattr(self, field) > 0, field, "above 0")
        self._expect(0 <= self.momentum < 1, "momentum", "in [0, 1)")
        drops = self.lr_drops
        self._expect(
            list(drops) == sorted(set(drops)) and all(0 < d < 1 for d in drops),
            "lr_drops",
            "rising fractions in (0, 1)",
        )
        size = self.image_size
        self._expect(size is None or size >= self.architecture.total_stride, "image_size", "at least the total stride")
        sides = self.shorter_side or (1, 1)
        self._expect(len(sides) == 2 and 0 < sides[0] <= sides[1], "shorter_side", "two rising lengths in pixels")
        self._expect(
            self.shorter_side is None or sides[0] >= (size or self.architecture.image_size),
            "shorter_side",
            "no shorter than the image size",
        )
        self._expect(
            self.test_shorter_side is None or self.test_shorter_side >= (size or self.architecture.image_size),
            "test_shorter_side",
            "no shorter than the image size",
        )

    def _expect(self, holds: bool, field: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"Expected `{field}` to be {expected}. Received: {getattr(self, field)!r}")

    @property
    def architecture(self) -> Architecture:
        """The network's row of the table, with this recipe's options."""
        row = architecture(self.model)
        if row.shortcut is None and self.shortcut is not None:
            raise ValueError(f"Expected `shortcut` to be None: {self.model} has none. Received: {self.shortcut!r}")
        return replace(
            row,
            shortcut=self.shortcut or row.shortcut,
            zero_channels=self.zero_channels or row.zero_channels,
            bottleneck_stride=self.bottleneck_stride or row.bottleneck_stride,
            batch_norm=self.batch_norm,
            stochastic_depth=self.stochastic_depth,
            zero_init_residual=self.zero_init_residual,
        )

    @property
    def soft_labels(self) -> bool:
        """Whether an image may have parts of several classes, or each class is judged for itself."""
        return bool(self.mixup or self.cutmix or self.label_smoothing or self.loss == "binary")


_IMAGENET = Recipe(
    model="resnet50",
    dataset="imagenet2012",
    # §3.4: up to 60 x 10^4 iterations of 256 images, 120 epochs. The rate falls "when the error plateaus"; the fixed
    # thirds of the widespread 30-60-90 schedule stand for the authors' eye.
    epochs=120,
    batch_size=256,
    peak_lr=0.1,
    lr_drops=(0.25, 0.5, 0.75),
    shorter_side=(256, 480),
    test_shorter_side=256,
    flip=True,
    color_noise=0.1,
)
_CIFAR10 = Recipe(
    model="resnet20",
    dataset="cifar10",
    # §4.2: 64k iterations of 128 images, 164 epochs; the rate falls at 32k and 48k.
    epochs=164,
    batch_size=128,
    peak_lr=0.1,
    lr_drops=(0.5, 0.75),
    pad_pixels=4,
    flip=True,
)
_FINETUNE = Recipe(
    model="resnet18",
    dataset="folder",
    weights="imagenet",
    # A few hundred or thousand images of one's own. Measured with ResNet-18 on 500 images of CIFAR-10 at 96 pixels:
    # at a peak rate of 0.003 the loss falls steadily, at 0.01 it does not.
    epochs=20,
    batch_size=32,
    schedule="cosine",
    peak_lr=0.003,
    warmup_steps=20,
    warmup_lr=0.0003,
    shorter_side=(256, 320),
    flip=True,
)
# 200 epochs of what a decade of practice has added for small images: a cosine, Nesterov's momentum and five times the
# decay, on the same crops and flips. Published elsewhere with these: 92.6, 93.5, 94.0 and 94.4 % for 20, 32, 44, 56.
_MODERN = replace(_CIFAR10, epochs=200, schedule="cosine", warmup_epochs=5, warmup_lr=0.01, nesterov=True, l2=5e-4)
# torchvision's references/classification: the first weights that it published (V1), 90 epochs.
_TORCHVISION = replace(
    _IMAGENET,
    bottleneck_stride="3x3",
    epochs=90,
    lr_drops=(1 / 3, 2 / 3),
    crop_area=(0.08, 1.0),
    shorter_side=None,
    color_noise=0.0,
)
_WARM = {"warmup_steps": 400, "warmup_lr": 0.01}  # §4.2, for 110 layers: "about 400 iterations"

RECIPES: dict[str, Recipe] = {
    # Handwritten digits of 8x8 pixels, in the package: the whole path in minutes on any machine.
    "digits_resnet20": Recipe(
        model="resnet20",
        dataset="digits",
        epochs=40,
        batch_size=32,
        schedule="cosine",
        peak_lr=0.05,
        warmup_steps=40,
        pad_pixels=1,
        l2=5e-4,
    ),
    # From weights of ImageNet to images of one's own: --data-dir, and --weights FILE if not by the network.
    **{
        f"finetune_{name}": replace(_FINETUNE, model=name)
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    },
    # Validation error of the paper, top-1, 10-crop (Table 2 and 3): 27.88, 24.52 (B), 22.85, 21.75, 21.43 %; plain
    # 27.94 and 28.54 %.
    **{
        f"imagenet_{name}": replace(_IMAGENET, model=name)
        for name, row in ARCHITECTURES.items()
        if row.stem == "imagenet"
    },
    # Validation error of torchvision's V1 weights, top-1, 1-crop: 30.24, 26.69, 23.87, 22.63, 21.69 %.
    **{
        f"imagenet_torchvision_{name}": replace(_TORCHVISION, model=name)
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    },
    # Test accuracy published for this kind of recipe: 92.6, 93.5, 94.0, 94.4 %. Not measured here.
    **{
        f"cifar10_modern_{name}": replace(_MODERN, model=name)
        for name in ("resnet20", "resnet32", "resnet44", "resnet56")
    },
    # Test error of the paper (Table 6): 8.75, 7.51, 7.17, 6.97, 6.43 (6.61 ± 0.16 over 5 runs), 7.93 %.
    **{
        f"cifar10_{name}": replace(_CIFAR10, model=name, **(_WARM if row.depth >= 110 else {}))  # type: ignore[arg-type]
        for name, row in ARCHITECTURES.items()
        if row.stem == "cifar"
    },
}
"""Recipes by name. A variant is `dataclasses.replace(RECIPES[name], field=value)`, or a flag of `resnet-train`."""
