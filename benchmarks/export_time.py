"""Time of an export in all formats: `python benchmarks/export_time.py [--images DIR]`.

`resnet export` writes and verifies a ResNet-50 of random weights in each format, and `model.export` of Keras writes a
SavedModel alone, unverified. Each runs in a process of its own, in turns, with its children. The table is printed and
written to `export_time.md`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from resnet_keras.distributed import cores

FORMATS = ("saved_model", "float32", "float16", "dynamic_range", "int8", "onnx")

KERAS_EXPORT = """
import sys
import keras
import resnet_keras

model = resnet_keras.Classifier.from_pretrained(sys.argv[1]).model
model.export(sys.argv[2] + "/saved_model", verbose=False)
"""


def write_images(folder: Path, count: int) -> None:
    """Writes JPEG files of smooth noise."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        small.resize((320, 256), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg")


def write_network(path: Path, network: str) -> None:
    """Writes a network of random weights and statistics."""
    from exports import classifier

    classifier(network).save(path)


def measured(command: list[str]) -> tuple[float, float]:
    """Returns the seconds of wall time and of CPU that a command takes with all of its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the table and writes it."""
    from resnet_keras.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--images", type=Path, help="folder of images; files of noise are made if it is not given")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        source, images = Path(scratch, "network.keras"), args.images or Path(scratch, "images")
        write_network(source, args.network)
        if args.images is None:
            write_images(images, 128)
        for turn in range(args.rounds):
            ours = [sys.executable, "-m", "resnet_keras.cli", "export", str(source), "--images", str(images)]
            # Random weights have no classes that int8 could keep, and so nothing is refused here.
            ours += ["--to", f"{scratch}/{turn}", "--agreement", "0", "--formats", *args.formats]
            commands = {
                f"`resnet export`, {len(args.formats)} formats, verified": ours,
                "`model.export`, one SavedModel": [
                    sys.executable,
                    "-c",
                    KERAS_EXPORT,
                    str(source),
                    f"{scratch}/k{turn}",
                ],
            }
            for name in list(commands)[:: 1 if turn % 2 else -1]:
                found.setdefault(name, []).append(measured(commands[name]))
    rows = [
        [name, *(f"{statistics.median(each):.1f}" for each in zip(*turns, strict=True))]
        for name, turns in found.items()
    ]
    table = markdown_table([args.network, "seconds", "CPU seconds"], rows)
    print(table)
    told = (
        f"Written by `python benchmarks/export_time.py`; medians of {args.rounds} turns on {cores()} CPU cores. "
        f"Formats: {', '.join(args.formats)}."
    )
    page = f"# Time of an export\n\n{told}\n\n{table}\n"
    Path(__file__).with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
