"""What the launchers of auxgrad have in common: how a job becomes a run with a folder of its own."""

from __future__ import annotations

import os
import re
import sys
from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from auxgrad.outcome import Outcome
from auxgrad.values import quote_values

if TYPE_CHECKING:
    from auxgrad.pool import Event

LOG_FILE = "output.log"


def file_name(text: str) -> str:
    """The text as a name that any file system takes.

    >>> file_name("Projection lam=100 problem.hidden=[8,8]")
    'Projection_lam=100_problem.hidden=[8,8]'
    """
    return re.sub(r"[^\w.,=+\[\]-]", "_", text)[:200]


def claim_folder(wanted: Path) -> Path:
    """Makes a folder that was not there: `wanted`, or the same with _2, _3, ... at its end."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


@dataclass(frozen=True)
class RunJob:
    """Runs job `number` in this process; its output goes to a file in its folder."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction
    singletons: Mapping[Any, Any]

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of a job."""
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))

    def prepare(self, overrides: Sequence[str]) -> DictConfig | Sequence[str]:
        """The config of a job, which takes 50 ms that need not be those of a worker.

        Overrides that cannot be composed stay as they are: the worker reports their error as the job's.
        """
        try:
            return self.compose(overrides)
        except Exception:
            return list(overrides)

    def __call__(self, number: int, job: DictConfig | Sequence[str]) -> Outcome:
        """`job` is its config, or the overrides to compose it from."""
        setup_globals()
        Singleton.set_state(self.singletons)
        folder = None
        try:
            composed = job if isinstance(job, DictConfig) else self.compose(job)
            sweep = composed.hydra.sweep
            with read_write(composed.hydra.job), open_dict(composed.hydra.job):
                composed.hydra.job.id = composed.hydra.job.num = number
            HydraConfig.instance().set_config(composed)
            folder = claim_folder(Path(sweep.dir, sweep.subdir))
            with read_write(sweep):
                sweep.subdir = os.path.relpath(folder, sweep.dir)
            _divert_output(folder / LOG_FILE)
            done = run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=composed,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            return Outcome.of(done)
        except Exception as error:
            return Outcome.failure(error, str(folder or ""))


def _divert_output(file: Path) -> None:
    """All that this process writes from now on, its libraries and its last words included."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


class EventLauncher(Launcher):
    """A launcher that tells what happens while it happens, and can be told to stop.

    `watch` is called with every event; when it returns true no more is started and what runs is ended.
    """

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction
    watch: Callable[[Event], bool] | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """For sweepers of others: every job's return value, or its error."""
        quoted = [quote_values(overrides) for overrides in job_overrides]
        outcomes = self.launch_runs(dict(enumerate(quoted, initial_job_idx)))
        missing = Outcome("failed", error="was not started")
        return [
            outcomes.get(number, missing).job_return(overrides)
            for number, overrides in enumerate(quoted, initial_job_idx)
        ]

    def launch_runs(self, jobs: Mapping[int, Sequence[str]]) -> dict[int, Outcome]:
        """Outcomes of the jobs; those that were stopped before their end are missing."""
        outcomes = {}
        events = self.events(jobs)
        try:
            for event in events:
                if event.outcome is not None:
                    outcomes[event.job] = event.outcome
                if self.watch and self.watch(event):
                    break
        finally:
            events.close()
        return outcomes

    def run_job(self) -> RunJob:
        """What a worker needs to know."""
        return RunJob(self.config, self.hydra_context, self.task_function, Singleton.get_state())

    @abstractmethod
    def events(self, jobs: Mapping[int, Sequence[str]]) -> Generator[Event]:
        """Runs the jobs and yields what happens; closed early, it ends what runs."""

    @abstractmethod
    def describe(self) -> str:
        """Where runs go, for a person: 2 workers, ..."""
