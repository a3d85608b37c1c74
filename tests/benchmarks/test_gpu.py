"""The benchmark with PyTorch as peer: its flags, its table, and short trainings of both peers."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.networks.architecture import Architecture

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {"stem": "imagenet", "block": "bottleneck", "repeats": (1, 2), "widths": (8, 16)}
OURS = """
import json, sys
import jax, keras
from gpu_peers import keras_turns
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build

keras.config.set_dtype_policy("mixed_bfloat16")
model = build(Architecture(**json.loads(sys.argv[1])), input_shape=(32, 32, 3), classes=5, classifier_activation=None)
before = [jax.numpy.copy(variable.value) for variable in model.variables]
turns = keras_turns(model, batch=4, side=32, steps=3)
seconds = {name: [turn(), turn()] for name, turn in turns.items()}
# The loop has copies of its own, so what has moved here is the work of `fit`.
moved = sum(bool((old != new.value).any()) for old, new in zip(before, model.variables))
print(json.dumps({"seconds": seconds, "moved": moved, "all": len(before), "tensorflow": "tensorflow" in sys.modules}))
"""


# In a process of its own, too: PyTorch's compiler and TensorFlow crash in one.
THEIRS = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from gpu_peers import torch_resnet, torch_turns

torch.manual_seed(0)
with torch.device("meta"):
    parameters = sum(weight.numel() for weight in torch_resnet((3, 4, 6, 3)).parameters())
model = torch_resnet((1, 2), width=8, classes=5)
before = {name: value.clone() for name, value in model.state_dict().items()}
(turn,) = torch_turns(model, batch=4, side=32, steps=2, half=True, compiled=False).values()
seconds = turn()
moved = sum(bool((before[name] != value.cpu()).any()) for name, value in model.state_dict().items())
images = torch.randn((4, 3, 32, 32))
with torch.no_grad():
    logits = model.cpu().eval()(images)
folder = Path(sys.argv[1])
torch.save(model.state_dict(), folder / "theirs.pth")
np.save(folder / "images.npy", images.numpy())
np.save(folder / "logits.npy", logits.numpy())
print(json.dumps({"parameters": parameters, "seconds": seconds, "moved": moved, "all": len(before)}))
"""


def run_child(code: str, argument: str) -> dict[str, Any]:
    paths = os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent)])
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, argument]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("gpu")


@pytest.fixture(scope="module")
def peers(gpu: ModuleType) -> ModuleType:
    return sys.modules["gpu_peers"]


def settings(peers: ModuleType, **changes: Any) -> Any:
    chosen = {"batch": 10, "steps": 2, "image_size": 224, "precision": "mixed_bfloat16", "compiled": True}
    return peers.Settings(**{**chosen, **changes})


def test_the_flags_have_the_paper_s_size_by_default(gpu: ModuleType) -> None:
    plain = gpu.parse([])
    assert (plain.batch, plain.image_size, plain.precision, plain.compiled) == (256, 224, "mixed_bfloat16", True)
    assert (plain.platform, plain.to) == (None, None)
    other = gpu.parse(["--batch", "4", "--steps", "2", "--turns", "1", "--no-compile", "--platform", "cpu"])
    assert (other.batch, other.steps, other.turns, other.compiled, other.platform) == (4, 2, 1, False, "cpu")


def test_a_wrong_number_is_an_error(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--batch", "--steps", "--turns", "--image-size"):
        for wrong in ("0", "-1", "two"):
            with pytest.raises(SystemExit):
                gpu.parse([f"{flag}={wrong}"])
            assert f"Expected a whole number of at least 1. Received: {wrong}" in capsys.readouterr().err


def test_the_table_has_medians_over_the_turns(gpu: ModuleType, peers: ModuleType) -> None:
    seconds = {"ours, jitted step": [1.0, 2.0, 4.0], "PyTorch": [2.0, 2.5, 2.0]}
    text = gpu.table(seconds, settings(peers), "H100")
    # 20 images in a turn: 20, 10 and 5 a second, beside 10, 8 and 10; ratios of a turn 2, 1.25 and 0.5.
    assert text.splitlines()[-2:] == [
        "| ours, jitted step | 10.0 | 5.0 – 20.0 | 1.25x |",
        "| PyTorch | 10.0 | 8.0 – 10.0 |  |",
    ]
    assert "--batch 10 --steps 2 --turns 3 --image-size 224 --precision mixed_bfloat16` on H100" in text
    assert "25,557,032 parameters in both" in text
    assert "with `torch.compile`" in text
    assert "without `torch.compile`" in gpu.table(seconds, settings(peers, compiled=False), "H100")


@pytest.mark.parametrize(
    ("parameters", "devices", "on", "said"),
    [
        (
            (25_557_032, 25_557_033),
            ("CPU", "CPU"),
            None,
            "25,557,032 parameters in both. Received: 25,557,032 and 25,5",
        ),
        ((25_557_032, 25_557_032), ("CPU", "H100"), None, "both peers on one device. Received: ['CPU', 'H100']"),
        ((25_557_032, 25_557_032), ("CPU", "CPU"), "gpu", "both peers on a GPU. Received: ['CPU', 'CPU']"),
    ],
)
def test_unlike_peers_are_not_compared(
    gpu: ModuleType, parameters: tuple[int, int], devices: tuple[str, str], on: str | None, said: str
) -> None:
    facts = [{"parameters": count, "device": device} for count, device in zip(parameters, devices, strict=True)]
    with pytest.raises(SystemExit) as end:
        gpu.check(facts, on)
    assert said in str(end.value)
    gpu.check([{"parameters": 25_557_032, "device": "CPU"}] * 2, "cpu")


def test_a_table_is_written_of_a_gpu_alone_unless_a_file_is_named(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "NEEDED", ())
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "gpu.py"))
    for device, flags, files in (
        ("CPU", [], []),
        ("CPU", ["--to", str(tmp_path / "trial.md")], ["trial.md"]),
        ("H100", [], ["gpu.md", "trial.md"]),
    ):
        monkeypatch.setattr(gpu, "measure", lambda *_, device=device: ({"ours": [1.0], "PyTorch": [2.0]}, device))
        gpu.main(flags)
        assert "| 2.00x |" in capsys.readouterr().out
        assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_what_is_not_installed_is_named(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "NEEDED", ("json", "no_such_package"))
    with pytest.raises(
        SystemExit, match="Expected json, no_such_package to be installed. Received: no no_such_package"
    ):
        gpu.main([])


def test_a_peer_that_fails_ends_the_comparison(gpu: ModuleType, peers: ModuleType) -> None:
    peer = gpu.Peer("nobody", settings(peers), "cpu")
    try:
        with pytest.raises(SystemExit, match="Expected an answer from nobody. Received: exit status 1"):
            peer.answer()
        with pytest.raises(SystemExit, match="exit status 1"):
            peer.turn()
    finally:
        peer.end()


@pytest.mark.slow
def test_ours_trains_by_both_ways_on_jax_without_tensorflow() -> None:
    for package in ("jax",):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"Keras's JAX backend needs {package}, which is not installed")
    found = run_child(OURS, json.dumps(SMALL | {"repeats": (1,), "widths": (8,)}))
    assert list(found["seconds"]) == ["ours, jitted step", "ours, model.fit"]
    assert all(0 < taken < 60 for turns in found["seconds"].values() for taken in turns)
    assert found["moved"] == found["all"] > 20
    assert not found["tensorflow"]


def test_theirs_is_the_network_that_ours_is_and_trains(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    found = run_child(THEIRS, str(tmp_path))
    assert found["parameters"] == 25_557_032
    assert 0 < found["seconds"] < 60
    assert found["moved"] == found["all"] > 20
    model = build_with_weights(
        Architecture(**SMALL),  # type: ignore[arg-type]
        weights=tmp_path / "theirs.pth",
        input_shape=(32, 32, 3),
        classes=5,
        classifier_activation=None,
        bottleneck_stride="3x3",
    )
    expected = np.load(tmp_path / "logits.npy")
    received = np.asarray(model(np.load(tmp_path / "images.npy").transpose(0, 2, 3, 1), training=False))
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4)
