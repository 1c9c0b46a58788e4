"""Jobs one after another in this process."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from auxgrad.sweeps.executor import Event, Executor
from auxgrad.sweeps.worker import Job, Worker


class SerialExecutor(Executor):
    """Executes jobs in this process, with all its cores."""

    # The output of a run goes to its file, and with it whatever is written meanwhile.
    is_live = False

    def describe(self) -> str:
        return "this process, one run after another"

    @property
    def spans_machines(self) -> bool:
        return False

    def events(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        worker = Worker()
        for number, job in jobs.items():
            yield Event(number)
            yield Event(number, worker(job))
            worker.collect_garbage()
