"""What executes the jobs of a sweep, and tells what happens while it happens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from auxgrad.config.addresses import sqlite_file, store_address
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import ConfigError
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

    @property
    @abstractmethod
    def spans_machines(self) -> bool:
        """Whether jobs may be executed on another machine than this one.

        Raises AuxgradError if the cluster does not say which machines it has.
        """

    def check_store(self, tracking: TrackingConfig) -> None:
        """Raise ConfigError for an SQLite file if jobs may run on other machines, which would break it.

        Its locks hold between the processes of one machine.
        """
        name, uri = store_address(tracking.uri)
        if sqlite_file(uri) and self.spans_machines:
            raise ConfigError(
                f"{name}={uri}: a file serves the processes of one machine, and jobs may run on others "
                f"({self.describe()}); must be a tracking server (http://...) or PostgreSQL "
                "(postgresql://...)"
            )

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
