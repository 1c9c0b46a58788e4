"""Execute jobs in SLURM tasks, several jobs in each task.

submitit submits the tasks. Each task executes its jobs in its own pool (`run_task`) and writes
events to a file, one in a line, which the submitting process reads. squeue shows which tasks are
lost, so that SLURM needs no accounting.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import re
import subprocess
import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auxgrad.errors import AuxgradError
from auxgrad.execution.result import Failure, from_dict, to_dict
from auxgrad.process import interruption
from auxgrad.process.liveness import slurm_states
from auxgrad.sweeps import pool
from auxgrad.sweeps.executor import Event, Executor
from auxgrad.sweeps.slots import slots
from auxgrad.sweeps.worker import Job

POLL_SECONDS = 1.0
SQUEUE_SECONDS = 5.0  # Not more often: squeue puts load on the controller, which all users share.
END = "end"


@dataclass
class Task:
    """A SLURM task, as seen by the process that submitted it.

    Attributes:
        slurm_job: The id of the task in SLURM.
        jobs: The numbers of its jobs.
        events_file: The file that the task writes events to.
        log: The path of the log file of the task.
        started: The numbers of the jobs that have started.
        ended: The numbers of the jobs that have ended.
        is_over: Whether the task has ended or is lost.
    """

    slurm_job: str
    jobs: Sequence[int]
    events_file: Path
    log: str
    started: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    is_over: bool = False
    _read: int = 0

    def new_events(self) -> Iterator[Event]:
        """Yield the events that the task has written since the last call."""
        if not self.events_file.exists():
            return
        with self.events_file.open("rb") as stream:
            stream.seek(self._read)
            content = stream.read()
        for line in content[: content.rfind(b"\n") + 1].splitlines(keepends=True):
            self._read += len(line)
            entry = json.loads(line)
            if entry == END:
                self.is_over = True
                return
            job, outcome = entry
            if outcome is None:
                self.started.add(job)
                yield Event(job)
            else:
                self.ended.add(job)
                yield Event(job, from_dict(outcome))

    def lost_events(self) -> Iterator[Event]:
        """Mark the task as lost, and yield a failure for each job that it was executing.

        Jobs that had not started do not fail. If no job had started, all jobs fail, because the
        task itself must be at fault.
        """
        self.is_over = True
        error = f"its SLURM task {self.slurm_job} ended (see {self.log})"
        for job in sorted(self.started - self.ended) if self.started else self.jobs:
            yield Event(job, Failure(error))


class SlurmExecutor(Executor):
    """Executes jobs in SLURM tasks, which are submitted as arrays.

    Args:
        folder: The folder for scripts, logs and events of the tasks. All nodes must have access to
            it.
        runs_per_task: The number of jobs in a task.
        workers: The number of worker processes in a task.
        sbatch: The parameters of submitit's executor.
    """

    def __init__(
        self, folder: Path, runs_per_task: int, workers: int, sbatch: Mapping[str, Any]
    ) -> None:
        self._folder, self._runs_per_task, self._workers = folder, runs_per_task, workers
        self._sbatch = sbatch

    def describe(self) -> str:
        """Return the number of runs in a task."""
        return f"SLURM, {self._runs_per_task} run{'s' * (self._runs_per_task > 1)} to a task"

    @property
    def spans_machines(self) -> bool:
        """Whether the cluster has nodes other than this machine.

        Raises:
            AuxgradError: SLURM does not answer.
        """
        shown = ask(["sinfo", "--noheader", "--Node", "--format=%N"])
        return bool(set(shown.split()) - {platform.node().partition(".")[0]})

    def events(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        """Submit the jobs and yield their events; if closed early, cancel the remaining tasks.

        Args:
            jobs: The jobs by number.

        Raises:
            AuxgradError: SLURM does not accept the tasks.
        """
        tasks = self._submit(jobs)
        try:
            yield from _follow(tasks)
        finally:
            _cancel([task.slurm_job for task in tasks if not task.is_over])

    def _submit(self, jobs: Mapping[int, Job]) -> list[Task]:
        import submitit

        folder = self._folder.absolute() / uuid.uuid4().hex[:8]
        folder.mkdir(parents=True)
        numbers, size = list(jobs), self._runs_per_task
        packs = [numbers[i : i + size] for i in range(0, len(numbers), size)]
        longest = max_array_size()
        tasks: list[Task] = []
        try:
            executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=0)
            executor.update_parameters(**self._sbatch)
            for first in range(0, len(packs), longest):
                array = packs[first : first + longest]
                files = [folder / f"events_{first + i}.jsonl" for i in range(len(array))]
                contents = [{number: jobs[number] for number in pack} for pack in array]
                with contextlib.redirect_stderr(io.StringIO()):  # The exception repeats the output.
                    submitted = executor.map_array(
                        run_task, contents, [self._workers] * len(array), files
                    )
                for job, pack, file in zip(submitted, array, files, strict=True):
                    tasks.append(Task(job.job_id, pack, file, str(job.paths.stdout)))
        except BaseException as error:
            _cancel([task.slurm_job for task in tasks])
            if isinstance(error, submitit.core.utils.FailedJobError | FileNotFoundError | RuntimeError):
                reason = " ".join(str(error).split())
                raise AuxgradError(f"hydra/launcher=slurm: cannot submit ({reason[:300]})") from None
            raise
        return tasks


def run_task(jobs: Mapping[int, Job], workers: int, events_file: Path) -> None:
    """Execute the jobs of a SLURM task in a pool, and write their events to a file.

    If SLURM ends the task, by preemption or at its time limit, its runs count as interrupted, not
    as failed. Another task resumes them from their checkpoints.

    Args:
        jobs: The jobs by number.
        workers: The number of worker processes.
        events_file: The file to write events to.
    """
    interruption.install()  # submitit would ignore the signal that scancel sends.
    with events_file.open("a", encoding="utf-8") as stream, interruption.as_exceptions():

        def write(entry: object) -> None:
            stream.write(json.dumps(entry) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

        running: set[int] = set()

        def report_interruptions() -> None:
            # Written before the workers end, because SLURM kills this process after a few seconds.
            for number in sorted(running):
                write([number, to_dict(Failure("its SLURM task was ended", was_interrupted=True))])

        places = slots(workers, jobs_per_gpu=workers)
        for event in pool.run_all(jobs, places, before_stopping=report_interruptions):
            running ^= {event.number}
            write([event.number, None if event.outcome is None else to_dict(event.outcome)])
        write(END)


def max_array_size() -> int:
    """Return the length of the longest array that the cluster accepts."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]), re.M)
    return max(1, int(found[1])) if found else 1000


def ask(command: Sequence[str]) -> str:
    """Return the output of a SLURM command.

    Args:
        command: The program and its arguments.

    Raises:
        AuxgradError: The command fails or is not installed.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or error
        raise AuxgradError(
            f"hydra/launcher=slurm: SLURM does not answer here ({' '.join(str(reason).split())})"
        ) from None


def _follow(tasks: Sequence[Task]) -> Iterator[Event]:
    """Yield the events of the tasks until all are over or lost."""
    asked = time.monotonic()
    missing: set[str] = set()
    while left := [task for task in tasks if not task.is_over]:
        for task in left:
            yield from task.new_events()
        if time.monotonic() - asked >= SQUEUE_SECONDS:
            asked = time.monotonic()
            known = slurm_states([task.slurm_job for task in left])
            for task in left if known is not None else ():
                assert known is not None
                if task.is_over or task.slurm_job in known:
                    continue
                # A task is lost if two queries miss it. Its last events may arrive late through a
                # shared file system.
                if task.slurm_job in missing:
                    yield from task.new_events()
                    if not task.is_over:
                        yield from task.lost_events()
                missing.add(task.slurm_job)
        time.sleep(POLL_SECONDS)
        interruption.check()


def _cancel(slurm_jobs: Sequence[str]) -> None:
    """Cancel tasks, and wait until they have ended, so that their runs are marked KILLED."""
    if not slurm_jobs:
        return
    print("stopping  SLURM tasks are being cancelled; press Ctrl-C again to stop at once", flush=True)
    with contextlib.suppress(OSError):
        subprocess.run(["scancel", *slurm_jobs], capture_output=True)
    deadline = time.monotonic() + pool.GRACE_SECONDS
    while time.monotonic() < deadline and slurm_states(list(slurm_jobs)):
        time.sleep(POLL_SECONDS)
