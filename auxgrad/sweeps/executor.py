"""What executes the jobs of a sweep, and tells what happens while it happens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from auxgrad.execution.result import Outcome
from auxgrad.sweeps.worker import Job


@dataclass(frozen=True)
class Event:
    """A job has started (without an outcome) or ended; `number` is the job's."""

    number: int
    outcome: Outcome | None = None


Watch = Callable[[Event], bool]


class Executor(ABC):
    """Executes jobs, somewhere."""

    # Whether a line on the terminal may change while it waits for events.
    is_live: ClassVar[bool] = True

    @abstractmethod
    def describe(self) -> str:
        """Return where jobs are executed, for a person: 2 workers, ..."""

    @abstractmethod
    def events(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        """Execute the jobs and yield what happens; when closed early, end what runs."""

    def run(self, jobs: Mapping[int, Job], watch: Watch = lambda event: False) -> dict[int, Outcome]:
        """Execute the jobs and return their outcomes.

        Args:
            jobs: by number.
            watch: called with every event; when it returns true, nothing more is started, what runs is
                ended, and the outcomes that are missing stay missing.
        """
        outcomes: dict[int, Outcome] = {}
        events = self.events(jobs)
        try:
            for event in events:
                if event.outcome is not None:
                    outcomes[event.number] = event.outcome
                if watch(event):
                    break
        finally:
            events.close()
        return outcomes
