"""Every source of weights beside its own library's code: `python benchmarks/sources.py --data DIR`.

Networks of keras.applications, KerasHub, KerasCV, transformers, torchvision and timm get random weights (all of them,
moving statistics and biases too) and are imported; both networks compute the logits of the same images of noise. Real
weights, from files in DIR, are evaluated. A library that is not installed has a row that says so. The table is printed
and written to `sources.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with contextlib.suppress(ImportError):  # torchvision ends the process where TensorFlow has come first
    importlib.import_module("torchvision")

import keras
import numpy as np

import resnet_keras
from resnet_keras.distributed import cores
from resnet_keras.runs import versions

SIDE = 96
REPEATS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
TORCHVISION = ("wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
TIMM = (
    *(f"resnet{depth}d" for depth in (18, 34, 50, 101, 152, 200)),
    *(f"resnetv2_{depth}" for depth in (18, 34, 50, 101, 152)),
    *("seresnet50", "seresnet101", "seresnet152", "seresnext50_32x4d"),
    *(f"resnetrs{depth}" for depth in (50, 101, 152, 200, 270, 350, 420)),
)


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    source: str
    matched: str
    difference: str = "–"
    accuracy: str = "–"


def noise() -> np.ndarray:
    """Returns images as a network sees them."""
    return np.random.default_rng(1).normal(size=(4, SIDE, SIDE, 3)).astype(np.float32)


def random_array(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Returns random weights that keep activations and logits near 1 through 152 layers."""
    if len(shape) > 1:
        fan_in = np.prod(shape) / max(shape[0] if name == "torch" else shape[-1], 1)
        return rng.normal(size=shape, scale=np.sqrt(2 / fan_in)).astype(np.float32)
    if name in ("gamma", "moving_variance"):
        low, high = {"gamma": (0.3, 0.7), "moving_variance": (0.5, 1.5)}[name]
        return rng.uniform(low, high, shape).astype(np.float32)
    return rng.normal(size=shape, scale=0.1).astype(np.float32)


def randomize(model: keras.Model) -> keras.Model:
    """Draws all weights of a Keras model."""
    rng = np.random.default_rng(0)
    model.set_weights([random_array(weight.name, tuple(weight.shape), rng) for weight in model.weights])
    return model


def randomize_torch(model: Any) -> Any:
    """Draws all weights of a module of PyTorch, which is returned for evaluation."""
    torch = importlib.import_module("torch")
    rng = np.random.default_rng(0)
    kinds = {"weight": "gamma", "running_var": "moving_variance"}
    state = {
        name: torch.tensor(
            random_array(
                "torch" if value.ndim > 1 else kinds.get(name.rpartition(".")[2], "beta"), tuple(value.shape), rng
            )
        )
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
    model.load_state_dict(state, strict=False)
    return model.eval()


def compared(what: str, source: Any, expected: np.ndarray) -> Row:
    """Imports `source` and compares our logits with `expected`."""
    classifier, report = resnet_keras.convert(source)
    model = resnet_keras.build_with_weights(
        resnet_keras.weights.recognize_architecture(resnet_keras.weights.open_weights(source)),
        input_shape=(SIDE, SIDE, 3),
        classes=len(classifier.class_names),
        classifier_activation=None,
        weights=source,
    )
    received = np.asarray(model(noise(), training=False))
    difference = np.abs(received - expected).max()
    return Row(
        what, f"{len(report.matched)} of {len(report.matched)}", f"{difference:.1e} of {np.abs(expected).max():.2g}"
    )


def applications() -> Iterator[Row]:
    """Yields keras.applications' networks, as model objects, and ResNet-50 in every kind of file."""
    for name in ("ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2"):
        theirs = getattr(keras.applications, name)(
            weights=None, input_shape=(SIDE, SIDE, 3), classifier_activation=None
        )
        randomize(theirs)
        expected = np.asarray(theirs(noise(), training=False))
        yield compared(f"keras.applications {name}, model", theirs, expected)
        if name == "ResNet50":
            with tempfile.TemporaryDirectory() as folder:
                for kind, write in (
                    (".keras", theirs.save),
                    (".weights.h5", theirs.save_weights),
                    (".h5", theirs.save),
                ):
                    write(Path(folder) / f"x{kind}")
                    yield compared(f"keras.applications ResNet50, {kind}", Path(folder) / f"x{kind}", expected)


def keras_hub() -> Iterator[Row]:
    """Yields KerasHub's networks, as presets on the disk."""
    hub = importlib.import_module("keras_hub")
    kinds = [("", depth) for depth in REPEATS]
    kinds += [("v2", 50), ("v2", 101), *(("vd", depth) for depth in (*REPEATS, 200))]
    for kind, depth in kinds:
        block = "basic_block" if depth < 50 else "bottleneck_block"
        backbone = hub.models.ResNetBackbone(
            stackwise_num_filters=[64, 128, 256, 512],
            stackwise_num_blocks=list((REPEATS | {200: (3, 24, 36, 3)})[depth]),
            stackwise_num_strides=[1, 2, 2, 2],
            block_type=f"{block}_vd" if kind == "vd" else block,
            use_pre_activation=kind == "v2",
            input_conv_filters=[32, 32, 64] if kind == "vd" else [64],
            input_conv_kernel_sizes=[3, 3, 3] if kind == "vd" else [7],
        )
        converter = hub.layers.ResNetImageConverter(image_size=(224, 224), scale=1 / 255, crop_to_aspect_ratio=True)
        theirs = hub.models.ResNetImageClassifier(
            backbone, num_classes=1000, preprocessor=hub.models.ResNetImageClassifierPreprocessor(converter)
        )
        randomize(theirs)
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_to_preset(folder)
            yield compared(
                f"KerasHub ResNet-{depth}{kind}, preset", folder, np.asarray(theirs(noise(), training=False))
            )


def keras_cv() -> Iterator[Row]:
    """Yields KerasCV's classifiers, as model objects."""
    library = importlib.import_module("keras_cv")
    for version, kind in (("", library.models.ResNetBackbone), ("V2", library.models.ResNetV2Backbone)):
        for depth, repeats in REPEATS.items():
            backbone = kind(
                stackwise_filters=[64, 128, 256, 512],
                stackwise_blocks=list(repeats),
                stackwise_strides=[1, 2, 2, 2],
                block_type="basic_block" if depth < 50 else "block",
                include_rescaling=False,
            )
            theirs = randomize(library.models.ImageClassifier(backbone, num_classes=1000, activation=None))
            expected = np.asarray(theirs(noise(), training=False))
            yield compared(f"KerasCV ResNet-{depth}{version}, model", theirs, expected)


def transformers() -> Iterator[Row]:
    """Yields transformers' networks, as folders of safetensors, with both places of the stride."""
    library, torch = importlib.import_module("transformers"), importlib.import_module("torch")
    images = torch.tensor(noise()).permute(0, 3, 1, 2)
    for depth, repeats in REPEATS.items():
        for in_1x1 in (False, True) if depth >= 50 else (False,):
            config = library.ResNetConfig(
                depths=list(repeats),
                hidden_sizes=[64, 128, 256, 512] if depth < 50 else [256, 512, 1024, 2048],
                layer_type="basic" if depth < 50 else "bottleneck",
                downsample_in_bottleneck=in_1x1,
                num_labels=1000,
            )
            theirs = randomize_torch(library.ResNetForImageClassification(config))
            with torch.no_grad():
                expected = theirs(images).logits.numpy()
            stride = ", stride in the 1x1" if in_1x1 else ""
            with tempfile.TemporaryDirectory() as folder:
                theirs.save_pretrained(folder)
                yield compared(f"transformers ResNet-{depth}{stride}, folder", folder, expected)


def files_of_torch(library: str, names: tuple[str, ...], build: Callable[[str], Any]) -> Iterator[Row]:
    """Yields networks of a library for PyTorch, as safetensors."""
    torch, safetensors = importlib.import_module("torch"), importlib.import_module("safetensors.torch")
    images = torch.tensor(noise()).permute(0, 3, 1, 2)
    for name in names:
        theirs = randomize_torch(build(name))
        with torch.no_grad():
            expected = theirs(images).numpy()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.safetensors"
            safetensors.save_file(theirs.state_dict(), path)
            yield compared(f"{library} {name}, safetensors", path, expected)


def torchvision() -> Iterator[Row]:
    """Yields torchvision's later networks."""
    models = importlib.import_module("torchvision.models")
    yield from files_of_torch("torchvision", TORCHVISION, lambda name: getattr(models, name)())


def timm() -> Iterator[Row]:
    """Yields timm's networks that are of the family."""
    library = importlib.import_module("timm")
    yield from files_of_torch("timm", TIMM, library.create_model)


def real_weights(data: Path) -> Iterator[Row]:
    """Yields the files in DIR/pretrained, evaluated on CIFAR-10's test images and on the photographs."""
    for file, dataset, place, split in (
        ("cifar10_resnet20_option_a.th", "cifar10", data / "tensorflow_datasets", "test"),
        ("cifar10_resnet32_option_a.th", "cifar10", data / "tensorflow_datasets", "test"),
        ("imagenet_resnet18_torchvision.safetensors", "folder", data / "photos", "all"),
    ):
        classifier, report = resnet_keras.convert(data / "pretrained" / file)
        images = resnet_keras.open_split(dataset, split, data_dir=place)
        found = resnet_keras.evaluate(classifier, images)
        difference = "–"
        logits = data / "pretrained" / "imagenet_resnet18_photos_logits.npy"
        if dataset == "folder" and logits.is_file():
            batches = resnet_keras.data.evaluation_batches(images, classifier.preprocessing, 125)
            received = np.concatenate([classifier.model.predict_on_batch(batch) for batch, _ in batches])
            expected = np.load(logits)
            difference = f"{np.abs(received - expected).max():.1e} of {np.abs(expected).max():.2g}"
        accuracy = f"{1 - found.top1_error:.2%} of {found.images:,}"
        yield Row(file, f"{len(report.matched)} of {len(report.matched)}", difference, accuracy)


def rows_of(name: str, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """Yields the rows of one kind of source, or one row that says why there are none."""
    try:
        yield from rows()
    except ImportError as error:
        yield Row(f"{name}: not installed ({error.name})", "–")


def main() -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of real weights and data")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    about = versions()
    lines = [
        "# Every source of weights",
        "",
        f"`python benchmarks/sources.py` on {cores()} CPU cores ({platform.machine()}), commit "
        f"{about['commit']}, tensorflow {about['tensorflow']}, keras {about['keras']}. Largest difference of a logit "
        f"from the source's own code on {SIDE}x{SIDE} noise, of the largest logit; for the photographs, from "
        "reference logits, through our own decoding and resizing.",
        "",
        "| source | tensors matched | largest difference of a logit | top-1 accuracy |",
        "|---|---:|---:|---:|",
    ]
    kinds: list[tuple[str, Callable[[], Iterator[Row]]]] = [
        ("keras.applications", applications),
        ("KerasHub", keras_hub),
        ("KerasCV", keras_cv),
        ("transformers", transformers),
        ("torchvision", torchvision),
        ("timm", timm),
    ]
    if arguments.data:
        kinds.append(("real weights", lambda: real_weights(arguments.data)))
    for name, rows in kinds:
        for row in rows_of(name, rows):
            lines.append(f"| {row.source} | {row.matched} | {row.difference} | {row.accuracy} |")
            print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
