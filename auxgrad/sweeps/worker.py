"""Jobs, and the worker that executes them one after another in a process."""

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
MOST_GROWTH = 1 << 30  # In bytes.


@dataclass(frozen=True)
class Job:
    """A run to be executed, in a form that can be sent to another process.

    Attributes:
        packed: The pickled config. It is unpickled by the worker, which imports the user's modules
            then.
        folder: The preferred output folder.
        once: Whether to skip the run if it is finished in the store or another process is training
            it.
    """

    packed: bytes
    folder: Path
    once: bool = False

    @staticmethod
    def of(config: Config, folder: Path, once: bool = False) -> Job:
        """Return the job of a config.

        Args:
            config: The config of the run.
            folder: The preferred output folder.
            once: Whether to skip the run if it is finished or another process is training it.
        """
        return Job(pickle.dumps(config), folder, once)

    def config(self) -> Config:
        """Return the config.

        Raises:
            ConfigError: A module of the user cannot be imported in this process.
        """
        try:
            with contextlib.nullcontext() if "tensorflow" in sys.modules else quiet_stderr():
                config: Config = pickle.loads(self.packed)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"problem: cannot be imported in {Path.cwd()} ({error})") from None
        return config


class Worker:
    """Executes jobs in this process, in its own session.

    The output of each run goes to output.log in its folder.
    """

    def __init__(self) -> None:
        self._session: Session | None = None
        self._is_frozen = False
        self._memory = 0

    def __call__(self, job: Job) -> Outcome:
        """Execute a job and return its result or its failure.

        Args:
            job: The job.
        """
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
        """Return whether the process should be replaced because its memory has grown too much.

        TensorFlow keeps compiled functions until the process ends. Memory grows with each run if
        the compiled model cannot be reused, see `auxgrad.training.reuse`.
        """
        memory = psutil.Process().memory_info().rss
        self._memory = self._memory or memory
        return memory - self._memory > MOST_GROWTH

    def collect_garbage(self) -> None:
        """Free the objects that the last run left in reference cycles."""
        gc.collect()
        if not self._is_frozen:
            # Permanent objects, most of them modules, are frozen. Searching them after each run
            # would take longer than everything else.
            gc.freeze()
            self._is_frozen = True


@contextlib.contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Redirect the output of this process to a file, including the output of its libraries."""
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
