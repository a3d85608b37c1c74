"""The simulation of many GPUs beside real workers on this machine: `python benchmarks/scaling.py`.

One, two, and four workers train together on the cores of this machine by `resnet workers`. Two things are compared with
what the simulation (`resnet bench scaling`) says: the bytes that the workers send each other in a step, counted at the
loopback interface, and their speed. For the latter, the simulation gets what can be measured without the workers
training together: the speed of as many workers that train at the same time, each alone, and of the loopback interface.
Then the parts that this project measures are put together for 1 to 256 GPUs. The tables are printed and written to
`scaling.md`. Nothing else should use the loopback interface meanwhile.
"""

from __future__ import annotations

import argparse
import csv
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median, stdev
from time import perf_counter

from resnet_keras.distributed import (
    GPU_COUNTS,
    Machine,
    Workload,
    all_reduce_bytes,
    cores,
    scaling_table,
    simulate,
)
from resnet_keras.networks import stored_complexity
from resnet_keras.runs import versions

RESNET = [sys.executable, "-m", "resnet_keras.cli"]
NETWORK, BATCH, STEPS = "resnet20", 256, 5  # 1,438 images of digits are 5 full batches
EPOCHS = (2, 8)  # a difference of two runs has no bytes of start and end
WORKERS = (1, 2, 4)
A100 = 5322.10 / 8
SOURCE = "NVIDIA/DeepLearningExamples, PyTorch/Classification/ConvNets, 8 A100 in TF32, container 20.06"


def recipe(folder: Path, epochs: int, batch: int) -> list[str]:
    """Returns the arguments of a training on digits without validation before its end."""
    options = {"model": NETWORK, "epochs": epochs, "batch-size": batch, "validate-epochs": epochs, "workdir": folder}
    return ["train", "digits", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def speed(folder: Path) -> float:
    """Returns the images a second of a run, the median of its epochs but the first."""
    with (folder / "history.csv").open() as file:
        return median([float(row["images_per_second"]) for row in csv.DictReader(file)][1:])


def variation(folder: Path) -> float:
    """Returns the standard deviation of the time of a step, as a fraction, from that of epochs."""
    with (folder / "history.csv").open() as file:
        rates = [float(row["images_per_second"]) for row in csv.DictReader(file)][1:]
    return stdev(rates) / median(rates) * STEPS**0.5


def loopback_bytes() -> int:
    """Returns the bytes that have passed the loopback interface."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    raise OSError("Expected an interface lo in /proc/net/dev. Received: none")


def loopback_speed(megabytes: int = 512) -> tuple[float, float]:
    """Returns the bytes a second, in units of 10^9, and the microseconds of a message, between two sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    for end in (sender, receiver):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    block = bytes(2**20)

    def send() -> None:
        for _ in range(megabytes):
            sender.sendall(block)

    begun, left = perf_counter(), megabytes * 2**20
    thread = threading.Thread(target=send)
    thread.start()
    while left:
        left -= len(receiver.recv(2**20))
    seconds = perf_counter() - begun
    thread.join()
    begun = perf_counter()
    for _ in range(1000):
        sender.sendall(b"x")
        receiver.recv(1)
    message = (perf_counter() - begun) / 1000
    for end in (sender, receiver):
        end.close()
    return megabytes * 2**20 / seconds / 1e9, message * 1e6


def run(*commands: list[str]) -> None:
    """Runs commands at the same time, quietly."""
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for command in commands]
    for child in children:
        output, _ = child.communicate()
        if child.returncode:
            raise SystemExit(output.decode(errors="replace")[-2000:])


def together(scratch: Path, workers: int) -> tuple[float, float]:
    """Returns the images a second of workers that train together, and the bytes that pass between them in a step."""
    passed = []
    for epochs in EPOCHS:
        before, folder = loopback_bytes(), scratch / f"together{workers}_{epochs}"
        run([*RESNET, "workers", str(workers), "--", *RESNET, *recipe(folder, epochs, BATCH)])
        passed.append(loopback_bytes() - before)
    return speed(folder), (passed[1] - passed[0]) / (EPOCHS[1] - EPOCHS[0]) / STEPS


def alone(scratch: Path, workers: int) -> tuple[float, float]:
    """Returns the images a second of each of some workers that train at the same time, and how it varies."""
    folders = [scratch / f"alone{workers}_{i}" for i in range(workers)]
    # As many steps as those that train together: a smaller batch of fewer images.
    limit = ["--train-images", str(BATCH // workers * STEPS)]
    run(*([*RESNET, *recipe(folder, EPOCHS[1], BATCH // workers), *limit] for folder in folders))
    return median(map(speed, folders)), median(map(variation, folders))


def compared(scratch: Path) -> str:
    """Returns the table of workers on this machine, beside the simulation."""
    parameters = stored_complexity(NETWORK).parameters
    gigabytes, microseconds = loopback_speed()
    rows = []
    for workers in WORKERS:
        each, varied = alone(scratch, workers)
        workload = Workload(
            parameters=parameters, images_per_second=each, batch_size=BATCH // workers, cpu_milliseconds=0.0,
            image_kilobytes=0.0, variation=varied,
        )  # fmt: skip
        machine = Machine(gpus=1, network_gigabytes=gigabytes, network_microseconds=microseconds)
        expected = simulate(workload, machine, workers)
        rate, passed = together(scratch, workers)
        formula = workers * all_reduce_bytes(parameters, workers)
        rows.append(
            f"| {workers} | {passed / 1e6:.2f} | {formula / 1e6:.2f} | {each:,.0f} | {rate:,.0f} | "
            f"{expected.images_per_second:,.0f} | {rate / expected.images_per_second:.2f} |"
        )
        print(rows[-1], flush=True)
    head = (
        "| workers | MB between them per step | by formula | images/s, each alone | together | simulated | ratio |\n"
        "|---|---:|---:|---:|---:|---:|---:|"
    )
    return (
        f"The loopback interface passes {gigabytes:.1f} GB/s, and a message in {microseconds:.0f} µs.\n\n"
        + "\n".join([head, *rows])
    )


def main() -> None:
    """Measures, simulates, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as scratch:
        table = compared(Path(scratch))
    workload = Workload(parameters=stored_complexity("resnet50").parameters, images_per_second=A100)
    parts = [
        f"# Many GPUs\n\n`python benchmarks/scaling.py`, {', '.join(f'{k} {v}' for k, v in versions().items())}.",
        f"## Workers on this machine\n\n{NETWORK} on digits, batch {BATCH}; the workers share {cores()} cores. "
        '"Alone" are as many workers at the same time, each with its share of the batch, that do not wait for each '
        "other.",
        table,
        f"## ResNet-50 on A100 GPUs, simulated\n\n{A100:,.0f} images/s per GPU ({SOURCE}), batch "
        f"{workload.batch_size} per GPU, {workload.cpu_milliseconds} CPU ms and {workload.image_kilobytes:.0f} kB per "
        "image, 8 GPUs and 96 cores per machine, 12.5 GB/s between machines, 2 GB/s of storage. Each machine reads all "
        "images:",
        scaling_table([simulate(workload, Machine(reads_all=True), gpus) for gpus in GPU_COUNTS], workload),
        "Each machine reads its share:",
        scaling_table([simulate(workload, Machine(), gpus) for gpus in GPU_COUNTS], workload),
    ]
    arguments.to.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
