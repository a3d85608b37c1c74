"""ResNet18 ... PlainNet110: the paper's networks with the signature of `keras.applications`, `weights` included."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec

import keras

from resnet_keras.applications.pixel_warning import warn_of_pixels
from resnet_keras.checks.fields import suggest_arguments
from resnet_keras.networks.architecture import Architecture, BatchNorm, Shortcut
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES, architecture
from resnet_keras.networks.conventions import BottleneckStride, ZeroChannels
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.pretrained_files import is_pretrained
from resnet_keras.weights.sources import open_weights

P = ParamSpec("P")


@suggest_arguments
def build_with_weights(
    network: Architecture | str,
    include_top: bool = True,
    weights: str | Path | keras.Model | ImportedWeights | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    shortcut: Shortcut | None = None,
    zero_channels: ZeroChannels | None = None,
    bottleneck_stride: BottleneckStride | None = None,
    batch_norm: BatchNorm | None = None,
    output_stride: int | None = None,
    stochastic_depth: float | None = None,
    zero_init_residual: bool | None = None,
) -> keras.Model:
    """Returns {what} with the weights of a source, or with random initial weights (arXiv:1502.01852).

    The positional arguments are those of `keras.applications.ResNet50`, in their order. One default differs: `weights`
    is `None` here, so that `ResNet50()` is random, and "imagenet" in `keras.applications`. The keyword arguments
    replace fields of the network's `Architecture`. The network follows Keras's precision policy; its head computes in
    float32 under every policy.

    Example:
        >>> model = resnet_keras.build_with_weights("resnet50v2", weights="imagenet")
        >>> model = resnet_keras.ResNet50(input_shape=(None, None, 3), classes=10)

    Args:
        network: A name in `ARCHITECTURES` or `FAMILY`, which follows the conventions of the weights (where strides
            and zero channels are, for example), or an `Architecture`, which must agree with them.
        include_top: Whether the network ends in its classifier: average pooling, "logits", `classifier_activation`.
        weights: A file, a folder or a model of this package or of another library, or the name of published weights,
            such as "imagenet", or of weights in the package, such as "digits"; see
            `resnet_keras.weights.open_weights`. If they classify another number of classes than `classes`, the network
            has a new classifier, and a warning says so. They expect images normalized by
            `resnet_keras.preprocess_input(images, model=model)`. `None`, the default here, initializes at random;
            the default of `keras.applications` is "imagenet".
        input_tensor: A Keras tensor (N, H, W, C) to build the network on, instead of a new input.
        input_shape: Height and width in pixels, and channels. `None` leaves a height or width free. Without
            `input_shape`, both are the paper's with the classifier, or those of weights in the package, and free
            without it.
        pooling: Without the classifier, how to pool the last feature map to (N, C): "avg", "max" or not at all.
        classes: Number of classes; the paper's if `None`, or that of weights in the package.
        classifier_activation: Activation after the logits; `None` returns the logits themselves.
        name: The model's name; the architecture's if `None`.
        shortcut: "A", "B" or "C" (§3.3, §4.1).
        zero_channels: Option A adds its zero channels at the "end", or half of them on "both_sides". If `None`, as in
            the network that the weights come from.
        bottleneck_stride: A bottleneck's stride is in its first "1x1" (the paper) or its "3x3" (torchvision). If
            `None`, as in the network that the weights come from.
        batch_norm: Under a distribution strategy, statistics "per_replica" (the paper) or "synchronized".
        output_stride: Pixels of the image per pixel of the last feature map; see `resnet_keras.build`.
        stochastic_depth: Probability of dropping the last residual branch in training (arXiv:1603.09382).
        zero_init_residual: Whether each block begins as its shortcut (arXiv:1706.02677, §5.1).

    Returns:
        A functional model of normalized images (N, H, W, C): to float32 (N, classes) with the classifier; to
        (N, channels) with `pooling`; else to (N, ⌈H/s⌉, ⌈W/s⌉, channels), where s is the output stride.

    Raises:
        ValueError: An argument that `resnet_keras.build` refuses, or weights that do not fit (the message names the
            layers).
        FileNotFoundError: `weights` names a file that does not exist.
    """
    row, imported = network_and_weights(network, weights)
    if imported is not None and isinstance(weights, str) and is_pretrained(weights, row.name):
        input_shape, classes = _fitting(imported, include_top, input_tensor, input_shape, classes)
    model = build(
        row,
        include_top,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
        shortcut=shortcut,
        zero_channels=zero_channels,
        bottleneck_stride=bottleneck_stride,
        batch_norm=batch_norm,
        output_stride=output_stride,
        stochastic_depth=stochastic_depth,
        zero_init_residual=zero_init_residual,
    )
    if imported is not None:
        load_weights(model, imported, bottleneck_stride=bottleneck_stride, zero_channels=zero_channels)
        # What these weights expect, for `preprocess_input`: another library's of the same network expect other pixels.
        model.preprocessing = imported.preprocessing
        if not isinstance(weights, ImportedWeights):  # opened by `train`, which normalizes
            warn_of_pixels(model, model.preprocessing)
    return model


def network_and_weights(
    network: Architecture | str, weights: str | Path | keras.Model | ImportedWeights | None
) -> tuple[Architecture, ImportedWeights | None]:
    """Returns an architecture and opened weights. A network by its name follows the conventions of the weights.

    Args:
        network: A name, or an `Architecture`, which stays as it is.
        weights: A source of weights; see `resnet_keras.weights.open_weights`.

    Raises:
        ValueError: The network is unknown, or the source is damaged or of no known layout.
        FileNotFoundError: `weights` names a file that does not exist.
    """
    row = architecture(network) if isinstance(network, str) else network
    found = weights if weights is None or isinstance(weights, ImportedWeights) else open_weights(weights, row.name)
    if found is not None and isinstance(network, str):
        row = row.following(found.conventions)
    return row, found


def check_one_source(weights: object, backbone_weights: object) -> None:
    """Checks that a network with a head of its own gets weights of the whole or of its backbone.

    Raises:
        ValueError: It gets both.
    """
    if weights is not None and backbone_weights is not None:
        raise ValueError(
            "Expected `weights` of the whole network or `backbone_weights`, not both. "
            f"Received: weights={weights!r}, backbone_weights={backbone_weights!r}"
        )


def _fitting(
    found: ImportedWeights, include_top: bool, input_tensor: Any, input_shape: tuple | None, classes: int | None
) -> tuple[tuple | None, int | None]:
    """Returns the input shape and the number of classes that are given, or those of weights in the package."""
    trained = found.preprocessing
    if input_shape is None and input_tensor is None and trained is not None:
        height, width = trained.image_size if include_top else (None, None)
        input_shape = (height, width, trained.channels)
    return input_shape, found.classes if classes is None else classes


def _named(
    builder: Callable[Concatenate[Architecture | str, P], keras.Model], network: str
) -> Callable[P, keras.Model]:
    """Returns `builder` for one network, with a name, a signature and a docstring of its own."""
    row = ARCHITECTURES[network]
    what = network.replace("resnet", "ResNet-").replace("plainnet", "the plain network of depth ")

    @functools.wraps(builder)
    def named(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
        return builder(network, *args, **kwargs)

    signature = inspect.signature(builder)
    parameters = [
        parameter.replace(default=row.classes if parameter.name == "classes" else parameter.default)
        for parameter in list(signature.parameters.values())[1:]
    ]
    named.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    named.__name__ = named.__qualname__ = network.replace("resnet", "ResNet").replace("plainnet", "PlainNet")
    lines = (inspect.getdoc(builder) or "").replace("{what}", what).splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if line.startswith("    network:")), 0)
    after = next((i for i, line in enumerate(lines) if line.startswith("    include_top:")), 0)
    named.__doc__ = "".join(lines[:first] + lines[after:])
    return suggest_arguments(named)


ResNet18 = _named(build_with_weights, "resnet18")
ResNet34 = _named(build_with_weights, "resnet34")
ResNet50 = _named(build_with_weights, "resnet50")
ResNet101 = _named(build_with_weights, "resnet101")
ResNet152 = _named(build_with_weights, "resnet152")
PlainNet18 = _named(build_with_weights, "plainnet18")
PlainNet34 = _named(build_with_weights, "plainnet34")
ResNet20 = _named(build_with_weights, "resnet20")
ResNet32 = _named(build_with_weights, "resnet32")
ResNet44 = _named(build_with_weights, "resnet44")
ResNet56 = _named(build_with_weights, "resnet56")
ResNet110 = _named(build_with_weights, "resnet110")
ResNet1202 = _named(build_with_weights, "resnet1202")
PlainNet20 = _named(build_with_weights, "plainnet20")
PlainNet32 = _named(build_with_weights, "plainnet32")
PlainNet44 = _named(build_with_weights, "plainnet44")
PlainNet56 = _named(build_with_weights, "plainnet56")
PlainNet110 = _named(build_with_weights, "plainnet110")

build_with_weights.__doc__ = (build_with_weights.__doc__ or "").replace("{what}", "a network")
