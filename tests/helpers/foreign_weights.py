"""Weights under other libraries' names and in their files, written without those libraries."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import ml_dtypes
import numpy as np
import safetensors.numpy

from helpers.small_networks import drawn
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build

SMALL = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="A")
"""A network of ten layers with weights, 27 in all, that builds in no time."""


def network(seed: int, architecture: Architecture | str = SMALL, **options: Any) -> keras.Model:
    """Returns a network, small by default, with weights drawn from `seed`."""
    defaults: dict[str, Any] = {"input_shape": (8, 8, 3), "classes": 5} if architecture is SMALL else {}
    return drawn(build(architecture, **defaults | options), seed)


def drawn_torch(module: Any, seed: int) -> Any:
    """Does to a module of PyTorch what `drawn` does to a model of Keras."""
    rng = np.random.default_rng(seed)
    for name, value in module.state_dict().items():
        kind = name.rpartition(".")[2]
        if kind == "num_batches_tracked":
            continue
        if value.ndim == 1:
            kind = {"weight": "gamma", "running_var": "moving_variance"}.get(kind, kind)
        shape = tuple(value.shape)
        kernel = kind == "weight" and (*shape[2:], shape[1], shape[0])
        array = _drawn(rng, "kernel", kernel).transpose(*_to_torch(len(shape))) if kernel else _drawn(rng, kind, shape)
        value.copy_(value.new_tensor(np.ascontiguousarray(array)))
    return module.eval()


def _drawn(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "kernel":
        return rng.normal(scale=(1.0 / np.prod(shape[:-1])) ** 0.5, size=shape)
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(scale=0.2, size=shape)


def assert_equal_weights(model: keras.Model, expected: list[np.ndarray]) -> None:
    """Asserts that a model has these weights, bit for bit."""
    for received, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(received, value)


class Naming(NamedTuple):
    """What a library calls the modules of stage `s`, block `b` and convolution `k`; with 0 behind, counted from 0."""

    stem: str
    convolution: str
    projection: str
    head: str
    torch: bool = True


NAMINGS = {
    "torchvision": Naming(
        "conv1|bn1", "layer{s}.{b0}.conv{k}|layer{s}.{b0}.bn{k}",
        "layer{s}.{b0}.downsample.0|layer{s}.{b0}.downsample.1", "fc",
    ),
    "cifar": Naming(
        "conv1|bn1", "layer{s}.{b0}.conv{k}|layer{s}.{b0}.bn{k}",
        "layer{s}.{b0}.shortcut.0|layer{s}.{b0}.shortcut.1", "linear",
    ),
    "transformers": Naming(
        "resnet.embedder.embedder.convolution|resnet.embedder.embedder.normalization",
        "resnet.encoder.stages.{s0}.layers.{b0}.layer.{k0}.convolution|"
        "resnet.encoder.stages.{s0}.layers.{b0}.layer.{k0}.normalization",
        "resnet.encoder.stages.{s0}.layers.{b0}.shortcut.convolution|"
        "resnet.encoder.stages.{s0}.layers.{b0}.shortcut.normalization",
        "classifier.1",
    ),
    "keras.applications": Naming(
        "conv1_conv|conv1_bn", "conv{s1}_block{b}_{k}_conv|conv{s1}_block{b}_{k}_bn",
        "conv{s1}_block{b}_0_conv|conv{s1}_block{b}_0_bn", "predictions", torch=False,
    ),
    "KerasHub": Naming(
        "conv1_conv|conv1_bn", "stack{s0}_block{b0}_{k}_conv|stack{s0}_block{b0}_{k}_bn",
        "stack{s0}_block{b0}_0_conv|stack{s0}_block{b0}_0_bn", "predictions", torch=False,
    ),
}  # fmt: skip
_TORCH_WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def named(layer: str, weight: str, naming: Naming) -> str:
    """Returns what a library calls a weight of ours."""
    is_norm = layer.endswith("_bn")
    base = layer.removesuffix("_bn")
    if base == "logits":
        pattern, numbers = naming.head, {}
    elif base == "stem_conv":
        pattern, numbers = naming.stem.split("|")[is_norm], {}
    else:
        s, b, k = (int(n or 1) for n in re.fullmatch(r"stage(\d+)_block(\d+)_(?:conv(\d)|projection)", base).groups())
        pattern = (naming.projection if base.endswith("projection") else naming.convolution).split("|")[is_norm]
        numbers = {"s": s, "s0": s - 1, "s1": s + 1, "b": b, "b0": b - 1, "k": k, "k0": k - 1}
    module = pattern.format(**numbers)
    return f"{module}.{_TORCH_WEIGHTS[weight]}" if naming.torch else f"{module}/{weight}"


def _to_torch(rank: int) -> tuple[int, ...]:
    return {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[rank]


def foreign(weights: keras.Model | Mapping[str, np.ndarray], library: str) -> dict[str, np.ndarray]:
    """Returns weights of ours, of a model or by `layer/weight`, as another library names and orders them."""
    naming = NAMINGS[library]
    if isinstance(weights, keras.Model):
        weights = {f"{la.name}/{w.name}": np.asarray(w) for la in flat_layers(weights) for w in la.weights}
    axes = {name: _to_torch(a.ndim) if naming.torch else range(a.ndim) for name, a in weights.items()}
    return {named(*name.split("/"), naming): array.transpose(*axes[name]) for name, array in weights.items()}


def zeros(architecture: Architecture, classes: int | None = None, channels: int = 3) -> dict[str, np.ndarray]:
    """Returns zeros under the names and in the shapes of a network's weights, without building it."""
    side = {"imagenet": 7, "cifar": 3}[architecture.stem]
    kernels = {"stem_conv": (side, side, channels, architecture.widths[0])}
    entering = architecture.widths[0]
    for s, (repeats, width) in enumerate(zip(architecture.repeats, architecture.widths, strict=True), start=1):
        for b in range(1, repeats + 1):
            basic = architecture.block == "basic"
            leaving = width if basic else 4 * width
            sides, widths = ((3, 3), (width, width)) if basic else ((1, 3, 1), (width, width, leaving))
            for k, (side, into, out) in enumerate(zip(sides, (entering, *widths), widths, strict=False), start=1):
                kernels[f"stage{s}_block{b}_conv{k}"] = (side, side, into, out)
            changes = entering != leaving or (s > 1 and b == 1)
            if architecture.shortcut == "C" or (architecture.shortcut == "B" and changes):
                kernels[f"stage{s}_block{b}_projection"] = (1, 1, entering, leaving)
            entering = leaving
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, shape in kernels.items():
        shapes[f"{layer}/kernel"] = shape
        norm = ("gamma", "beta", "moving_mean", "moving_variance")
        shapes |= {f"{layer}_bn/{weight}": shape[-1:] for weight in norm}
    shapes |= {
        "logits/kernel": (entering, classes or architecture.classes),
        "logits/bias": (classes or architecture.classes,),
    }
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


# PyTorch's files: pickles of opcodes put together here, around the numbers of each storage.


class Global(NamedTuple):
    """Something that a pickle imports."""

    module: str
    name: str


class Call(NamedTuple):
    """A call that a pickle makes."""

    function: Any
    arguments: tuple[Any, ...]


class Raw(NamedTuple):
    """Opcodes as they are, which leave one value."""

    opcodes: bytes


class Stored(NamedTuple):
    """A reference to a storage."""

    identity: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a flat array, which may be of any size and stride, possible or not.

    Attributes:
        flat: The storage's numbers; tensors of the same array share the storage.
        size: Of the view.
        stride: Of the view, in numbers.
        offset: Of the view, in numbers.
        kind: Name of the class of storages; that of the array's type if `None`.
        count: Numbers that the pickle says the storage has; those that it has if `None`.
    """

    flat: np.ndarray
    size: tuple[Any, ...]
    stride: tuple[Any, ...]
    offset: Any = 0
    kind: str | None = None
    count: int | None = None


STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
NUMBER_TYPES = {name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in STORAGES}


def opcodes(value: Any) -> bytes:
    """Returns the opcodes that leave `value` on the stack of an unpickler."""
    if isinstance(value, Raw):
        return value.opcodes
    if isinstance(value, Global):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return opcodes(value.function) + opcodes(tuple(value.arguments)) + b"R"
    if isinstance(value, Stored):
        return opcodes(value.identity) + b"Q"
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        number = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(number)]) + number
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(opcodes, value)) + b"e"
    if isinstance(value, dict):
        items = b"".join(opcodes(key) + opcodes(item) for key, item in value.items())
        return b"ccollections\nOrderedDict\n)R(" + items + b"u"
    raise TypeError(f"Expected what a checkpoint holds. Received: {type(value)}")


def pickled(value: Any) -> bytes:
    """Returns a pickle of `value`."""
    return b"\x80\x02" + opcodes(value) + b"."


def torch_bytes(content: Any, *, zipped: bool, **options: Any) -> bytes:
    """Returns a checkpoint as `torch.save` writes it: in the zip format since 1.6, or in the one before.

    Args:
        content: Dictionaries of arrays and `Tensor`s, or anything else that `opcodes` knows.
        zipped: Which of the formats.
        **options: See `zip_bytes` and `legacy_bytes`.
    """
    storages: list[np.ndarray] = []

    def referring(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            strides = [stride // value.itemsize for stride in np.empty(value.shape, value.dtype).strides]
            value = Tensor(np.ascontiguousarray(value).reshape(-1), value.shape, tuple(strides))
        if isinstance(value, Tensor):
            found = [i for i, known in enumerate(storages) if known is value.flat]
            key = found[0] if found else len(storages)
            storages.extend([] if found else [value.flat])
            kind = value.kind or STORAGES[value.flat.dtype.name]
            count = value.flat.size if value.count is None else value.count
            stored = Stored(("storage", Global("torch", kind), str(key), "cpu", count, *([] if zipped else [None])))
            return Call(
                Global("torch._utils", "_rebuild_tensor_v2"),
                (stored, value.offset, value.size, value.stride, False, {}),
            )
        if isinstance(value, Mapping):
            return {key: referring(item) for key, item in value.items()}
        return value

    data = pickled(referring(content))
    numbers = {str(key): flat.tobytes() for key, flat in enumerate(storages)}
    if zipped:
        return zip_bytes(data, numbers, **options)
    return legacy_bytes(data, {key: (storages[int(key)].size, stored) for key, stored in numbers.items()}, **options)


def zip_bytes(
    data: bytes, storages: Mapping[str, bytes], *, byteorder: bytes | None = b"little", compressed: tuple[str, ...] = ()
) -> bytes:
    """Returns an archive of a pickle and its storages; the members whose names end in `compressed` are deflated."""
    members = {"data.pkl": data, "version": b"3\n"} | {f"data/{key}": numbers for key, numbers in storages.items()}
    if byteorder is not None:
        members["byteorder"] = byteorder
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, stored in members.items():
            method = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
            archive.writestr(f"archive/{name}", stored, compress_type=method)
    return file.getvalue()


def legacy_bytes(
    data: bytes,
    storages: Mapping[str, tuple[int, bytes]],
    *,
    magic: int = 0x1950A86A20F9469CFC6C,
    protocol: int = 1001,
    little_endian: bool = True,
) -> bytes:
    """Returns the format before PyTorch 1.6: pickles, then each storage's count of numbers and the numbers."""
    system = {"protocol_version": protocol, "little_endian": little_endian, "type_sizes": {"short": 2, "int": 4}}
    numbers = b"".join(struct.pack("<q", count) + stored for count, stored in storages.values())
    return b"".join(map(pickled, (magic, protocol, system))) + data + pickled(list(storages)) + numbers


def write_torch(content: Any, path: Path, *, zipped: bool = True, **options: Any) -> Path:
    """Writes `torch_bytes` to a file."""
    path.write_bytes(torch_bytes(content, zipped=zipped, **options))
    return path


# Files and folders of safetensors


def write_safetensors(arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Writes a file of safetensors."""
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def write_folder(path: Path, arrays: Mapping[str, np.ndarray], **settings: Any) -> Path:
    """Writes a folder as the hub has it: safetensors, and JSON of each of `settings`."""
    path.mkdir(exist_ok=True)
    write_safetensors(arrays, path / "model.safetensors")
    for name, content in settings.items():
        (path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return path
