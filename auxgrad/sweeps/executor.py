"""The base class of executors, which execute the jobs of a sweep and yield events."""

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
    """The start or the end of a job.

    Attributes:
        number: The number of the job.
        outcome: The outcome of a job that has ended; None for a job that has started.
    """

    number: int
    outcome: Outcome | None = None


Watch = Callable[[Event], bool]


class Executor(ABC):
    """Executes jobs in processes that a subclass chooses."""

    # Whether a live progress line may be shown while the executor waits for events.
    is_live: ClassVar[bool] = True

    @abstractmethod
    def describe(self) -> str:
        """Return a text for the user that says where jobs are executed."""

    @property
    @abstractmethod
    def spans_machines(self) -> bool:
        """Whether jobs may be executed on other machines.

        Raises:
            AuxgradError: The cluster does not answer which machines it has.
        """

    @property
    def device(self) -> str | None:
        """The device that the runs will record, or None if only the workers know it."""
        return None

    def check_store(self, tracking: TrackingConfig) -> None:
        """Check that the tracking store can be used from all machines that jobs may run on.

        The locks of an SQLite file work only between processes of one machine. Processes on several
        machines could damage the file.

        Args:
            tracking: The tracking options of the sweep.

        Raises:
            ConfigError: The store is an SQLite file and jobs may run on other machines.
            AuxgradError: The cluster does not answer which machines it has.
        """
        name, uri = store_address(tracking.uri)
        if sqlite_file(uri) and self.spans_machines:
            raise ConfigError(
                f"{name}={uri}: a file serves the processes of one machine, but jobs may run on others "
                f"({self.describe()}); must be a tracking server (http://...) or PostgreSQL "
                "(postgresql://...)"
            )

    @abstractmethod
    def events(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        """Execute the jobs and yield an event when a job starts or ends.

        If the generator is closed early, the running jobs are ended.

        Args:
            jobs: The jobs by number.
        """

    def run(self, jobs: Mapping[int, Job], watch: Watch = lambda event: False) -> dict[int, Outcome]:
        """Execute the jobs and return their outcomes.

        Args:
            jobs: The jobs by number.
            watch: A function that is called with each event. If it returns true, no further job is
                started and the running jobs are ended.

        Returns:
            The outcomes by number; jobs that were not started, or were ended early, have none.
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
