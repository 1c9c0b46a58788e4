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

HEARTBEAT = "worker.heartbeat"  # The tag of the time at which the process was last seen alive.
HEARTBEAT_SECONDS = 60
# How long the heartbeat of a process on another machine must have been the same, while it was watched
# from here, for the process to count as dead: if the last one is recent, and if it is not.
SILENCE_SECONDS = 600
CONFIRMATION_SECONDS = 180
INITIAL_NAMESPACE = "pid:[4026531836]"  # Of processes in no container, on every Linux.


def process_tags() -> dict[str, str]:
    """Return tags that tell this process from every other one, on this machine and elsewhere."""
    tags = {
        "worker.host": platform.node(),
        "worker.machine": _content("/etc/machine-id"),
        "worker.boot": _boot(),
        "worker.pid_namespace": _pid_namespace(),
        "worker.pid": str(os.getpid()),
        "worker.started": f"{psutil.Process().create_time():.2f}",
        HEARTBEAT: heartbeat(),
    }
    if job := slurm_job():
        tags |= {"worker.slurm_job": job, "worker.slurm_cluster": _slurm_cluster()}
    if (gpu := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        tags["worker.gpu"] = gpu
    return tags


def process_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Return those of the tags of `process_tags` that stay the same for the life of a process."""
    return {
        name: value for name, value in tags.items() if name.startswith("worker.") and name != HEARTBEAT
    }


def heartbeat() -> str:
    """Return the value of the tag HEARTBEAT: now, in seconds since 1970."""
    return str(int(time.time()))


def slurm_job() -> str | None:
    """Return the SLURM task that this process is part of, as squeue names it: 17 or 17_3."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


class Observer:
    """Tells which processes are dead, and remembers when it saw the heartbeats of those elsewhere."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, float]] = {}

    def dead(self, processes: Mapping[str, Mapping[str, str]]) -> set[str]:
        """Return the keys of the processes that are certainly dead.

        Where the process list can be seen from here, its number and start time tell. A process from
        before a restart of this machine is dead. Elsewhere SLURM tells, if the process is a task of the
        cluster that answers here; else its heartbeat: clocks of machines differ and jump, so what counts
        is for how long it has not changed.

        Args:
            processes: what `process_tags` described, by some key such as the run of the process.
        """
        jobs = {tags.get("worker.slurm_job") for tags in processes.values() if _is_task_here(tags)}
        known = slurm_states([job for job in jobs if job]) if jobs else None
        return {key for key, tags in processes.items() if self._is_dead(key, tags, known)}

    def _is_dead(self, key: str, tags: Mapping[str, str], known: Mapping[str, str] | None) -> bool:
        if tags.get("worker.host") == platform.node():
            if tags.get("worker.boot") == _boot():
                if tags.get("worker.pid_namespace") == _pid_namespace():
                    return not _is_process(tags)
            elif _is_this_machine(tags):
                return True
        if known is not None and _is_task_here(tags):
            return tags["worker.slurm_job"] not in known
        return self._is_silent(key, tags.get(HEARTBEAT, "0"))

    def _is_silent(self, key: str, beat: str) -> bool:
        last, since = self._seen.get(key, (None, 0.0))
        now = time.monotonic()
        if last != beat:
            self._seen[key] = beat, now
            return False
        is_recent = abs(time.time() - float(beat)) < SILENCE_SECONDS
        return now - since > (SILENCE_SECONDS if is_recent else CONFIRMATION_SECONDS)


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


def _is_this_machine(tags: Mapping[str, str]) -> bool:
    """Whether it surely is: containers of one image may share host name and machine id."""
    machine, here = _content("/etc/machine-id"), _pid_namespace()
    in_container = {here, tags.get("worker.pid_namespace")} != {INITIAL_NAMESPACE}
    return bool(machine) and machine == tags.get("worker.machine") and not in_container


def _is_task_here(tags: Mapping[str, str]) -> bool:
    cluster = tags.get("worker.slurm_cluster")
    return bool(tags.get("worker.slurm_job")) and bool(cluster) and cluster == _slurm_cluster()


@functools.cache
def _slurm_cluster() -> str:
    """The name of the cluster that answers here; empty without any."""
    if own := os.environ.get("SLURM_CLUSTER_NAME"):
        return own
    if shutil.which("scontrol") is None:
        return ""
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    lines = (line.partition("=") for line in shown.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "ClusterName"), "")


@functools.cache
def _boot() -> str:
    """Differs after every start of the machine."""
    return _content("/proc/sys/kernel/random/boot_id") or str(int(psutil.boot_time()))


@functools.cache
def _pid_namespace() -> str:
    """Which process list this process sees: another one in every container. Empty where none tells."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


@functools.cache
def _content(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
