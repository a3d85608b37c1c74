"""The cluster that a process belongs to, from its environment: TF_CONFIG, Slurm, or Kubernetes."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

_SLURM_PORTS = 20_000
"""First of a thousand ports; a Slurm job uses one by its number."""


@dataclass(frozen=True)
class Cluster:
    """Workers that train together, one process each.

    Attributes:
        workers: Their addresses, "host:port". The first is the chief, the only one that writes.
        index: Index of this process among them.
    """

    workers: tuple[str, ...]
    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < len(self.workers):
            raise ValueError(f"Expected a worker's index from 0 to {len(self.workers) - 1}. Received: {self.index}")

    @property
    def address(self) -> str:
        """This worker's own address."""
        return self.workers[self.index]

    @property
    def resolver(self) -> tf.distribute.cluster_resolver.ClusterResolver:
        """The resolver for a strategy of TensorFlow; the GPUs are those that this process sees."""
        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(self.workers)}),
            task_type="worker",
            task_id=self.index,
            num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
            rpc_layer="grpc",
        )


def cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Returns the cluster that the environment describes; `None` if this process trains alone.

    The first of these that exists decides:

    - `TF_CONFIG`, read by `TFConfigClusterResolver`: tasks named worker, or one named chief and others worker.
    - A step of Slurm (`srun`) of several tasks, read by `SlurmClusterResolver`.
    - `RESNET_WORKER_COUNT` and `RESNET_WORKER_ADDRESS` ("resnet-{index}.resnet:2222"), with the worker's own index
      from `JOB_COMPLETION_INDEX`, as Kubernetes gives it to the pods of an indexed Job, whose names are known
      before they run. `KubernetesClusterResolver` does not fit: it asks the API server, which needs a client library
      and permissions; it requires that all pods run already, uses the addresses of their nodes, and does not know its
      own index.

    Raises:
        ValueError: The environment does not describe a cluster of workers.
    """
    if environment.get("TF_CONFIG"):
        found = _of_tf_config()
    elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        found = _of_slurm(environment)
    elif "RESNET_WORKER_COUNT" in environment:
        found = _of_pattern(environment)
    else:
        return None
    return found if len(found.workers) > 1 else None


def _of_tf_config() -> Cluster:
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        jobs, kind, index = resolver.cluster_spec().as_dict(), resolver.task_type, resolver.task_id
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"Expected TF_CONFIG to be JSON of a cluster. Received: {os.environ['TF_CONFIG']}") from error
    if not jobs:
        return Cluster(("localhost",), 0)
    chiefs, workers = jobs.get("chief", []), jobs.get("worker", [])
    if not jobs.keys() <= {"chief", "worker"} or kind not in jobs or index is None or len(chiefs) > 1:
        raise ValueError(
            "Expected TF_CONFIG with a `cluster` of tasks named worker, and at most one named chief, and a `task` "
            f"that is one of them. Received: {os.environ['TF_CONFIG']}"
        )
    return Cluster((*chiefs, *workers), index + (len(chiefs) if kind == "worker" else 0))


def _of_slurm(environment: Mapping[str, str]) -> Cluster:
    # Only the resolver's addresses are used. Slurm has already chosen the GPUs of a task; the resolver would count
    # those of the node, overwrite CUDA_VISIBLE_DEVICES, and fail without GPUs.
    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    port = _SLURM_PORTS + int(environment.get("SLURM_JOB_ID", "0")) % 1000  # two jobs may share a node
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    )
    # The resolver sorts n10 before n9; Slurm numbers its tasks in the nodes' natural order.
    addresses = sorted(resolver.cluster_spec().as_dict()["worker"], key=_natural)
    found = Cluster(tuple(addresses), int(environment["SLURM_PROCID"]))
    own, node = addresses[found.index].partition(":")[0], environment.get("SLURMD_NODENAME", socket.gethostname())
    if own.partition(".")[0] != node.partition(".")[0]:
        raise ValueError(
            f"Expected task {found.index} of Slurm on {own}: tasks node by node, as `srun --distribution=block` has "
            f"them. Received: {node}"
        )
    return found


def _of_pattern(environment: Mapping[str, str]) -> Cluster:
    count, pattern, index = (
        environment.get(name, "") for name in ("RESNET_WORKER_COUNT", "RESNET_WORKER_ADDRESS", "JOB_COMPLETION_INDEX")
    )
    if not (count.isdigit() and int(count) and index.isdigit() and "{index}" in pattern):
        raise ValueError(
            "Expected RESNET_WORKER_COUNT=N, RESNET_WORKER_ADDRESS=HOST-{index}:PORT and JOB_COMPLETION_INDEX=I. "
            f"Received: {count!r}, {pattern!r} and {index!r}"
        )
    return Cluster(tuple(pattern.replace("{index}", str(i)) for i in range(int(count))), int(index))


def _natural(address: str) -> list[tuple[int, str]]:
    """Returns a key that sorts numbers within names by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", address)]
