"""Training speed of ResNet-50 on one GPU, ours and PyTorch's, in one run: `python benchmarks/gpu.py`.

Ours runs on Keras's JAX backend, as a loop over a jitted step and by `model.fit`. PyTorch's uses `torch.compile`,
channels last, and autocast. Both take the same steps: SGD with momentum on one batch of noise on the device, bfloat16
computation with float32 weights, the stride of a bottleneck in its 3x3 convolution. Each peer has a process of its
own, which compiles before the first turn. Then they take turns, so that other load on the machine affects both; a
ratio is the median over the turns. The table is printed and, on a GPU, written to `gpu.md`.

It needs Keras, JAX, PyTorch, and lazy_loader, and no TensorFlow. Both peers keep their memory; if it does not suffice,
choose a smaller --batch. On a CPU, a trial with `--image-size 64 --batch 4 --steps 2 --turns 1` takes minutes.

For accuracy rather than speed, make complete runs. Those of the paper's Table 6, over five seeds:

    for seed in 0 1 2 3 4; do
        resnet train cifar10 --model resnet20 --seed $seed --workdir runs/r20_$seed
    done
    resnet runs runs
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from gpu_peers import PEERS, Settings

PARAMETERS = 25_557_032
BASELINE = "PyTorch"
NEEDED = ("keras", "jax", "lazy_loader", "torch")
VERSIONS = ("keras", "jax", "torch", "torchvision")

Seconds = dict[str, list[float]]
"""Seconds of each turn, for each way to train."""


class Peer:
    """A process that trains the network of one peer, in turns."""

    def __init__(self, name: str, settings: Settings, on: str | None) -> None:
        # By default JAX reserves three quarters of the memory, of which the other peer needs its part.
        environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if on == "cpu":
            environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, str(Path(__file__).with_name("gpu_peers.py")), name, json.dumps(asdict(settings))]
        self.name = name
        self.process = subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True, bufsize=1)

    def answer(self) -> dict[str, Any]:
        """Waits for the next line of the process and returns it."""
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        raise SystemExit(f"Expected an answer from {self.name}. Received: exit status {self.process.wait()}; see above")

    def turn(self) -> dict[str, float]:
        """Runs one turn; returns the seconds of each way to train."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says why
            self.process.stdin.write("\n")
        return self.answer()

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()  # closes the pipes


def measure(settings: Settings, turns: int, on: str | None) -> tuple[Seconds, str]:
    """Returns the seconds of all turns, and the device."""
    peers: list[Peer] = []
    try:
        facts = []
        for name in PEERS:  # one after the other, because compilation times kernels
            peers.append(Peer(name, settings, on))
            facts.append(peers[-1].answer())
            print(f"{name}: {facts[-1]['parameters']:,} parameters, on {facts[-1]['device']}", flush=True)
        check(facts, on)
        seconds: Seconds = {}
        for _ in range(turns):
            for peer in peers:
                for way, taken in peer.turn().items():
                    seconds.setdefault(way, []).append(taken)
    finally:
        for peer in peers:
            peer.end()
    return seconds, facts[0]["device"]


def check(facts: Sequence[dict[str, Any]], on: str | None) -> None:
    """Checks that the peers train the same network on the same device.

    Raises:
        SystemExit: The number of parameters or the devices differ.
    """
    if any(fact["parameters"] != PARAMETERS for fact in facts):
        found = " and ".join(f"{fact['parameters']:,}" for fact in facts)
        raise SystemExit(f"Expected {PARAMETERS:,} parameters in both. Received: {found}")
    devices = [fact["device"] for fact in facts]
    if len(set(devices)) > 1 or (on == "gpu" and devices[0] == "CPU"):
        raise SystemExit(f"Expected both peers on {'a GPU' if on == 'gpu' else 'one device'}. Received: {devices}")


def table(seconds: Seconds, settings: Settings, device: str) -> str:
    """Returns the Markdown table: medians over the turns, and the range of the speed."""
    made = ", ".join(f"{name} {version}" for name in VERSIONS if (version := version_of(name)))
    turns = len(seconds[BASELINE])
    flags = f"--batch {settings.batch} --steps {settings.steps} --turns {turns} --image-size {settings.image_size}"
    lines = [
        "# Training speed on a GPU, with PyTorch as peer",
        "",
        f"`python benchmarks/gpu.py {flags} --precision {settings.precision}` on {device} ({platform.machine()}), "
        f"commit {commit()}, {made}; medians over {turns} turns of {settings.steps} steps, taken in turn. ResNet-50, "
        f"{PARAMETERS:,} parameters in both, stride in the 3x3 convolutions; SGD with momentum; one batch of noise on "
        f"the device. PyTorch {'with' if settings.compiled else 'without'} `torch.compile`, channels last.",
        "",
        "| network | images/s | range | speed relative to PyTorch |",
        "|---|---:|---:|---:|",
    ]
    images = settings.batch * settings.steps
    for way, mine in seconds.items():
        ratio = median(other / own for own, other in zip(mine, seconds[BASELINE], strict=True))
        rates = [images / taken for taken in mine]
        beside = "" if way == BASELINE else f"{ratio:.2f}x"
        lines.append(f"| {way} | {median(rates):,.1f} | {min(rates):,.1f} – {max(rates):,.1f} | {beside} |")
    return "\n".join(lines) + "\n"


def version_of(package: str) -> str | None:
    """Returns the version of a package; `None` if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Returns the commit of the source tree."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=_count, default=256)
    parser.add_argument("--steps", type=_count, default=50, help="steps per turn")
    parser.add_argument("--turns", type=_count, default=7)
    parser.add_argument("--image-size", type=_count, default=224)
    parser.add_argument("--precision", choices=("mixed_bfloat16", "float32"), default="mixed_bfloat16")
    parser.add_argument("--platform", choices=("cpu", "gpu"), help="device; the GPU if there is one by default")
    parser.add_argument(
        "--no-compile", dest="compiled", action="store_false", help="do not use torch.compile, for trials"
    )
    parser.add_argument("--to", type=Path, help="file for the table; on a GPU, gpu.md by default")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"Expected a whole number of at least 1. Received: {text}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the table."""
    arguments = parse(argv)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise SystemExit(f"Expected {', '.join(NEEDED)} to be installed. Received: no {', '.join(missing)}")
    settings = Settings(arguments.batch, arguments.steps, arguments.image_size, arguments.precision, arguments.compiled)
    seconds, device = measure(settings, arguments.turns, arguments.platform)
    text = table(seconds, settings, device)
    print(f"\n{text}")
    to = arguments.to or (None if device == "CPU" else Path(__file__).with_suffix(".md"))
    if to:
        to.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
