"""Places for workers on this machine: the GPUs, cores and memory that each may use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from auxgrad.training.devices import GPU_MEMORY

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Slot:
    """A place for a worker: what its environment pins it to."""

    environment: Mapping[str, str]
    description: str


@dataclass(frozen=True)
class Gpu:
    """A GPU as CUDA_VISIBLE_DEVICES names it; memory in MiB, if known."""

    name: str
    memory: int | None


def slots(workers: int | None, jobs_per_gpu: int) -> list[Slot]:
    """Return the slots of this machine: `jobs_per_gpu` on each GPU, without GPUs one for each core.

    `workers` sets their number, over the GPUs in turns. Workers without GPUs share the cores' threads.
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
        environment = {**shared, "CUDA_VISIBLE_DEVICES": gpu.name}
        if sharing > 1 and gpu.memory:
            # A tenth is left to the CUDA contexts, which no limit covers.
            environment[GPU_MEMORY] = str(int(gpu.memory * 0.9 / sharing))
        made.append(Slot(environment, f"GPU {gpu.name}"))
    return made


def cores() -> int:
    """Return the number of cores that this process may use."""
    if own := os.environ.get("SLURM_CPUS_PER_TASK"):
        return int(own)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that this process may use, without TensorFlow, which would take hold of them."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        listing = ""
    known: dict[str, Gpu] = {}
    for line in listing.splitlines():
        index, uuid, memory = (part.strip() for part in line.split(","))
        known[index] = known[uuid] = Gpu(uuid, int(memory) if memory.isdigit() else None)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list({gpu.name: gpu for gpu in known.values()}.values())
    names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return [Gpu(name, known[name].memory if name in known else None) for name in names]
