"""A process that works through jobs."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from auxgrad.config.schema import Config
from auxgrad.errors import ConfigError
from auxgrad.execution.result import Failure, Outcome, Result
from auxgrad.process.quiet import quiet_stderr
from auxgrad.record.folders import claim_folder

if TYPE_CHECKING:
    from auxgrad.execution.session import Session

LOG_FILE = "output.log"
MOST_GROWTH = 1 << 30  # Bytes.


@dataclass(frozen=True)
class Job:
    """A run to be made.

    Attributes:
        packed: its config, pickled: the user's modules are imported where and when it runs.
        folder: what is wanted for its output.
        once: whether the run is left to whoever has finished it or is at work on it.
    """

    packed: bytes
    folder: Path
    once: bool = False

    @staticmethod
    def of(config: Config, folder: Path, once: bool = False) -> Job:
        """Return the job of a config."""
        return Job(pickle.dumps(config), folder, once)

    def config(self) -> Config:
        """Return the config. Raises ConfigError if a module of the user's cannot be imported here."""
        try:
            with contextlib.nullcontext() if "tensorflow" in sys.modules else quiet_stderr():
                config: Config = pickle.loads(self.packed)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"problem: cannot be imported in {Path.cwd()} ({error})") from None
        return config


class Worker:
    """Makes runs in this process, with a session of its own. What they print goes into their folders."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._is_frozen = False
        self._memory = 0

    def __call__(self, job: Job) -> Outcome:
        """Make the run and return its result, or its failure."""
        folder = ""
        try:
            claimed = claim_folder(job.folder)
            folder = str(claimed)
            with _output_to(claimed / LOG_FILE):
                return self._run(job, claimed)
        except Exception as error:
            return Failure.of(error, folder)

    def _run(self, job: Job, folder: Path) -> Result:
        from auxgrad.execution.session import Session

        self._session = self._session or Session()
        return self._session.run(job.config(), folder, log_model=False, once=job.once)

    def needs_replacement(self) -> bool:
        """Return whether the process has grown so much that a new one should take over.

        TensorFlow keeps what it compiles until the process ends: for networks that cannot be trained
        again, see `auxgrad.training.reuse`, that is something for every run.
        """
        memory = psutil.Process().memory_info().rss
        self._memory = self._memory or memory
        return memory - self._memory > MOST_GROWTH

    def collect_garbage(self) -> None:
        """Free what the last run has left in reference cycles."""
        gc.collect()
        if not self._is_frozen:
            # What stays for good, the modules above all, is set aside: to look through it after every
            # run would take longer than all else.
            gc.freeze()
            self._is_frozen = True


@contextlib.contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Send all that this process writes into a file, the output of its libraries included."""
    kept = os.dup(1), os.dup(2)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, number)
            os.close(saved)
