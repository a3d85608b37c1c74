"""One photograph, from the shell to the answer: `python benchmarks/predict_time.py [--photo FILE] [--torch PYTHON]`.

`resnet predict` opens a ResNet-50 of random weights as a `.keras` file, and as a LiteRT file; beside them the usual
script of torchvision, by an interpreter that has it. Each runs in processes of its own, in turns; CPU seconds of all
threads, and the peak memory. The table is printed and written to `predict_time.md`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TORCH_WRITE = "import sys, torch, torchvision; torch.save(torchvision.models.resnet50().state_dict(), sys.argv[1])"
TORCH_PREDICT = """
import sys
import torch
import torchvision
from PIL import Image
from torchvision import transforms

model = torchvision.models.resnet50()
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
image = transforms.Compose(steps)(Image.open(sys.argv[2]).convert("RGB"))
with torch.inference_mode():
    print(model.eval()(image[None]).softmax(1).topk(5))
"""
MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3, status)
"""
"""A small process, because the peak of a child begins with that of its parent."""


def measured(command: list[str]) -> tuple[float, float]:
    """Returns the CPU seconds and the peak memory in MB of a command.

    Raises:
        RuntimeError: The command failed.
    """
    printed = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True, check=True)
    cpu, memory, status = printed.stdout.split()
    if status != "0":
        raise RuntimeError(f"Expected a command that succeeds. Received: {' '.join(command)}, status {status}")
    return float(cpu), float(memory)


def commands(folder: Path, photo: Path, python: str | None) -> dict[str, list[str]]:
    """Writes the files of the network, and returns the commands by the names of their rows."""
    from exports import classifier

    import resnet_keras

    chosen = classifier("resnet50")
    chosen.save(folder / "resnet50.keras")
    done = resnet_keras.export(chosen, folder, formats=("float32",), test_images=1)
    predict = [sys.executable, "-m", "resnet_keras.cli", "predict"]
    found = {
        "`resnet predict resnet50.keras`": [*predict, str(folder / "resnet50.keras"), str(photo)],
        "`resnet predict float32.tflite`": [*predict, str(done.path / "float32.tflite"), str(photo)],
    }
    if python:
        weights = str(folder / "resnet50.pth")
        subprocess.run([python, "-c", TORCH_WRITE, weights], check=True)
        found["a script of torchvision"] = [python, "-c", TORCH_PREDICT, weights, str(photo)]
    return found


def main() -> None:
    """Prints the table and writes it."""
    from PIL import Image

    from resnet_keras.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, help="a gradient of 640x480 pixels if it is not given")
    parser.add_argument("--torch", help="a Python interpreter that has PyTorch and torchvision")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photo = args.photo or Path(scratch, "photo.jpg")
        if args.photo is None:
            Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(photo)
        chosen = commands(Path(scratch), photo, args.torch)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
        for turn in range(args.rounds):
            for name in list(chosen)[:: 1 if turn % 2 else -1]:
                found[name].append(measured(chosen[name]))
    rows = []
    for name, turns in found.items():
        cpu, memory = (statistics.median(each) for each in zip(*turns, strict=True))
        rows.append([name, f"{cpu:.1f}", f"{memory:.0f}"])
    table = markdown_table(["one photograph, ResNet-50", "CPU seconds", "memory, MB"], rows)
    print(table)
    told = f"Written by `python benchmarks/predict_time.py`; medians of {args.rounds} turns."
    page = f"# One photograph, from the shell to the answer\n\n{told}\n\n{table}\n"
    Path(__file__).with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
