"""Identify the process of a run, and decide whether it is still alive."""

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

HEARTBEAT = "worker.heartbeat"  # The tag with the time of the last heartbeat.
HEARTBEAT_SECONDS = 60
# A process on another machine counts as dead when its heartbeat has not changed for this long, while
# this process watched it: the first number if the heartbeat is recent, the second one if it is old.
RECENT_TIMEOUT_SECONDS = 600
OLD_TIMEOUT_SECONDS = 180
INITIAL_NAMESPACE = "pid:[4026531836]"  # The PID namespace outside all containers, on every Linux.


def process_tags() -> dict[str, str]:
    """Return tags that distinguish this process from all others, on this machine and elsewhere."""
    tags = {
        "worker.host": platform.node(),
        "worker.machine": _read_file("/etc/machine-id"),
        "worker.boot": _boot_id(),
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


def stable_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of `process_tags` that do not change during the life of a process.

    Args:
        tags: all tags of a run.
    """
    return {
        name: value for name, value in tags.items() if name.startswith("worker.") and name != HEARTBEAT
    }


def heartbeat() -> str:
    """Return the present value of the tag HEARTBEAT: the seconds since 1970."""
    return str(int(time.time()))


def slurm_job() -> str | None:
    """Return the SLURM task of this process as squeue names it, such as 17 or 17_3, or None."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


class Observer:
    """Decides which processes are dead.

    An observer remembers when it first saw each heartbeat of the processes on other machines.
    """

    def __init__(self) -> None:
        self._heartbeats: dict[str, tuple[str, float]] = {}

    def dead(self, processes: Mapping[str, Mapping[str, str]]) -> set[str]:
        """Return the keys of the processes that are certainly dead.

        If the process list of the process is visible, PID and start time decide. A process that was
        started before the last boot of this machine is dead. If the process is a task of the SLURM
        cluster of this machine, SLURM decides. Otherwise the heartbeat decides: what counts is for how
        long it has not changed, because the clocks of machines differ and jump.

        Args:
            processes: the tags from `process_tags` of each process, by any key, such as the run id.

        Returns:
            A subset of the keys.
        """
        jobs = {tags.get("worker.slurm_job") for tags in processes.values() if _is_task_here(tags)}
        known = slurm_states([job for job in jobs if job]) if jobs else None
        return {key for key, tags in processes.items() if self._is_dead(key, tags, known)}

    def _is_dead(self, key: str, tags: Mapping[str, str], known: Mapping[str, str] | None) -> bool:
        if tags.get("worker.host") == platform.node():
            if tags.get("worker.boot") == _boot_id():
                if tags.get("worker.pid_namespace") == _pid_namespace():
                    return not _is_process(tags)
            elif _is_this_machine(tags):
                return True
        if known is not None and _is_task_here(tags):
            return tags["worker.slurm_job"] not in known
        return self._is_timed_out(key, tags.get(HEARTBEAT, "0"))

    def _is_timed_out(self, key: str, beat: str) -> bool:
        last, since = self._heartbeats.get(key, (None, 0.0))
        now = time.monotonic()
        if last != beat:
            self._heartbeats[key] = beat, now
            return False
        is_recent = abs(time.time() - float(beat)) < RECENT_TIMEOUT_SECONDS
        return now - since > (RECENT_TIMEOUT_SECONDS if is_recent else OLD_TIMEOUT_SECONDS)


def slurm_states(jobs: list[str]) -> dict[str, str] | None:
    """Return the states of the SLURM tasks that have not ended.

    Args:
        jobs: the tasks to ask about, as squeue names them.

    Returns:
        The state of each of these tasks that has not ended; None if SLURM does not answer.
    """
    if shutil.which("squeue") is None:
        return None
    if not jobs:
        return {}
    # For a single job that ended long ago squeue returns an error. From a list it omits such jobs.
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
    """Return whether the process certainly belongs to this machine.

    Containers of one image may share host name and machine id, so that nothing is certain inside them.
    """
    machine, here = _read_file("/etc/machine-id"), _pid_namespace()
    in_container = {here, tags.get("worker.pid_namespace")} != {INITIAL_NAMESPACE}
    return bool(machine) and machine == tags.get("worker.machine") and not in_container


def _is_task_here(tags: Mapping[str, str]) -> bool:
    cluster = tags.get("worker.slurm_cluster")
    return bool(tags.get("worker.slurm_job")) and bool(cluster) and cluster == _slurm_cluster()


@functools.cache
def _slurm_cluster() -> str:
    """Return the name of the SLURM cluster of this machine; empty if there is none."""
    if own := os.environ.get("SLURM_CLUSTER_NAME"):
        return own
    if shutil.which("scontrol") is None:
        return ""
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    lines = (line.partition("=") for line in shown.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "ClusterName"), "")


@functools.cache
def _boot_id() -> str:
    """Return a text that changes with every boot of the machine."""
    return _read_file("/proc/sys/kernel/random/boot_id") or str(int(psutil.boot_time()))


@functools.cache
def _pid_namespace() -> str:
    """Return the PID namespace of this process, which differs between containers; empty if unknown."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


@functools.cache
def _read_file(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
