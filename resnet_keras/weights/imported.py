"""The weights of a source under our names, with what the source says of its network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.blocks import HEAD
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.dense_heads import OWN_HEAD, dense_head, has_epsilon_of_0
from resnet_keras.weights.layout import Layout
from resnet_keras.weights.layouts import recognize_layout
from resnet_keras.weights.leftovers import dense_layers, linear_head, sort_leftovers, without_prefix
from resnet_keras.weights.usual_preprocessing import UsualPreprocessing

_EPSILON_OF_0 = (
    "the names and 91 classes are those of torchvision's file of COCO, so the epsilon of batch normalization is 0, as "
    "torchvision sets it for that file"
)


@dataclass(frozen=True, eq=False)
class ImportedWeights:
    """The weights of one network, whichever library they come from.

    Attributes:
        source: The name of the source in messages.
        layout: Name of the layout that its names have.
        tensors: Arrays in Keras's order of axes, by `layer/weight` of our networks.
        names: The source's names of each of `tensors`; a folded bias is listed with the tensor it was folded into.
        unexpected: Names in the source's network that our networks do not have.
        head: Arrays of the head of a segmentation network or detector beside a backbone, by `layer/weight` of ours.
        head_names: The source's names of each of `head`; all are in `beside`, too.
        beside: Names of other parts of the source: other heads, a detector's parts, another network.
        ignored: Names that are not weights, such as counters of batches.
        conventions: What the weights do not show, as far as it is known.
        preprocessing: The network's preprocessing, if the source says or `open_weights` assumes it.
        usual_preprocessing: The preprocessing that is usual for such a network of its library.
        class_names: If the source says.
        several_labels: Whether the source ends in the sigmoid of each class, for several labels per image.
        notes: Assumptions, in sentences.
    """

    source: str
    layout: str
    tensors: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]
    unexpected: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    head: Mapping[str, np.ndarray] = field(default_factory=dict)
    head_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    conventions: Conventions = field(default_factory=Conventions)
    preprocessing: Preprocessing | None = None
    usual_preprocessing: UsualPreprocessing | None = None
    class_names: tuple[str, ...] | None = None
    several_labels: bool = False
    notes: tuple[str, ...] = field(default=())

    def with_dense_head(self, *, auxiliary: bool) -> ImportedWeights:
        """Returns the backbone and its head, of a segmentation network or detector, as the weights of one network.

        Args:
            auxiliary: Whether the network has a second head; otherwise that of the source is passed over.
        """
        used = [name for name in self.head if auxiliary or not name.startswith("auxiliary_")]
        passed = [called for name in self.head if name not in used for called in self.head_names[name]]
        placed = {called for names in self.head_names.values() for called in names}
        return replace(
            self,
            tensors={**self.tensors, **{name: self.head[name] for name in used}},
            names={**self.names, **{name: self.head_names[name] for name in used}},
            beside=tuple(name for name in self.beside if name not in placed),
            ignored=(*self.ignored, *passed),
            notes=(*self.notes, *(["passed over, because the network has none: the auxiliary head"] if passed else [])),
            head={},
            head_names={},
        )

    def has_head(self, layers: Mapping[str, bool]) -> bool:
        """Returns whether the head has exactly those of some layers that it should have.

        Args:
            layers: For each layer's name, whether it belongs to the head of the network in question.
        """
        found = {name.partition("/")[0] for name in self.head}
        return all((layer in found) == belongs for layer, belongs in layers.items())

    @property
    def classes(self) -> int | None:
        """Outputs of the classifier; `None` without one."""
        kernel = self.tensors.get(f"{HEAD}/kernel")
        return None if kernel is None else kernel.shape[-1]

    @property
    def has_folded_statistics(self) -> bool:
        """Whether all statistics are folded into scale and offset: means of 0, variances of 1.

        Those of a new network are the same, but its offsets are 0, and its scales 1, or 0 at the end of a block.
        """
        new = {"moving_mean": (0.0,), "moving_variance": (1.0,), "beta": (0.0,), "gamma": (0.0, 1.0)}
        kinds = [(name.rpartition("/")[2], array) for name, array in self.tensors.items()]
        found = {kind: [bool(np.isin(a, new[kind]).all()) for k, a in kinds if k == kind] for kind in new}
        statistics = found["moving_mean"] + found["moving_variance"]
        return bool(statistics) and all(statistics) and not all(found["beta"] + found["gamma"])


def with_two_classes(found: ImportedWeights) -> ImportedWeights:
    """Returns the weights of a network with one output as those of two classes, whose softmax is its sigmoid.

    The first class has a logit of 0. The classes are the source's two names, or no and yes.
    """
    kernel, bias = (found.tensors.get(f"{HEAD}/{name}") for name in ("kernel", "bias"))
    tensors = dict(found.tensors)
    if kernel is not None:
        tensors[f"{HEAD}/kernel"] = np.concatenate([np.zeros_like(kernel), kernel], axis=-1)
    if bias is not None:
        tensors[f"{HEAD}/bias"] = np.concatenate([np.zeros_like(bias), bias])
    names = found.class_names if found.class_names and len(found.class_names) == 2 else ("no", "yes")
    note = f"one output is taken for the second of two classes, {names[0]} and {names[1]}: a sigmoid is their softmax"
    kept = tuple(each for each in found.notes if "they are numbered" not in each)
    return replace(found, tensors=tensors, class_names=names, several_labels=False, notes=(*kept, note))


def import_arrays(
    arrays: Mapping[str, np.ndarray],
    source: str,
    *,
    conventions: Conventions | None = None,
    prefix: str | None = None,
    **metadata: Any,
) -> ImportedWeights:
    """Returns `arrays` under our names.

    Args:
        arrays: Arrays with the source's names and order of axes.
        source: The name of the source in messages.
        conventions: What the source says of itself; for what is `None` in it, its library's usual conventions hold.
        prefix: What the names of the network begin with, if there are several networks.
        **metadata: Further fields of `ImportedWeights`.

    Raises:
        ValueError: The names have no known layout or belong to several networks; or a bias has nothing to be folded
            into.
    """
    try:
        layout, prefix = recognize_layout(arrays, prefix)
    except ValueError as error:
        raise ValueError(f"{error} in {source}") from None
    segments = layout.axes == "keras" and any(re.fullmatch(OWN_HEAD, name) for name in arrays)
    tensors, names, left = _placed(arrays, layout, prefix, source, segments)
    heads = linear_head({name: arrays[name] for name in left}, tensors, prefix, layout)
    for target, name in heads.items():
        tensors[target], names[target] = layout.to_keras(arrays[name]), (name,)
        left.remove(name)
    dense = dense_head({name: arrays[name] for name in left})
    if segments:
        for name in [name for name in tensors if re.fullmatch(OWN_HEAD, name) or name.startswith(f"{HEAD}/")]:
            dense[name] = names[name][0], tensors.pop(name)
            left.extend(names.pop(name))
    leftovers = sort_leftovers(left, names, prefix, layout)
    beside = tuple(dict.fromkeys((*leftovers.beside, *(name for name, _ in dense.values()))))
    if has_epsilon_of_0(arrays):
        conventions = Conventions(epsilon=0.0).merged(conventions or Conventions())
        leftovers = replace(leftovers, notes=(*leftovers.notes, _EPSILON_OF_0))
    _fold_biases(tensors, names, source)
    _add_zero_biases(tensors, names, layout)
    return ImportedWeights(
        source=source,
        layout=layout.name,
        tensors=tensors,
        names=names,
        unexpected=tuple(name for name in leftovers.unexpected if name not in beside),
        beside=beside,
        head={ours: array for ours, (_, array) in dense.items()},
        head_names={ours: (name,) for ours, (name, _) in dense.items()},
        ignored=leftovers.ignored,
        conventions=_conventions(tensors, conventions or Conventions(), layout),
        usual_preprocessing=_usual_preprocessing(tensors, layout),
        notes=(*leftovers.notes, *_notes(tensors, heads, layout), *metadata.pop("notes", ())),
        **metadata,
    )


def _placed(
    arrays: Mapping[str, np.ndarray], layout: Layout, prefix: str, source: str, segments: bool
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]], list[str]]:
    """Returns the arrays that have a place, by our names, the source's names of each, and the names without a place."""
    tensors: dict[str, np.ndarray] = {}
    names: dict[str, tuple[str, ...]] = {}
    left: list[str] = []
    added = {
        layer
        for layer in (dense_layers(arrays) if layout.conventions is None else ())
        if layer != HEAD and not re.fullmatch(OWN_HEAD, f"{layer}/kernel")
    }
    for name in sorted(arrays, key=lambda name: not name.startswith(prefix)):  # a head may be beside the network
        array = arrays[name]
        target = layout.ours(without_prefix(name, prefix))
        is_elsewhere = not name.startswith(prefix) and not (target or "").startswith(f"{HEAD}/")
        if target is None or target in tensors or is_elsewhere or target.rpartition("/")[0] in added:
            left.append(name)
        elif target == f"{HEAD}/kernel" and array.ndim == 4 and array.shape[2:] == (1, 1):
            # A classifier written as a convolution of one pixel.
            tensors[target] = layout.to_keras(array[:, :, 0, 0])
            names[target] = (name,)
        elif target == f"{HEAD}/kernel" and array.ndim == 4 and segments:
            tensors[target], names[target] = array, (name,)
        elif re.fullmatch(OWN_HEAD, target):
            tensors[target], names[target] = layout.to_keras(array), (name,)
        elif target.endswith("/kernel") and array.ndim != (axes := 2 if target == f"{HEAD}/kernel" else 4):
            raise ValueError(f"Expected a kernel of {axes} axes. Received: {source}, with {name} of {array.shape}")
        else:
            tensors[target] = layout.to_keras(array)
            names[target] = (name,)
    return tensors, names, left


def _notes(tensors: Mapping[str, np.ndarray], heads: Mapping[str, str], layout: Layout) -> tuple[str, ...]:
    """Returns sentences about what names and shapes leave open."""
    notes = [f"{heads[f'{HEAD}/kernel']} is taken for the classifier"] if heads else []
    stem = tensors.get("stem_conv/kernel")
    small = stem is not None and stem.ndim == 4 and stem.shape[0] == 3
    if small and layout.axes == "torch" and any(name.startswith("stage4_") for name in tensors):
        # CIFAR's own networks have three stages; these are ImageNet's with a stem that their users have changed.
        notes.append("not seen in weights, so assumed: a 3x3 stem has stride 1 and no pool behind it; epsilon is 1e-5")
    return tuple(notes)


def _conventions(tensors: Mapping[str, np.ndarray], stated: Conventions, layout: Layout) -> Conventions:
    """Returns what names and shapes show, else what the source states, else what is usual for its library."""
    before = "final_bn/gamma" in tensors
    bare_stem = before and not any(re.match(r"stem_conv\d?_bn/", name) for name in tensors)
    projecting = any(name.endswith("_projection/kernel") for name in tensors)
    bare = projecting and not any(name.endswith("_projection_bn/gamma") for name in tensors)
    known = layout.usual_conventions(preactivated=before)
    if not before:
        known = replace(known, strided_block=None)
    if not bare_stem:
        known = replace(known, pool_border=None)
    known = known.merged(stated)
    return replace(
        known,
        projection=("bare" if bare else known.projection) if projecting else None,
        first_activation=("block" if bare_stem else "stem") if before else None,
        first_projection=_first_projection(tensors),
        conv_bias=any(re.fullmatch(r"(stem|stage).*_(conv\d?|projection)/bias", name) for name in tensors),
    )


def _usual_preprocessing(tensors: Mapping[str, np.ndarray], layout: Layout) -> UsualPreprocessing | None:
    """Returns the usual preprocessing for a network of RGB images; `None` if there is none."""
    alone = tensors.get("stem_conv/kernel")
    stem = tensors.get("stem_conv1/kernel") if alone is None else alone
    if stem is None or stem.shape[2] != 3:
        return None
    return layout.usual_preprocessing(
        cifar_stem=alone is not None and stem.shape[0] == 3,
        projects=any("_projection" in name for name in tensors),
        preactivated="final_bn/gamma" in tensors,
    )


def _first_projection(tensors: Mapping[str, np.ndarray]) -> bool:
    """Returns whether the first block projects although its shape does not change, and not all blocks do."""
    first = tensors.get("stage1_block1_projection/kernel")
    blocks = {name.split("_")[1] for name in tensors if name.startswith("stage1_")}
    all_do = all(f"stage1_{block}_projection/kernel" in tensors for block in blocks)
    return first is not None and first.ndim == 4 and first.shape[2] == first.shape[3] and not all_do


def _add_zero_biases(tensors: dict[str, np.ndarray], names: dict[str, tuple[str, ...]], layout: Layout) -> None:
    """Adds the biases, of 0, of convolutions that have none in a library although others without a normalization do."""
    for name in [name for name in tensors if name.endswith("/kernel")]:
        layer = name.removesuffix("/kernel")
        if re.fullmatch(layout.without_bias, layer) and f"{layer}_bn/gamma" not in tensors:
            bias = f"{layer}/bias"
            if bias not in tensors:
                tensors[bias], names[bias] = np.zeros(tensors[name].shape[-1], np.float32), ()


def _fold_biases(tensors: dict[str, np.ndarray], names: dict[str, tuple[str, ...]], source: str) -> None:
    """Subtracts the bias of a convolution from the moving mean of the batch normalization after it.

    That is exact in training, too: a constant added to all images is removed with their own mean.
    """
    for name in [name for name in tensors if name.endswith("/bias") and name != f"{HEAD}/bias"]:
        mean = f"{name.removesuffix('/bias')}_bn/moving_mean"
        if mean not in tensors:
            continue  # a convolution without a normalization after it
        bias, (called,) = tensors.pop(name), names.pop(name)
        if tensors[mean].shape != bias.shape:
            raise ValueError(
                f"Expected a bias of shape {tensors[mean].shape}, that of the mean it is folded into. Received: "
                f"{called} in {source}, of {bias.shape}"
            )
        tensors[mean] = (tensors[mean].astype(np.float64) - bias.astype(np.float64)).astype(np.float32)
        names[mean] = (*names[mean], called)
