"""Simulation of training on many GPUs: what each part of a step takes, and which part is the limit.

The parts are measured one by one: the speed of a GPU, the CPU time of an image, the size of its file, the number of
gradients. The simulation puts them together as `MultiWorkerMirroredStrategy` does: every GPU computes its share of a
batch, all wait for the slowest, then the gradients are summed, first in each machine and then around a ring of
machines. Meanwhile each machine reads and decodes the next batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean
from typing import Annotated, Literal

from resnet_keras.checks.fields import above, at_least, check_fields
from resnet_keras.tables import markdown_table

Part = Literal["computing", "stragglers", "summing gradients", "decoding", "reading"]

GPU_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of GPUs in a table."""

_BYTES = 4  # of a gradient in float32
_AHEAD = 2  # batches that a machine has ready
_STEPS = 200
_NOTABLE = 0.05  # of a step; a smaller loss is none

_ADVICE: dict[Part, str] = {
    "computing": "nothing: the GPUs are busy",
    "stragglers": "a larger batch per GPU, machines of one kind",
    "summing gradients": "a larger batch per GPU, a faster network between the machines",
    "decoding": "more cores per GPU, smaller images on disk, --train-sizes",
    "reading": "a copy of the data on each machine, faster storage",
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The work of a training, per image and step.

    Raises:
        ValueError: A field is out of its range.
    """

    parameters: Annotated[int, at_least(1)]
    """Trainable parameters: as many gradients, in float32, are summed in each step."""
    images_per_second: Annotated[float, above(0)]
    """Images that one GPU trains on, with its input ready."""
    batch_size: Annotated[int, at_least(1)] = 256
    """Images per step on each GPU."""
    cpu_milliseconds: Annotated[float, at_least(0)] = 5.0
    """CPU time of one core to decode and augment an image."""
    image_kilobytes: Annotated[float, at_least(0)] = 112.0
    """Size of an image's file in units of 1,000 bytes; 112 is the mean of ImageNet's records."""
    variation: Annotated[float, at_least(0)] = 0.03
    """Standard deviation of the time of a step on one GPU, as a fraction of the time."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine of a cluster of equal ones.

    Raises:
        ValueError: A field is out of its range.
    """

    gpus: Annotated[int, at_least(1)] = 8
    """GPUs of a machine."""
    cores: Annotated[int, at_least(1)] = 96
    """CPU cores of a machine."""
    gpu_gigabytes: Annotated[float, above(0)] = 150.0
    """Bytes a second between the GPUs of a machine, in units of 10^9."""
    network_gigabytes: Annotated[float, above(0)] = 12.5
    """Bytes a second between machines, in units of 10^9; 12.5 is 100 Gbit/s."""
    network_microseconds: Annotated[float, at_least(0)] = 30.0
    """Time of a message between machines."""
    storage_gigabytes: Annotated[float, above(0)] = 2.0
    """Bytes a second that a machine reads from its storage, in units of 10^9."""
    reads_all: bool = False
    """Whether each machine reads all images, as a shuffled stream does, or its own share, as `resnet train` does."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Scaling:
    """Result of a simulation.

    Attributes:
        gpus: Number of GPUs.
        machines: Number of machines.
        images_per_second: Images of all GPUs.
        efficiency: That number, as a fraction of what the GPUs would do one by one with their input ready.
        seconds: Seconds that each part takes for a step by itself.
        limit: The part that costs most.
    """

    gpus: int
    machines: int
    images_per_second: float
    efficiency: float
    seconds: dict[Part, float]
    limit: Part

    @property
    def advice(self) -> str:
        """What helps, in words."""
        return _ADVICE[self.limit]


def simulate(workload: Workload, machine: Machine, gpus: int, *, seed: int = 0) -> Scaling:
    """Simulates 200 steps of a training on `gpus` GPUs.

    Args:
        workload: The work.
        machine: The machines. The last may have fewer GPUs than the others.
        gpus: Number of GPUs, at least 1.
        seed: Seed of the variation.

    Raises:
        ValueError: `gpus` is below 1.
    """
    if gpus < 1:
        raise ValueError(f"Expected at least 1 GPU. Received: {gpus}")
    machines = -(-gpus // machine.gpus)
    local = min(gpus, machine.gpus)
    computing = workload.batch_size / workload.images_per_second
    summing = all_reduce_seconds(workload, machine, gpus)
    images = workload.batch_size * local
    decoding = images * workload.cpu_milliseconds / 1e3 / machine.cores
    reading = images * (machines if machine.reads_all else 1) * workload.image_kilobytes * 1e3
    reading /= machine.storage_gigabytes * 1e9
    random = Random(seed)
    slowest = [
        computing * max(0.0, *(random.gauss(1.0, workload.variation) for _ in range(gpus))) for _ in range(_STEPS)
    ]
    ready, ended = [0.0] * _STEPS, [0.0] * _STEPS
    for step in range(_STEPS):
        begun = max(ready[step - 1] if step else 0.0, ended[step - _AHEAD] if step >= _AHEAD else 0.0)
        ready[step] = begun + max(decoding, reading)
        start = max(ready[step], ended[step - 1] if step else 0.0)
        ended[step] = start + slowest[step] + summing
    half = _STEPS // 2  # the first half fills what is kept ready
    step_seconds = (ended[-1] - ended[half - 1]) / (_STEPS - half)
    seconds: dict[Part, float] = {
        "computing": computing,
        "stragglers": mean(slowest) - computing,
        "summing gradients": summing,
        "decoding": decoding,
        "reading": reading,
    }
    rate = workload.batch_size * gpus / step_seconds
    return Scaling(
        gpus, machines, rate, rate / (workload.images_per_second * gpus), seconds, _limit(seconds, step_seconds)
    )


def all_reduce_bytes(parameters: int, workers: int) -> float:
    """Returns the bytes that each worker sends to sum its gradients around a ring: 2 (N - 1) / N of them."""
    return 2 * (workers - 1) / workers * _BYTES * parameters


def all_reduce_seconds(workload: Workload, machine: Machine, gpus: int) -> float:
    """Returns the time to sum the gradients of all GPUs: in each machine, and around a ring of machines."""
    machines = -(-gpus // machine.gpus)
    inside = all_reduce_bytes(workload.parameters, min(gpus, machine.gpus)) / (machine.gpu_gigabytes * 1e9)
    between = all_reduce_bytes(workload.parameters, machines) / (machine.network_gigabytes * 1e9)
    return inside + between + 2 * (machines - 1) * machine.network_microseconds / 1e6


def scaling_table(results: Iterable[Scaling], workload: Workload) -> str:
    """Returns a table of simulations in Markdown: what they reach, and what it takes to feed each machine.

    Args:
        results: Simulations of `workload`.
        workload: The work.
    """
    rows = []
    for each in results:
        per_machine = each.images_per_second / each.machines
        step = workload.batch_size * each.gpus / each.images_per_second
        rows.append(
            (
                f"{each.gpus:,}",
                f"{each.images_per_second:,.0f}",
                f"{each.efficiency:.0%}",
                f"{per_machine * workload.cpu_milliseconds / 1e3:,.0f}",
                f"{each.seconds['reading'] / step:.0%}",
                f"{each.seconds['summing gradients'] * 1e3:,.1f}",
                each.limit,
                each.advice,
            )
        )
    feeding = ("cores busy per machine", "storage busy", "summing, ms")
    head = ("GPUs", "images/s", "efficiency", *feeding, "limit", "advice")
    return markdown_table(head, rows, text=("limit", "advice"))


def first_limit(results: Sequence[Scaling]) -> Scaling | None:
    """Returns the first of some simulations, in order, whose GPUs wait for something; `None` if none do."""
    return next((each for each in results if each.limit != "computing"), None)


def _limit(seconds: dict[Part, float], step: float) -> Part:
    """Returns the part that costs most: what the input takes beyond the rest, or what is added to the computation."""
    slowest_input: Part = "reading" if seconds["reading"] >= seconds["decoding"] else "decoding"
    added: Part = "summing gradients" if seconds["summing gradients"] >= seconds["stragglers"] else "stragglers"
    network = seconds["computing"] + seconds["stragglers"] + seconds["summing gradients"]
    if seconds[slowest_input] > network:
        return slowest_input
    return added if seconds[added] > _NOTABLE * step else "computing"
