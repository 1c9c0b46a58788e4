"""Which process a run belongs to, and whether that process is still alive."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

# A process on another machine counts as dead when its last heartbeat is older than this.
SILENCE_SECONDS = 600
HEARTBEAT = "worker.heartbeat"  # The tag of the time at which the process was last seen alive.


def process_tags() -> dict[str, str]:
    """Return tags that tell this process from every other one, on this machine and elsewhere."""
    tags = {
        "worker.host": platform.node(),
        "worker.boot": _boot(),
        "worker.pid": str(os.getpid()),
        "worker.started": f"{psutil.Process().create_time():.2f}",
        HEARTBEAT: heartbeat(),
    }
    if job := slurm_job():
        tags["worker.slurm_job"] = job
    if (gpu := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        tags["worker.gpu"] = gpu
    return tags


def heartbeat() -> str:
    """Return the value of the tag HEARTBEAT: now, in seconds since 1970."""
    return str(int(time.time()))


def slurm_job() -> str | None:
    """Return the SLURM task that this process is part of, as squeue names it: 17 or 17_3."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def is_alive(tags: Mapping[str, str]) -> bool:
    """Return whether the process that `process_tags` described may still be at work.

    On the same machine its number and start time tell; elsewhere SLURM, if it runs there and here; else
    the time since its last heartbeat.
    """
    if tags.get("worker.host") == platform.node():
        return tags.get("worker.boot") == _boot() and _is_process(tags)
    if (job := tags.get("worker.slurm_job")) and (known := slurm_states([job])) is not None:
        return job in known
    return time.time() - float(tags.get(HEARTBEAT, 0)) < SILENCE_SECONDS


def slurm_states(jobs: list[str]) -> dict[str, str] | None:
    """Return the state of each of these SLURM tasks that is not over; None if SLURM does not answer."""
    if shutil.which("squeue") is None:
        return None
    if not jobs:
        return {}
    # Of one job long gone squeue says nothing but an error; of two it leaves out what is gone.
    asked = ",".join([*jobs, jobs[0]])
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={asked}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return None
    states = dict(line.split() for line in done.stdout.splitlines() if line.strip())
    return {job: states[job] for job in jobs if job in states}


def _is_process(tags: Mapping[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags["worker.pid"]))
        same = abs(process.create_time() - float(tags["worker.started"])) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, ValueError):
        return False


@functools.cache
def _boot() -> str:
    """Differs after every start of the machine."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text(encoding="utf-8").strip() if file.exists() else str(int(psutil.boot_time()))
