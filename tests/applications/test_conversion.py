"""Weights of any library made into a classifier of ours: it computes what the library's own code does."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from helpers.foreign_weights import SMALL, drawn_torch, foreign, network, write_torch, zeros
from helpers.small_networks import drawn
from keras.src.applications import resnet
from keras.src.legacy.saving import legacy_h5_format

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.conversion import convert, largest_difference
from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.applications.prediction import predict
from resnet_keras.data.class_names import wordnet_ids
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.weights.imported import import_arrays
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.sources import open_weights

DEEP = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet101", "resnet152")]


def pixels(side: int, seed: int = 0) -> np.ndarray:
    """Two images of noise, normalized, with mean colors of their own."""
    rng = np.random.default_rng(seed)
    return rng.normal(rng.normal(size=(2, 1, 1, 3)), size=(2, side, side, 3)).astype("float32")


def of_side(side: int) -> Preprocessing:
    return Preprocessing(image_size=(side, side), channels=3, mean=(1, 2, 3), std=(4, 5, 6))


def difference(received: Any, expected: Any) -> float:
    """Returns the largest difference as a part of the spread of what is expected, which must depend on the image."""
    received, expected = np.asarray(received), np.asarray(expected)
    assert received.shape == expected.shape
    assert np.isfinite(expected).all()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * expected.std() > 0
    return float(np.abs(received - expected).max() / expected.std())


def converted(source: Any, side: int = 64, **options: Any) -> Classifier:
    """Converts a source all of whose tensors must find their places, for images of another size than usual."""
    classifier, report = convert(source, preprocessing=of_side(side), **options)
    assert report.problems == report.new_head == ()
    return classifier


def torch_images(torch: Any, x: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def library(name: str) -> Any:
    """Imports another library, or skips the tests that compare with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: nothing to compare with")


@pytest.fixture(scope="module")
def torch() -> Any:
    return library("torch")


@pytest.fixture(scope="module")
def transformers(torch: Any) -> Any:
    found = library("transformers")
    found.utils.logging.disable_progress_bar()
    return found


@pytest.fixture(scope="module")
def keras_hub() -> Any:
    return library("keras_hub")


# keras.applications


def applications(name: str) -> keras.Model:
    """Returns a network of keras.applications with every weight drawn, the biases of its convolutions too."""
    options: dict[str, Any] = {"weights": None, "input_shape": (64, 64, 3), "classes": 7, "classifier_activation": None}
    if name != "resnet14":  # which keras.applications has no name for
        return drawn(getattr(resnet, name.replace("resnet", "ResNet"))(**options), 1)

    def stages(x: Any) -> Any:
        for i, width in enumerate((64, 32, 48, 64)):
            x = resnet.stack_residual_blocks_v1(x, width, 1, 2 if i else 1, name=f"conv{i + 2}")
        return x

    return drawn(resnet.ResNet(stages, False, True, name, weights_name=name, **options), 1)


FILES = (".weights.h5", ".keras", ".legacy.h5", ".whole.h5")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *(("resnet14", suffix) for suffix in (None, *FILES[:1])),
        *(pytest.param("resnet14", suffix, marks=pytest.mark.slow) for suffix in FILES[1:]),
        *(pytest.param("resnet50", suffix, marks=pytest.mark.slow) for suffix in (None, *FILES)),
        *(pytest.param(name, None, marks=pytest.mark.slow) for name in ("resnet101", "resnet152")),
    ],
)
def test_a_model_of_keras_applications_computes_the_same_from_memory_and_every_file(
    tmp_path: Path, name: str, suffix: str | None
) -> None:
    model, path = applications(name), tmp_path / f"x{suffix}"
    assert model.get_layer("conv2_block1_1_conv").bias is not None
    if suffix == ".weights.h5":
        model.save_weights(path)
    elif suffix == ".legacy.h5":
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    elif suffix:
        model.save(path)
    classifier = converted(path if suffix else model)
    assert classifier.model.name == name
    epsilons = {la.epsilon for la in classifier.model.layers if isinstance(la, keras.layers.BatchNormalization)}
    assert epsilons == {1.001e-5}
    assert difference(classifier.model(pixels(64)), model(pixels(64))) < 1e-4


# KerasHub


HUB = {
    "resnet18": ("basic_block", (2, 2, 2, 2)),
    "resnet34": ("basic_block", (3, 4, 6, 3)),
    "resnet50": ("bottleneck_block", (3, 4, 6, 3)),
    "resnet101": ("bottleneck_block", (3, 4, 23, 3)),
    "resnet152": ("bottleneck_block", (3, 8, 36, 3)),
}


def hub_classifier(keras_hub: Any, name: str, seed: int) -> Any:
    block, repeats = HUB[name]
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=list(repeats),
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block,
        image_shape=(64, 64, 3),
    )
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(64, 64), scale=[1 / 4, 1 / 5, 1 / 6], offset=[-1 / 4, -2 / 5, -3 / 6], interpolation="bicubic"
    )
    preprocessor = keras_hub.models.ResNetImageClassifierPreprocessor(image_converter=converter)
    classifier = keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=7, preprocessor=preprocessor)
    return drawn(classifier, seed)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        *DEEP,
        pytest.param("resnet34", marks=pytest.mark.slow),
        pytest.param("resnet50", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_kerashub_computes_the_same(keras_hub: Any, name: str) -> None:
    model = hub_classifier(keras_hub, name, 1)
    classifier = converted(model)
    assert classifier.model.name == name
    assert difference(classifier.model(pixels(64)), model(pixels(64))) < 1e-4


@pytest.mark.slow
def test_a_folder_of_kerashub_computes_the_same(tmp_path: Path, keras_hub: Any) -> None:
    model = hub_classifier(keras_hub, "resnet18", 2)
    model.save_to_preset(str(tmp_path / "whole"))
    classifier, report = convert(tmp_path / "whole")
    assert report.problems == ()
    assert classifier.preprocessing.to_json() == {**of_side(64).to_json(), "interpolation": "bicubic"}
    assert difference(classifier.model(pixels(64)), model(pixels(64))) < 1e-4

    model.backbone.save_to_preset(str(tmp_path / "backbone"))
    with pytest.raises(ValueError, match="Expected weights with a classifier.*Received: .*backbone, a backbone alone"):
        convert(tmp_path / "backbone")
    features = build_with_weights("resnet18", include_top=False, weights=tmp_path / "backbone", input_shape=(64, 64, 3))
    assert difference(features(pixels(64)), model.backbone(pixels(64))) < 1e-4


# transformers


@pytest.mark.parametrize(
    ("layer_type", "in_bottleneck"), [("basic", False), ("bottleneck", False), ("bottleneck", True)]
)
def test_a_folder_of_transformers_computes_the_same(
    tmp_path: Path, torch: Any, transformers: Any, layer_type: str, in_bottleneck: bool
) -> None:
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 12, 16, 20] if layer_type == "basic" else [32, 48, 64, 80],
        depths=[2, 2, 1, 2],
        layer_type=layer_type,
        downsample_in_bottleneck=in_bottleneck,
        num_labels=3,
        id2label={0: "cat", 1: "dog", 2: "eel"},
    )
    module = drawn_torch(transformers.ResNetForImageClassification(config), 3)
    module.save_pretrained(tmp_path)
    processor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "size": {"shortest_edge": 56}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**processor, "crop_pct": 0.875, "resample": 3}))
    classifier, report = convert(tmp_path)
    assert report.problems == ()
    assert classifier.class_names == ("cat", "dog", "eel")
    assert (classifier.preprocessing.image_size, classifier.preprocessing.shorter_side) == ((56, 56), 64)
    with torch.no_grad():
        expected = module(torch_images(torch, pixels(56))).logits
    assert difference(classifier.model(pixels(56)), expected) < 1e-4
    if in_bottleneck:
        elsewhere, _ = convert(tmp_path, bottleneck_stride="3x3")
        assert difference(elsewhere.model(pixels(56)), expected) > 1e-3


# Plain PyTorch: torchvision's network, and those of akamaster and of kuangliu for CIFAR


def torch_network(
    torch: Any, row: Architecture, *, classes: int = 7, cifar_names: bool = False, bias: bool = False
) -> Any:
    """Returns a network with torchvision's names and arithmetic, or those of two PyTorch projects for CIFAR."""
    nn, functional = torch.nn, torch.nn.functional
    expansion = 4 if row.block == "bottleneck" else 1

    class Block(nn.Module):
        def __init__(self, entering: int, width: int, stride: int) -> None:
            super().__init__()
            kernels, strides = ((3, 3), (stride, 1)) if row.block == "basic" else ((1, 3, 1), (1, stride, 1))
            channels = [entering, *[width] * (len(kernels) - 1), expansion * width]
            self.count = len(kernels)
            for k in range(self.count):
                side = kernels[k]
                conv = nn.Conv2d(channels[k], channels[k + 1], side, strides[k], side // 2, bias=bias)
                setattr(self, f"conv{k + 1}", conv)
                setattr(self, f"bn{k + 1}", nn.BatchNorm2d(channels[k + 1]))
            self.stride, self.added = stride, channels[-1] - entering
            self.around = "shortcut" if cifar_names else "downsample"
            if row.shortcut == "B" and (stride > 1 or self.added):
                conv = nn.Conv2d(entering, channels[-1], 1, stride, bias=bias)
                setattr(self, self.around, nn.Sequential(conv, nn.BatchNorm2d(channels[-1])))

        def forward(self, x: Any) -> Any:
            out = x
            for k in range(1, self.count + 1):
                out = getattr(self, f"bn{k}")(getattr(self, f"conv{k}")(out))
                out = functional.relu(out) if k < self.count else out
            if hasattr(self, self.around):
                x = getattr(self, self.around)(x)
            elif self.stride > 1 or self.added:  # option A
                half = self.added // 2
                x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
            return functional.relu(out + x)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            entering = row.widths[0]
            side, stride = (7, 2) if row.stem == "imagenet" else (3, 1)
            self.conv1 = nn.Conv2d(3, entering, side, stride, side // 2, bias=bias)
            self.bn1 = nn.BatchNorm2d(entering)
            for s, (repeats, width) in enumerate(zip(row.repeats, row.widths, strict=True), start=1):
                blocks = []
                for b in range(repeats):
                    blocks.append(Block(entering, width, 2 if s > 1 and b == 0 else 1))
                    entering = expansion * width
                setattr(self, f"layer{s}", nn.Sequential(*blocks))
            self.head = "linear" if cifar_names else "fc"
            setattr(self, self.head, nn.Linear(entering, classes))

        def forward(self, x: Any) -> Any:
            x = functional.relu(self.bn1(self.conv1(x)))
            if row.stem == "imagenet":
                x = functional.max_pool2d(x, 3, 2, 1)
            for s in range(1, len(row.repeats) + 1):
                x = getattr(self, f"layer{s}")(x)
            return getattr(self, self.head)(x.mean((2, 3)))

    return drawn_torch(Network(), 4)


TORCHVISION = {
    "basic": Architecture(stem="imagenet", block="basic", repeats=(2, 2, 1, 2), widths=(8, 12, 16, 20)),
    "bottleneck": Architecture(stem="imagenet", block="bottleneck", repeats=(2, 2, 1, 2), widths=(8, 12, 16, 20)),
}
CIFAR = {
    "A": Architecture(stem="cifar", block="basic", repeats=(2, 2, 2), widths=(8, 16, 32), shortcut="A"),
    "B": Architecture(stem="cifar", block="basic", repeats=(2, 2, 2), widths=(8, 16, 32), shortcut="B"),
    "B, bottleneck": Architecture(stem="cifar", block="bottleneck", repeats=(2, 2), widths=(8, 16), shortcut="B"),
}


@pytest.mark.parametrize("bias", [False, True], ids=["", "with biases"])
@pytest.mark.parametrize("block", TORCHVISION)
def test_a_network_with_torchvision_s_layout_computes_the_same(
    tmp_path: Path, torch: Any, block: str, bias: bool
) -> None:
    module = torch_network(torch, TORCHVISION[block], bias=bias)
    torch.save(module.state_dict(), tmp_path / "x.pth")
    classifier = converted(tmp_path / "x.pth")
    with torch.no_grad():
        expected = module(torch_images(torch, pixels(64)))
    assert difference(classifier.model(pixels(64)), expected) < 1e-4
    if block == "bottleneck":
        elsewhere = converted(tmp_path / "x.pth", bottleneck_stride="1x1")
        assert difference(elsewhere.model(pixels(64)), expected) > 1e-3


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("option", CIFAR)
def test_a_network_for_cifar_in_plain_pytorch_computes_the_same(
    tmp_path: Path, torch: Any, option: str, zipped: bool
) -> None:
    module = torch_network(torch, CIFAR[option], cifar_names=True)
    state = {f"module.{name}": value for name, value in module.state_dict().items()}
    content = {"epoch": 3, "state_dict": state, "best_prec1": 91.7}
    torch.save(content, tmp_path / "x.th", _use_new_zipfile_serialization=zipped)
    classifier = converted(tmp_path / "x.th", 32)
    with torch.no_grad():
        expected = module(torch_images(torch, pixels(32)))
    assert difference(classifier.model(pixels(32)), expected) < 1e-4
    if option == "A":
        elsewhere = converted(tmp_path / "x.th", 32, zero_channels="end")
        assert difference(elsewhere.model(pixels(32)), expected) > 1e-3


# Every network of ours


def check_inferred(name: str, library_name: str | None, **options: Any) -> None:
    row = ARCHITECTURES[name]
    side = 32 if row.stem == "imagenet" else 8
    fields: dict[str, Any] = {"input_shape": (side, side, 3), "classes": 5, "classifier_activation": None}
    model = network(5, name, **fields | options)
    source = import_arrays(foreign(model, library_name), "x") if library_name else model
    classifier = converted(source, side, class_names="abcde")
    assert classifier.model.name == name
    assert difference(classifier.model(pixels(side)), model(pixels(side))) < 1e-5


QUICK = ("resnet18", "resnet20")
SLOW = ("resnet34", "resnet50", "resnet101", "resnet152", "resnet32", "resnet44", "resnet56", "resnet110")
EVERY = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def test_every_network_with_shortcuts_is_inferred_here_or_among_names_and_shapes() -> None:
    rest = {name for name, row in ARCHITECTURES.items() if row.shortcut} - set(QUICK) - set(SLOW)
    assert rest == {"resnet1202"}, "which takes minutes to build; test_weights_checkpoint.py infers it without"


@pytest.mark.parametrize("name", EVERY)
def test_a_network_of_ours_is_inferred_and_computes_the_same(name: str) -> None:
    check_inferred(name, None)


@pytest.mark.parametrize("name", EVERY)
def test_a_network_under_torch_s_names_is_inferred_and_computes_the_same(name: str) -> None:
    row = ARCHITECTURES[name]
    options: dict[str, Any] = {"zero_channels": "both_sides"} if row.shortcut == "A" else {"bottleneck_stride": "3x3"}
    check_inferred(name, "torchvision", **options)


@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_an_option_of_shortcuts_is_inferred(tmp_path: Path, option: Any) -> None:
    model = network(6, shortcut=option, classifier_activation=None)
    model.save(tmp_path / "x.keras")
    classifier = converted(tmp_path / "x.keras", 8)
    assert sum("projection" in layer.name for layer in classifier.model.layers) == 2 * "ABC".index(option)
    assert difference(classifier.model(pixels(8)), model(pixels(8))) < 1e-5


SMALL_PLAIN = Architecture(stem="cifar", block="basic", repeats=(2, 1), widths=(4, 8), shortcut=None)
SMALL_BOTTLENECK = Architecture(stem="cifar", block="bottleneck", repeats=(2, 1), widths=(4, 8))


@pytest.mark.parametrize(
    ("row", "options"),
    [
        (SMALL, {"zero_channels": "both_sides"}),
        (SMALL_BOTTLENECK, {"bottleneck_stride": "3x3"}),
        (SMALL_PLAIN, {}),
        (SMALL, {"output_stride": 1}),
        (SMALL_BOTTLENECK, {"output_stride": 1}),
    ],
)
def test_a_file_of_ours_tells_what_its_weights_do_not(
    tmp_path: Path, row: Architecture, options: dict[str, Any]
) -> None:
    model = network(7, row, input_shape=(8, 8, 3), classes=5, classifier_activation=None, **options)
    model.save(tmp_path / "x.keras")
    for source in (model, tmp_path / "x.keras"):
        classifier = converted(source, 8)
        assert difference(classifier.model(pixels(8)), model(pixels(8))) < 1e-5


# What comes of it


def test_preprocessing_and_classes_go_along_into_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    write_torch(foreign(network(1, zero_channels="both_sides"), "transformers"), folder / "pytorch_model.bin")
    labels = {str(i): name for i, name in enumerate(("eel", "dog", "cat", "bee", "ant"))}
    (folder / "config.json").write_text(json.dumps({"id2label": labels, "model_type": "resnet"}))
    processor = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
        "size": 28,
        "resample": 3,
        "crop_pct": 0.875,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    classifier, _ = convert(folder)
    classifier.save(tmp_path / "x.keras")
    loaded = Classifier.load(tmp_path / "x.keras")
    assert loaded.class_names == classifier.class_names == ("eel", "dog", "cat", "bee", "ant")
    assert loaded.preprocessing == classifier.preprocessing
    assert (loaded.preprocessing.image_size, loaded.preprocessing.shorter_side) == ((28, 28), 32)
    assert loaded.preprocessing.interpolation == "bicubic"
    np.testing.assert_allclose(
        loaded.probabilities_of_inputs(pixels(28)), classifier.probabilities_of_inputs(pixels(28)), atol=1e-6
    )
    assert largest_difference(classifier, loaded) < 1e-5
    again, report = convert(tmp_path / "x.keras")
    assert (again.preprocessing, again.class_names) == (loaded.preprocessing, loaded.class_names)
    assert report.notes == ()
    assert largest_difference(again, loaded) < 1e-5


def test_logits_come_out_whatever_went_over_them_before() -> None:
    model = network(1)  # which ends in a softmax
    classifier = converted(model, 8)
    np.testing.assert_allclose(keras.ops.softmax(classifier.model(pixels(8))), model(pixels(8)), atol=1e-5)
    np.testing.assert_allclose(classifier.probabilities_of_inputs(pixels(8)), model(pixels(8)), atol=1e-5)


def test_what_is_said_goes_before_what_is_told_and_assumed() -> None:
    found = import_arrays(foreign(zeros(SMALL, classes=2), "cifar"), "x")
    gray = Preprocessing(image_size=(16, 8), channels=3, mean=(0, 0, 0), std=(1, 1, 1), channel_order="bgr")
    classifier, report = convert(found, preprocessing=gray, class_names=["no", "yes"], zero_channels="end")
    assert (classifier.preprocessing, classifier.class_names) == (gray, ("no", "yes"))
    assert classifier.model.input_shape == (None, 16, 8, 3)
    assert report.problems == ()


def test_assumptions_about_what_is_given_are_not_told(tmp_path: Path) -> None:
    path = write_torch(foreign(zeros(SMALL, classes=3), "cifar"), tmp_path / "x.pth")
    _, report = convert(path)
    about_pixels, about_names = report.notes
    assert about_names == "the names of the 3 classes are not known: they are numbered"
    _, named = convert(path, class_names=list("abc"), preprocessing=open_weights(path).preprocessing)
    assert named.notes == (about_pixels,)
    _, other = convert(path, preprocessing=of_side(8))
    assert other.notes == (about_names,)


def test_what_can_not_be_converted_says_why() -> None:
    backbone = import_arrays({n: a for n, a in zeros(SMALL).items() if not n.startswith("logits")}, "x")
    with pytest.raises(ValueError, match="Expected weights with a classifier.*Received: x, a backbone alone"):
        convert(backbone)
    with pytest.raises(ValueError, match=r"Expected `preprocessing`, or a source that.*Received: resnet6, without"):
        convert(network(1))
    whole = import_arrays(zeros(SMALL), "x")
    with pytest.raises(ValueError, match="(?s)Expected weights that fit 'resnet6'.*stem_conv/kernel: expected shape"):
        gray = Preprocessing(image_size=(8, 8), channels=1, mean=(0,), std=(1,))
        convert(whole, preprocessing=gray)
    with pytest.raises(ValueError, match=r"one output per class name \(2\)"):
        convert(whole, preprocessing=of_side(8), class_names=["a", "b"])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth, which does not exist"):
        convert("nowhere.pth")
    partly = {name: array for name, array in zeros(SMALL).items() if name != "stage2_block1_conv2/kernel"}
    with pytest.raises(ValueError, match="Received: x, both basic and bottleneck blocks"):
        convert(import_arrays(partly, "x"), preprocessing=of_side(8))


def test_the_largest_difference_is_that_of_the_outputs() -> None:
    first = Classifier(network(1, classifier_activation=None), of_side(8), tuple("abcde"))
    second = Classifier(network(1, classifier_activation=None), of_side(8), tuple("abcde"))
    assert largest_difference(first, second) == 0
    kernel, bias = second.model.get_layer("logits").get_weights()
    second.model.get_layer("logits").set_weights([kernel, bias + np.array([0, 0, -0.5, 0.25, 0])])
    assert largest_difference(first, second) == pytest.approx(0.5, abs=1e-5)
    assert largest_difference(first, second, images=1) == pytest.approx(0.5, abs=1e-5)


# Real weights


def correct_predictions(classifier: Classifier, folder: Path, images: int) -> int:
    """Counts correct predictions on the first images of CIFAR-10's test split."""
    split = open_split("cifar10", "test", data_dir=folder / "tensorflow_datasets")
    assert split.class_names == classifier.class_names
    correct = 0
    for start in range(0, images, 500):
        pixels = normalize(split.images[start : start + 500], classifier.preprocessing)
        logits = np.asarray(classifier.model.predict_on_batch(pixels))
        correct += int((logits.argmax(1) == split.labels[start : start + 500]).sum())
    return correct


@pytest.mark.slow
def test_public_cifar_weights_recognize_a_sample_of_the_test_images(test_data: Path) -> None:
    classifier, report = convert(test_data / "pretrained" / "cifar10_resnet20_option_a.th")
    assert report.problems == ()
    assert classifier.model.name == "resnet20"
    # 1,000 of the images of which the author's figure is 91.73 %: three standard deviations of such a sample.
    assert correct_predictions(classifier, test_data, 1000) == pytest.approx(917.3, abs=26)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("resnet20", 9173), ("resnet32", 9263)])
def test_public_cifar_weights_reach_the_accuracy_that_their_author_publishes(
    test_data: Path, name: str, expected: int
) -> None:
    classifier, report = convert(test_data / "pretrained" / f"cifar10_{name}_option_a.th")
    assert report.problems == ()
    assert classifier.model.name == name
    assert correct_predictions(classifier, test_data, 10_000) == expected


@pytest.fixture(scope="module")
def photographs(test_data: Path) -> list[Path]:
    """The photographs in the order of their classes."""
    files = sorted((test_data / "photos").glob("*/*.JPEG"), key=lambda file: wordnet_ids().index(file.parent.name))
    assert len(files) == 125
    return files


@pytest.fixture(scope="module")
def resnet18_of_torchvision(test_data: Path) -> Classifier:
    """ResNet-18 with public weights in torchvision's layout."""
    classifier, report = convert(test_data / "pretrained" / "imagenet_resnet18_torchvision.safetensors")
    assert report.problems == ()
    assert (classifier.model.name, len(classifier.class_names)) == ("resnet18", 1000)
    return classifier


@pytest.mark.slow
def test_public_imagenet_weights_give_the_logits_that_pytorch_gave(
    test_data: Path, photographs: list[Path], resnet18_of_torchvision: Classifier
) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed: it makes the pixels")
    expected = np.load(test_data / "pretrained" / "imagenet_resnet18_photos_logits.npy")
    with (test_data / "imagenet_classes.csv").open(encoding="utf-8", newline="") as file:
        index = {row["wnid"]: int(row["index"]) for row in csv.DictReader(file)}
    assert [index[file.parent.name] for file in photographs] == sorted(index[file.parent.name] for file in photographs)
    inputs = []
    for file in photographs:
        with image_module.open(file) as image:
            image = image.convert("RGB")
            width, height = (side * 256 // min(image.size) for side in image.size)
            left, top = (round((side - 224) / 2) for side in (width, height))
            image = image.resize((width, height), image_module.Resampling.BILINEAR)
            inputs.append(np.asarray(image.crop((left, top, left + 224, top + 224)), "float32") / 255)
    normalized = (np.stack(inputs) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    logits = resnet18_of_torchvision.model.predict(normalized.astype("float32"), batch_size=25, verbose=0)
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-3


def correct_photographs(classifier: Classifier, photographs: list[Path]) -> int:
    """Counts the photographs whose most probable class is their own, by way of our own decoding."""
    correct = 0
    for prediction in predict(classifier, photographs, top_k=1):
        ((name, _),) = prediction.classes
        index = classifier.class_names.index(name)
        correct += wordnet_ids()[index] == Path(prediction.path).parent.name
    return correct


def test_predictions_of_photographs_are_those_of_pytorch(
    test_data: Path, photographs: list[Path], resnet18_of_torchvision: Classifier
) -> None:
    expected = np.load(test_data / "pretrained" / "imagenet_resnet18_photos_logits.npy")[::5]
    own = [wordnet_ids().index(file.parent.name) for file in photographs[::5]]
    wanted = int((expected.argmax(1) == own).sum())
    assert correct_photographs(resnet18_of_torchvision, photographs[::5]) == wanted


@pytest.mark.slow
def test_public_imagenet_weights_classify_the_photographs(
    photographs: list[Path], resnet18_of_torchvision: Classifier
) -> None:
    correct = correct_photographs(resnet18_of_torchvision, photographs)
    assert correct / len(photographs) == pytest.approx(0.744, abs=0.02)


def test_sources_of_these_tests_have_every_weight_drawn() -> None:
    # A weight left at 0 or 1 would hide that another one is put in its place.
    for name, array in arrays_of_model(network(1)).items():
        assert array.std() > 0.05, name
