"""Weights written for PyTorch, in the libraries' own classes: `python benchmarks/torch_files.py`.

Networks of this package get random weights (all of them, moving statistics and biases too) and are written for
torchvision, timm and transformers. The code that the report of the files shows loads them there, and both networks
compute the logits of the same images of noise. The table is printed and written to `torch_files.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with contextlib.suppress(ImportError):  # torchvision ends the process where TensorFlow has come first
    importlib.import_module("torchvision")

import keras
import numpy as np
from sources import SIDE, noise, randomize

import resnet_keras
from resnet_keras.applications import save_for_torch
from resnet_keras.distributed import cores
from resnet_keras.networks import ARCHITECTURES, FAMILY
from resnet_keras.runs import versions

LIBRARIES = ("torchvision", "timm", "transformers")
KNOWN = ARCHITECTURES | FAMILY
V15 = {"bottleneck_stride": "3x3"}
PAPER = [(name, {}) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")]
WIDE = [
    (name, {})
    for name in ("wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
]
TIMM = [
    *((f"resnet{depth}vd", {"first_projection": False}) for depth in (18, 50, 101)),
    *((f"resnet{depth}v2", {"first_activation": "block", "pool_border": "edge"}) for depth in (18, 50, 101)),
    *((f"se_{name}", {}) for name in ("resnet50", "resnext50_32x4d")),
    *((f"resnet_rs{depth}", {}) for depth in (50, 101)),
]
NETWORKS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "torchvision": [*((name, V15) for name, _ in PAPER), *WIDE],
    "timm": [*((name, V15) for name in ("resnet18", "resnet50")), WIDE[0], WIDE[2], *TIMM],
    "transformers": [*PAPER, ("resnet50", V15)],
}
"""Networks of each library, with conventions other than the paper's."""


def compared(layout: str, name: str, conventions: dict[str, Any], folder: Path) -> str:
    """Writes a network, loads it in its library, and returns a row of the table."""
    torch = importlib.import_module("torch")
    known = {"safetensors": importlib.import_module("safetensors.torch") and importlib.import_module("safetensors")}
    known[layout] = importlib.import_module(layout)
    row = KNOWN[name].replace(**conventions)
    model = randomize(resnet_keras.build(row, input_shape=(SIDE, SIDE, 3), classifier_activation=None))
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    classifier = resnet_keras.Classifier(
        model,
        resnet_keras.Preprocessing(image_size=(SIDE, SIDE), channels=3, mean=mean, std=std),
        tuple(map(str, range(1000))),
    )
    report = save_for_torch(classifier, folder / (f"{name}.safetensors" if layout == "torchvision" else name), layout)
    if report.code.startswith("model = "):
        exec(report.code, known)
        theirs = known["model"]
    else:
        theirs = eval(report.code, known)
    with torch.no_grad():
        received = theirs.eval()(torch.tensor(noise()).permute(0, 3, 1, 2))
    received = getattr(received, "logits", received).numpy()
    expected = np.asarray(model.predict_on_batch(noise()))
    difference = f"{np.abs(received - expected).max():.1e} of {np.abs(expected).max():.2g}"
    shown = ", ".join(f"{field}={value}" for field, value in conventions.items())
    missing = set(theirs.state_dict()) ^ {*report.tensors, *report.counters}
    assert not missing, missing
    return f"| {layout} | {name}{f' ({shown})' if shown else ''} | {len(report.tensors)} | {difference} |"


def main() -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    about = versions()
    installed = ", ".join(f"{library} {metadata.version(library)}" for library in ("torch", *LIBRARIES))
    lines = [
        "# Weights written for PyTorch",
        "",
        f"`python benchmarks/torch_files.py` on {cores()} CPU cores ({platform.machine()}), commit "
        f"{about['commit']}, tensorflow {about['tensorflow']}, keras {about['keras']}, {installed}. Largest difference "
        f"of a logit between the network here and the written file in the library's own class, loaded strictly, on "
        f"{SIDE}x{SIDE} noise, of the largest logit. The names of the library's tensors are exactly those written.",
        "",
        "| library | network | tensors | largest difference of a logit |",
        "|---|---|---:|---:|",
    ]
    for layout, networks in NETWORKS.items():
        for name, conventions in networks:
            with tempfile.TemporaryDirectory() as folder:
                lines.append(compared(layout, name, conventions, Path(folder)))
            print(lines[-1], flush=True)
            keras.backend.clear_session()
            gc.collect()
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
