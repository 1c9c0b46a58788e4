"""Slots for workers on this machine, which say what GPU, cores and memory each worker may use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from auxgrad.training.devices import GPU_MEMORY

GPUS = "CUDA_VISIBLE_DEVICES"
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Slot:
    """A slot for a worker.

    Attributes:
        environment: The environment variables that pin the worker to its GPU and its threads.
        description: A short text for the user.
    """

    environment: Mapping[str, str]
    description: str


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: The name that CUDA_VISIBLE_DEVICES takes.
        memory: The memory in MiB; None if it is not known.
    """

    name: str
    memory: int | None


def slots(workers: int | None, jobs_per_gpu: int) -> list[Slot]:
    """Return the slots of this machine.

    Workers without a GPU share the threads of the cores equally.

    Args:
        workers: The number of slots, distributed over the GPUs in turn; None for `jobs_per_gpu` on
            each GPU, or without GPUs one for each core.
        jobs_per_gpu: The number of slots on each GPU if `workers` is None.
    """
    gpus = visible_gpus()
    count = workers or (len(gpus) * jobs_per_gpu if gpus else cores())
    threads = str(max(1, cores() // count))
    shared = dict.fromkeys(THREADS, threads)
    if not gpus:
        return [Slot(shared, f"CPU, {threads} thread{'s' * (threads != '1')}")] * count
    made = []
    for i in range(count):
        gpu, sharing = gpus[i % len(gpus)], -(-count // len(gpus))
        environment = {**shared, GPUS: gpu.name}
        if sharing > 1 and gpu.memory:
            # A tenth is left for the CUDA contexts, which the limit does not cover.
            environment[GPU_MEMORY] = str(int(gpu.memory * 0.9 / sharing))
        made.append(Slot(environment, f"GPU {gpu.name}"))
    return made


def cores() -> int:
    """Return the number of cores that this process may use."""
    if own := os.environ.get("SLURM_CPUS_PER_TASK"):
        return int(own)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that this process may use, without TensorFlow, which would allocate them."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        listing = ""
    known: dict[str, Gpu] = {}
    for line in listing.splitlines():
        index, uuid, memory = (part.strip() for part in line.split(","))
        known[index] = known[uuid] = Gpu(uuid, int(memory) if memory.isdigit() else None)
    visible = os.environ.get(GPUS)
    if visible is None:
        return list({gpu.name: gpu for gpu in known.values()}.values())
    names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return [Gpu(name, known[name].memory if name in known else None) for name in names]
