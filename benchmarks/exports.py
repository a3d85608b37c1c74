"""Exports side by side: `python benchmarks/exports.py [VERSION_FOLDER ...]`.

Speed: ResNet-50 with random weights and statistics in every format, beside keras.applications' own export of it, and
that in OpenVINO and ONNX Runtime where installed; printed and written to `exports.md`. Accuracy: if folders are named,
from the `export.json` in each, which `resnet export --latency` has written; instead of the speed, to
`export_accuracy.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import resnet_keras
from resnet_keras.distributed import cores
from resnet_keras.exporting import (
    FORMATS,
    Contender,
    convert_to_litert,
    export_peers,
    find_artifacts,
    measure_speed,
    probability_network,
    serving_network,
    speed_table,
    write_saved_model,
)
from resnet_keras.runs import versions
from resnet_keras.tables import markdown_table

PREPROCESSING = resnet_keras.Preprocessing(
    image_size=(224, 224), channels=3, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4), shorter_side=256
)


def classifier(network: str) -> resnet_keras.Classifier:
    """Returns a network with random weights and statistics; with means of 0, TensorFlow would drop all biases."""
    model = resnet_keras.build(network, classifier_activation=None)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
        if variable.path.endswith("gamma"):
            variable.assign(rng.uniform(0.3, 0.7, variable.shape))
    return resnet_keras.Classifier(model, PREPROCESSING, tuple(map(str, range(model.output_shape[1]))))


def ours(network: str, folder: Path, formats: list[str]) -> list[Contender]:
    """Writes a network as a SavedModel in both precisions, and in formats of LiteRT."""
    chosen = classifier(network)
    for precision in ("float32", "bfloat16"):
        write_saved_model(chosen, folder / precision, precision=precision)
    files = {name: folder / f"{name}.tflite" for name in formats}
    noise = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    convert_to_litert(probability_network(serving_network(chosen)), noise, files)
    found = find_artifacts([folder / "float32", folder / "bfloat16", *files.values()])
    kinds = {"saved_model": "SavedModel", "litert": "LiteRT"}
    return [
        Contender(f"resnet_keras {network}, {kinds[each.kind]} {each.path.stem}", each.kind, each.path)
        for each in found
    ]


def accuracy(folders: list[Path]) -> str:
    """Returns a table with a row for each artifact in the folders, from their reports."""
    heads = ["network, data", "artifact", "MB", "ms", "agreement", "accuracy", "of the network", "images"]
    rows = []
    for folder in folders:
        report: dict[str, Any] = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        trained = ", quantization-aware" if report["quantization_aware"] else ""
        for each in report["artifacts"]:
            time = next((t["p50_ms"] for t in reversed(each["latencies"]) if t["batch"] == 1), None)
            cells = [
                f"{report['model']}, {report['dataset']}{trained}",
                each["format"],
                f"{each['size_bytes'] / 1e6:.2f}",
                "" if time is None else f"{time:.2f}",
                f"{each['agreement']:.2%}",
                f"{each['accuracy']:.2%}",
                f"{each['classifier_accuracy']:.2%}",
                f"{each['images']:,}",
            ]
            rows.append(cells)
    return markdown_table(heads, rows, text=("artifact",))


def publish(page: str, name: str) -> None:
    """Prints a page and writes it beside this script."""
    print(page)
    Path(__file__).with_name(name).write_text(page, encoding="utf-8")


def main() -> None:
    """Measures and writes a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="versions that `resnet export --latency` has published")
    parser.add_argument("--network", default="resnet50", help="of the speeds; resnet50, resnet101 or resnet152")
    # Without int16: XNNPACK has no kernels for it, and a call would take half a minute.
    litert = [name for name, info in FORMATS.items() if info.runtime == "litert"]
    parser.add_argument("--formats", nargs="+", choices=litert, default=[n for n in litert if n != "int16"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    arguments = parser.parse_args()
    if arguments.folders:
        about = "On real images, with milliseconds of a single one on all cores, as `resnet export` reports them:"
        publish(f"# Accuracy of exports\n\n{about}\n\n{accuracy(arguments.folders)}\n", "export_accuracy.md")
        return
    with tempfile.TemporaryDirectory() as scratch:
        mine = ours(arguments.network, Path(scratch), arguments.formats)
        others = export_peers(arguments.network, Path(scratch))
        # Together, so that all have their turns in the same minutes.
        found = measure_speed([*mine, *others], batches=(1, 16), turns=arguments.turns, seconds=arguments.seconds)
    packages = versions()
    about = (
        f"`python benchmarks/exports.py` on {cores()} CPU cores ({platform.machine()}), tensorflow "
        f"{packages['tensorflow']}, keras {packages['keras']}; medians over {arguments.turns} turns of "
        f"{arguments.seconds:g} s. Milliseconds per image, in brackets how many times as fast as `model.export` of "
        "keras.applications."
    )
    table = speed_table(found, reference=len(mine))
    publish(f"# Exports, side by side\n\n{about}\n\n{table}\n", "exports.md")


if __name__ == "__main__":
    main()
