"""`hydra/launcher=local`: worker processes on this machine."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

from auxgrad.config import check_at_least
from auxgrad.launching import EventLauncher

if TYPE_CHECKING:
    from auxgrad.pool import Event


class LocalLauncher(EventLauncher):
    """One worker process for each slot, reused: TensorFlow is imported and data read once in each."""

    def __init__(self, workers: int | None, jobs_per_gpu: int) -> None:
        check_at_least("hydra.launcher.workers", workers, 1, none_allowed=True)
        check_at_least("hydra.launcher.jobs_per_gpu", jobs_per_gpu, 1)
        from auxgrad import pool

        self._slots = pool.slots(workers, jobs_per_gpu)

    def describe(self) -> str:
        kinds = list(dict.fromkeys(slot.description for slot in self._slots))
        count = len(self._slots)
        return f"{count} worker{'s' * (count > 1)} on this machine ({', '.join(kinds)} each)"

    def events(self, jobs: Mapping[int, Sequence[str]]) -> Generator[Event]:
        from auxgrad import pool

        run_job = self.run_job()
        return pool.run_all(run_job, jobs, self._slots, prepare=run_job.prepare)
