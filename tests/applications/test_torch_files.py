"""Classifiers written for PyTorch: files are complete or absent, and the libraries compute the same from them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.foreign_weights import network
from helpers.small_networks import images
from safetensors.numpy import load_file

import resnet_keras
from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.torch_files import save_for_torch
from resnet_keras.cli import convert as command
from resnet_keras.data.preprocessing import ChannelOrder, Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.surgery.folding import fold
from resnet_keras.surgery.quantization import quantize
from resnet_keras.weights.torch_checkpoint import read_torch

CLASSES = ("ant", "bee", "cat", "dog", "eel")
SMALL = Architecture(stem="imagenet", block="basic", repeats=(1, 1), widths=(8, 16))
BASIC = Architecture(stem="imagenet", block="basic", repeats=(1, 1, 1, 1), widths=(64, 128, 256, 512))
BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 2), widths=(8, 16), stem_width=64)
V15 = BOTTLENECK.replace(bottleneck_stride="3x3")
FOUR = V15.replace(repeats=(1, 2, 1, 1), widths=(8, 16, 24, 32))
D = FOUR.replace(stem="deep", projection="pooled", stem_width=16)
V2 = V15.replace(
    activation="before", projection="bare", first_activation="block", pool_border="edge", stem_width=16, widths=(16, 24)
)
CIFAR = Architecture(stem="cifar", block="basic", repeats=(1, 2, 1), widths=(16, 32, 64), shortcut="A")
SIDE = 64


def classifier(
    row: Architecture, *, side: int = SIDE, order: ChannelOrder = "rgb", activation: str | None = None
) -> Classifier:
    model = network(3, row, input_shape=(side, side, 3), classes=len(CLASSES), classifier_activation=activation)
    preprocessing = Preprocessing(
        image_size=(side, side),
        channels=3,
        mean=(104, 117, 124),
        std=(57, 58, 59),
        shorter_side=side + 8,
        channel_order=order,
    )
    return Classifier(model, preprocessing, CLASSES)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_folder_of_transformers_converts_to_the_same_classifier(tmp_path: Path) -> None:
    original = classifier(SMALL)
    report = save_for_torch(original, tmp_path / "small", "transformers")
    assert names(tmp_path) == ["config.json", "model.safetensors", "preprocessor_config.json", "small"]
    assert [path.name for path in report.files] == ["model.safetensors", "config.json", "preprocessor_config.json"]
    assert (len(report.tensors), len(report.counters), report.difference) == (32, 6, 0.0)
    back, loaded = resnet_keras.convert(tmp_path / "small")
    assert (len(loaded.matched), len(loaded.ignored), loaded.problems) == (32, 6, ())
    assert back.class_names == CLASSES
    assert back.preprocessing.shorter_side == 72
    np.testing.assert_allclose(back.preprocessing.mean, original.preprocessing.mean)
    for received, expected in zip(back.model.get_weights(), original.model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)


def test_softmax_and_bgr_are_compared_as_logits_of_rgb(tmp_path: Path) -> None:
    report = save_for_torch(classifier(SMALL, order="bgr", activation="softmax"), tmp_path / "small", "transformers")
    assert report.difference < 1e-5
    settings = json.loads((tmp_path / "small" / "preprocessor_config.json").read_text())
    np.testing.assert_allclose(settings["image_mean"], np.divide([124, 117, 104], 255))


def test_convert_writes_from_python_and_in_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "small.keras"
    classifier(SMALL).save(source)
    resnet_keras.convert(source, to=tmp_path / "a", layout="transformers")
    to = tmp_path / "b" / "model.safetensors"
    assert command.main([str(source), "--to", str(to), "--layout", "transformers"]) == 0
    said = capsys.readouterr().out
    assert (
        f"{to}, {to.parent / 'config.json'}, {to.parent / 'preprocessor_config.json'} (transformers): 32 tens" in said
    )
    assert "opened again, its logits differ by 0" in said
    assert f'transformers.ResNetForImageClassification.from_pretrained("{to.parent}")' in said
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (to.parent / name).read_bytes()
    copy = tmp_path / "copy.keras"
    resnet_keras.convert(to.parent, to=copy)
    assert Classifier.load(copy).class_names == CLASSES


def test_half_precision_is_written_in_float32_to_a_folder_with_a_dot(tmp_path: Path) -> None:
    plain = classifier(SMALL)
    config = plain.model.get_config()
    for layer in config["layers"]:
        if layer["class_name"] != "InputLayer":
            layer["config"]["dtype"] = "mixed_bfloat16"
    mixed = keras.Model.from_config(config)
    mixed.set_weights(plain.model.get_weights())
    noise = images(2, SIDE, SIDE, 3)
    half = Classifier(mixed, plain.preprocessing, CLASSES)
    assert np.abs(half.logits_of_inputs(noise) - plain.logits_of_inputs(noise)).max() > 1e-3
    report = save_for_torch(half, tmp_path / "lr0.1", "transformers")
    assert report.difference < 1e-5
    assert report.files[0] == tmp_path / "lr0.1" / "model.safetensors"


@pytest.mark.parametrize(
    ("to", "layout", "said"),
    [
        ("x.safetensors", "timm", "--to to be a folder, or a file in it called model.safetensors for layout timm"),
        ("x.pth", "timm", "--to to be a folder, or a file in it called model.safetensors for layout timm"),
        ("x", "torchvision", "--to to be a .safetensors file for layout torchvision"),
        ("x.keras", "torchvision", "--to to be a .safetensors file"),
        ("x.safetensors", None, "a file ending in .keras for --to, or --layout, one of torchvision, timm"),
        ("x.safetensors", "torchvison", "Expected --layout to be one of torchvision"),
        ("x.safetensors", "torchvision", "planes (64, 128, 256, 512), instead of a stem of 8 channels and planes (8, "),
    ],
)
def test_what_cannot_be_written_is_one_line_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str, layout: str | None, said: str
) -> None:
    source = tmp_path / "small.keras"
    classifier(SMALL).save(source)
    flags = ["--layout", layout] if layout else []
    assert command.main([str(source), "--to", str(tmp_path / to), *flags]) == 2
    assert said in capsys.readouterr().err
    assert names(tmp_path) == ["small.keras"]


def test_settings_of_something_else_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"without settings of something else. Received: .*config\.json, which exists"):
        save_for_torch(classifier(SMALL), tmp_path, "transformers")
    assert (tmp_path / "config.json").read_text() == "{}"


def test_quantized_and_folded_networks_are_refused(tmp_path: Path) -> None:
    original = classifier(CIFAR, side=8)
    for model, said in (
        (quantize(original.model), "in floating point: pytorch_resnet_cifar10 has no integers. Received: resnet10"),
        (fold(original.model), "with conv_bias=False, instead of True. No layout fits. Received: resnet10"),
    ):
        changed = Classifier(model, original.preprocessing, CLASSES)
        with pytest.raises(ValueError, match=said):
            save_for_torch(changed, tmp_path / "x.safetensors", "pytorch_resnet_cifar10")
    assert names(tmp_path) == []


def test_weights_that_compute_something_else_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = classifier(SMALL)
    small.save(tmp_path / "small.keras")
    save_for_torch(small, tmp_path / "out", "transformers")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    changed = classifier(SMALL)
    monkeypatch.setattr(Classifier, "logits_of_inputs", lambda self, images: np.ones((len(images), 5), np.float32))
    with pytest.raises(ValueError, match=r"Expected the logits of resnet6, up to 1, .* nothing was written"):
        save_for_torch(changed, tmp_path / "out", "transformers")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "layout", "prefix"),
    [
        ("cifar10_resnet20_option_a.th", "pytorch_resnet_cifar10", "module."),
        pytest.param("imagenet_resnet18_torchvision.safetensors", "torchvision", "", marks=pytest.mark.slow),
    ],
)
def test_published_weights_come_back_bit_for_bit(
    test_data: Path, tmp_path: Path, name: str, layout: str, prefix: str
) -> None:
    source = test_data / "pretrained" / name
    read = read_torch if source.suffix == ".th" else load_file
    resnet_keras.convert(source, to=tmp_path / "back.safetensors", layout=layout)
    received, expected = load_file(tmp_path / "back.safetensors"), read(source)
    for key, array in expected.items():
        np.testing.assert_array_equal(received.pop(key.removeprefix(prefix)), array)
    assert all(key.endswith("num_batches_tracked") for key in received)


# The libraries themselves, in a process of their own: torchvision ends one in which TensorFlow has come first.

CASES = {
    "torchvision-basic": ("torchvision", BASIC),
    "timm-basic": ("timm", BASIC),
    "timm-bottleneck": ("timm", FOUR),
    "timm-deep": ("timm", D.replace(projection="normalized")),
    "timm-d": ("timm", D),
    "timm-rs": ("timm", D.replace(stem="strided", se_reduction=4)),
    "timm-v2": ("timm", V2),
    "timm-v2-basic": ("timm", V2.replace(block="basic")),
    "transformers-basic": ("transformers", SMALL),
    "transformers-1x1": ("transformers", BOTTLENECK),
    "transformers-3x3": ("transformers", V15),
    "cifar-a": ("pytorch_resnet_cifar10", CIFAR),
}

# Runs the code that reports show; of akamaster/pytorch_resnet_cifar10, what its class computes.
THEIRS = """
import importlib, json, sys
import numpy as np
import safetensors.torch, torch
import torch.nn.functional as F

class ResNet:
    def __init__(self, block, blocks, num_classes):
        self.blocks = blocks

    def load_state_dict(self, state):
        self.state = state

    def eval(self):
        return self

    def normalized(self, x, conv, bn, stride=1):
        x = F.conv2d(x, self.state[f"{conv}.weight"], stride=stride, padding=1)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{bn}.{name}"] for name in names))

    def __call__(self, x):
        x = F.relu(self.normalized(x, "conv1", "bn1"))
        for stage, blocks in enumerate(self.blocks, start=1):
            for block in range(blocks):
                name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                y = F.relu(self.normalized(x, f"{name}.conv1", f"{name}.bn1", stride))
                y = self.normalized(y, f"{name}.conv2", f"{name}.bn2")
                missing = y.shape[1] - x.shape[1]
                x = F.relu(y + F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, missing // 2, missing // 2)))
        return F.linear(x.mean((2, 3)), self.state["linear.weight"], self.state["linear.bias"])

known = {"safetensors": safetensors, "ResNet": ResNet, "BasicBlock": None}
with torch.no_grad():
    for case in json.load(open(sys.argv[1])):
        if case["library"] in ("torchvision", "timm", "transformers"):
            known[case["library"]] = importlib.import_module(case["library"])
        if case["code"].startswith("model = "):
            exec(case["code"], known)
            model = known["model"]
        else:
            model = eval(case["code"], known)
        images = torch.from_numpy(np.load(case["images"])).permute(0, 3, 1, 2)
        found = model.eval()(images)
        np.save(case["logits"], getattr(found, "logits", found).numpy())
"""


@pytest.fixture(scope="module")
def logits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Logits of each case, here and in its library."""
    for name in ("torch", "torchvision", "timm", "transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: nothing to compare with")
    folder = tmp_path_factory.mktemp("torch")
    cases, ours = [], {}
    for case, (layout, row) in CASES.items():
        side = 32 if row.stem == "cifar" else SIDE
        original = classifier(row, side=side)
        has_settings = layout in ("timm", "transformers")
        report = save_for_torch(original, folder / (case if has_settings else f"{case}.safetensors"), layout)
        x = images(2, side, side, 3)
        np.save(folder / f"{case}.images.npy", x)
        ours[case] = original.logits_of_inputs(x)
        files = {name: str(folder / f"{case}.{name}.npy") for name in ("images", "logits")}
        cases.append({"library": layout, "code": report.code, **files})
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, "-c", THEIRS, str(folder / "cases.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {case: (np.load(folder / f"{case}.logits.npy"), expected) for case, expected in ours.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_library_computes_the_same_logits_with_the_code_shown(
    logits: dict[str, tuple[np.ndarray, np.ndarray]], case: str
) -> None:
    received, expected = logits[case]
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    np.testing.assert_allclose(received, expected, atol=1e-5 * np.abs(expected).max())
