"""Execute jobs one after another in this process."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from auxgrad.sweeps.executor import Event, Executor
from auxgrad.sweeps.slots import visible_gpus
from auxgrad.sweeps.worker import Job, Worker
from auxgrad.training import devices


class SerialExecutor(Executor):
    """Executes jobs in this process, with all its cores."""

    # A live line would end up in the log file of the run, where all output of this process goes.
    is_live = False

    def describe(self) -> str:
        """Return that runs are executed in this process."""
        return "this process, one run after another"

    @property
    def spans_machines(self) -> bool:
        """False: there is only this process."""
        return False

    @property
    def device(self) -> str | None:
        """The CPU, or None if this process may use GPUs."""
        return None if visible_gpus() else devices.cpu()

    def events(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        """Execute the jobs one after another and yield their events."""
        worker = Worker()
        for number, job in jobs.items():
            yield Event(number)
            yield Event(number, worker(job))
            worker.collect_garbage()
