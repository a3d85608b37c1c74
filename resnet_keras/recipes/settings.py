"""Settings of network, optimization, schedule and evaluation, each a part of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from resnet_keras.checks.fields import Range, above, at_least, between, check_fields
from resnet_keras.networks.architecture import (
    Architecture,
    BatchNorm,
    Part,
    Shortcut,
)
from resnet_keras.networks.catalog import architecture, network_name
from resnet_keras.networks.conventions import BottleneckStride, Conventions, ZeroChannels

Head = Literal["fcn", "deeplabv3", "unet", "box"]
LRSchedule = Literal["step", "cosine", "one_cycle", "poly"]
Loss = Literal["softmax", "binary"]
DecayOn = Literal["all", "kernels"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Optimizer = Literal["sgd", "muon", "lamb"]
DetectorName = Literal["fpn", "fpn_v2", "c4"]
INITIAL = "initial"
"""As a teacher: the network of the initial weights."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Network: architecture, initial weights, trainable parts.

    Raises:
        ValueError: The network is unknown, or a field is out of its range.
    """

    model: str
    """Network to train, e.g. resnet50; `resnet networks` lists all."""
    head: Head | None = None
    """Head over the maps: of a segmentation network, or box, one for each class; that of a classifier if None."""
    output_stride: Literal[8, 16, 32] | None = None
    """Pixels of the image per pixel of the last map, by dilation, with the heads fcn and deeplabv3; 8 if None."""
    shortcut: Shortcut | None = None
    """Shortcut option of the paper (section 3.3); the network's own if None."""
    zero_channels: ZeroChannels | None = None
    """Position of the zero channels of shortcut option A; that of the weights, or the network's own, if None."""
    bottleneck_stride: BottleneckStride | None = None
    """Convolution of a bottleneck with the stride, 1x1 (paper) or 3x3 (torchvision); that of the weights if None."""
    batch_norm: BatchNorm = "per_replica"
    """Images that batch normalization computes its statistics over, with several replicas."""
    stochastic_depth: Annotated[float, between(0, 1, open_high=True)] = 0.0
    """Probability that training drops the last residual branch (stochastic depth, arXiv:1603.09382)."""
    zero_init_residual: bool = False
    """Initialize the last scale of each residual branch to 0 (arXiv:1706.02677, section 5.1)."""
    weights: str | None = None
    """Source of the initial weights: a file or folder, imagenet, torchvision or hf://OWNER/NAME; random if None."""
    weights_prefix: str | None = None
    """Beginning of the names of the network's tensors, if the file of the weights has several: encoder_q, teacher."""
    weights_averaged: bool = True
    """Begin with the moving average of the weights, if the file has both (timm's model_ema)."""
    fit_head: bool = False
    """With weights of other classes, fit the classifier to features before the rest is trained (arXiv:2202.10054)."""
    freeze: Part | None = None
    """Last frozen part of the network; all parts before it are frozen, too. None freezes nothing."""
    freeze_batch_norms: bool = False
    """Run all batch normalizations in inference mode, also in trainable parts."""
    whiten_stem: bool = False
    """Initialize the stem with filters that whiten patches of the training images (arXiv:2404.00498, section 3.2)."""
    quantization_aware: bool = False
    """Quantization-aware training for int8 (arXiv:1712.05877), with batch normalization folded."""
    rematerialize: bool = False
    """Gradient checkpointing: recompute the blocks' activations in the backward pass (arXiv:1604.06174)."""

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "model", network_name(self.model))
        self.architecture  # noqa: B018  (raises for an option that it lacks)
        if self.whiten_stem and self.weights is not None:
            raise ValueError(
                f"Expected `whiten_stem` to be False, as `weights` are given. Received: {self.whiten_stem}"
            )
        if self.quantization_aware and self.batch_norm != "per_replica":
            raise ValueError(
                "Expected `batch_norm` to be per_replica with `quantization_aware`, where batch normalization runs in "
                f"inference mode. Received: {self.batch_norm!r}"
            )

    @property
    def architecture(self) -> Architecture:
        """Architecture of the network, with these options."""
        return self.applied_to(architecture(self.model))

    @property
    def title(self) -> str:
        """The network in words, with its head and the output stride if it has a head."""
        if self.head is None:
            return self.model
        dilated = "" if self.head in ("unet", "box") else f" at output stride {self.output_stride or 8}"
        return f"{self.head} over {self.model}{dilated}"

    def applied_to(self, row: Architecture) -> Architecture:
        """Returns an architecture with these options, e.g. one that follows the conventions of weights."""
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


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """Optimization: loss, optimizer, regularization, precision.

    Raises:
        ValueError: A field is out of its range, or two fields exclude each other.
    """

    optimizer: Optimizer = "sgd"
    """SGD with momentum, Muon (kellerjordan.github.io/posts/muon), or LAMB (arXiv:1904.00962)."""
    kernel_rate: Annotated[float, above(0)] = 0.3
    """With Muon, length of a kernel's update relative to the kernel, as a multiple of the learning rate."""
    momentum: Annotated[float, between(0, 1, open_high=True)] = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Use Nesterov's momentum."""
    l2: Annotated[float, at_least(0)] = 1e-4
    """Weight decay of the paper: an L2 term in the gradient, with half this factor in the loss."""
    weight_decay: Annotated[float, at_least(0)] = 0.0
    """Decoupled weight decay (arXiv:1711.05101), times the learning rate; with LAMB, part of its update."""
    decay_on: DecayOn = "all"
    """Weights that decay: all trainable ones, or kernels alone (neither biases nor batch normalization)."""
    clip_norm: Annotated[float | None, above(0)] = None
    """Maximum global norm of the gradients; longer gradients are scaled down. None disables it."""
    ema: Annotated[float, between(0, 1, open_high=True)] = 0.0
    """Decay per step of an exponential moving average of the weights, which becomes the result; 0 disables it."""
    loss: Loss = "softmax"
    """Cross-entropy of a softmax, or binary cross-entropy of each class (arXiv:2110.00476, section 2)."""
    auxiliary_loss: Annotated[float, at_least(0)] = 0.0
    """Weight of the loss of a second head on C4 (arXiv:1612.01105, section 3.3), with fcn and deeplabv3; none if 0."""
    teacher: str | None = None
    """Classifier to distill from (arXiv:1503.02531): a run, a file, a name; initial is that of the initial weights."""
    teacher_share: Annotated[float, between(0, 1, open_low=True)] = 1.0
    """With a teacher, weight of its probabilities in the loss; the labels have the rest."""
    temperature: Annotated[float, above(0)] = 1.0
    """With a teacher, divisor of the logits of both networks, which softens their probabilities."""
    accumulate: Annotated[int, at_least(1)] = 1
    """Microbatches per step, whose gradients are accumulated to save memory."""
    precision: Precision = "float32"
    """Keras's dtype policy."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.l2 and self.optimizer == "lamb":
            raise ValueError(f"Expected `l2` to be 0 with LAMB, which decays by `weight_decay`. Received: {self.l2!r}")
        if self.teacher and self.loss == "binary":
            raise ValueError(f"Expected `loss` to be softmax with `teacher`. Received: {self.loss!r}")
        if self.teacher is None and (self.teacher_share, self.temperature) != (1, 1):
            name = "temperature" if self.teacher_share == 1 else "teacher_share"
            raise ValueError(f"Expected `{name}` to be 1 without a `teacher`. Received: {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Schedule: length of the run, learning rate.

    Raises:
        ValueError: A field is out of its range.
    """

    epochs: Annotated[int, at_least(1)] = 120
    """Passes over the training images."""
    continue_from: str | None = None
    """Folder of a finished run to train on: its epochs count, and the rest have the rates of one run of all epochs."""
    lr_schedule: LRSchedule = "step"
    """Learning rate after the warm-up: lowered at each of lr_drops, or to 0 by half a cosine, a line, or a power."""
    peak_lr: Annotated[float, above(0)] = 0.1
    """Learning rate after the warm-up."""
    lr_batch_size: Annotated[int | None, at_least(1)] = None
    """Batch size of the rates; other batch sizes scale them in proportion (arXiv:1706.02677). None never scales."""
    lr_drops: Annotated[
        tuple[float, ...],
        Range(
            "rising fractions in (0, 1)",
            lambda drops: list(drops) == sorted(set(drops)) and all(0 < drop < 1 for drop in drops),
        ),
    ] = (0.25, 0.5, 0.75)
    """Times at which a step schedule lowers the rate, as fractions of the run."""
    lr_factor: Annotated[float, between(0, 1, open_low=True, open_high=True)] = 0.1
    """Factor that the rate is multiplied by at each of lr_drops."""
    lr_power: Annotated[float, above(0)] = 0.9
    """Power of the rest of the run in a poly schedule (arXiv:1606.00915, section 3.1)."""
    warmup_steps: Annotated[int, at_least(0)] = 0
    """Steps of warm-up: linear from warmup_lr to peak_lr, or constant at warmup_lr with a step schedule."""
    warmup_epochs: Annotated[float, at_least(0)] = 0.0
    """Epochs of warm-up, added to warmup_steps."""
    warmup_lr: Annotated[float, above(0)] = 0.01
    """Learning rate at the start of the warm-up."""
    warmup_from_depth: Annotated[int, at_least(0)] = 0
    """Depth of the network, in layers, from which the warm-up applies; 0 is always."""

    def __post_init__(self) -> None:
        check_fields(self)

    def warmup(self, steps_per_epoch: int, depth: int) -> int:
        """Returns the steps of the warm-up for a network of `depth` layers."""
        return self.warmup_steps + round(self.warmup_epochs * steps_per_epoch) if depth >= self.warmup_from_depth else 0


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Evaluation of the trained network."""

    test_flip: bool = False
    """Average the final evaluation over each test image and its mirror image."""

    def __post_init__(self) -> None:
        check_fields(self)


_SIZE_OF_PYRAMID = 32
_Sizes = Annotated[tuple[float, ...], Range("lengths above 0", lambda sizes: all(size > 0 for size in sizes))]


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """Detection: Faster R-CNN on the network, and what it is trained on.

    Raises:
        ValueError: A field is out of its range, or two fields do not fit each other.
    """

    detector: DetectorName | None = None
    """Faster R-CNN on the network: fpn (torchvision), fpn_v2, or c4 (arXiv:1512.03385, appendix A). None classifies."""
    canvas: Annotated[
        tuple[int, int] | None,
        Range("two lengths of 32 to 4096", lambda size: all(32 <= side <= 4096 for side in size)),
    ] = None
    """Height and width in pixels of the canvas that images are placed on; multiples of 32 with a pyramid."""
    fit: Annotated[
        tuple[int, int] | None, Range("two rising lengths of at least 1", lambda sides: 1 <= sides[0] <= sides[1])
    ] = None
    """Shorter and longest side in pixels that images are resized to, where the canvas is larger; None fills it."""
    train_sides: Annotated[
        tuple[int, int] | None, Range("two rising lengths of at least 1", lambda sides: 1 <= sides[0] <= sides[1])
    ] = None
    """Range in pixels of the shorter side in training, drawn for each image; that of `fit` if None."""
    pyramid_channels: Annotated[int | None, at_least(1)] = None
    """Channels of the pyramid and of the region proposal network; the detector's own if None."""
    box_units: Annotated[int | None, at_least(1)] = None
    """Units of the fully connected layers of each region; the detector's own if None."""
    global_context: bool = False
    """Add the feature of the whole image to that of each region (arXiv:1512.03385, appendix B)."""
    anchor_sizes: _Sizes = ()
    """Square roots of the areas of anchors in pixels, one for each map of a pyramid; the detector's own if empty."""
    train_proposals: Annotated[int | None, at_least(1)] = None
    """Proposals of an image in training; the detector's own if None."""
    test_proposals: Annotated[int | None, at_least(1)] = None
    """Proposals of an image in evaluation; the detector's own if None."""
    sampled_anchors: Annotated[int, at_least(1)] = 256
    """Anchors of an image that are trained on, at most half of them with an object."""
    sampled_regions: Annotated[int, at_least(1)] = 512
    """Proposals of an image that are trained on, at most a quarter of them with an object."""
    background_overlap: Annotated[float, between(0, 0.5)] = 0.0
    """Least overlap with an object of a proposal that is trained on as background."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.detector is None:
            return
        if self.canvas is None:
            raise ValueError(f"Expected a `canvas` with `detector`. Received: {self.canvas}")
        if self.detector != "c4" and any(side % _SIZE_OF_PYRAMID for side in self.canvas):
            raise ValueError(f"Expected a `canvas` of multiples of 32 with a pyramid. Received: {self.canvas}")
        if self.detector != "c4" and len(self.anchor_sizes) not in (0, 5):
            raise ValueError(
                f"Expected `anchor_sizes` of one size for each of 5 maps, or none. Received: {self.anchor_sizes}"
            )
