"""The base class of the launchers, which turns overrides into jobs for an executor."""

from __future__ import annotations

import importlib.util
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict

from auxgrad.config.composing import check_overrides, validate
from auxgrad.config.overrides import quote_values
from auxgrad.errors import ConfigError

if TYPE_CHECKING:
    from auxgrad.execution.result import Outcome
    from auxgrad.sweeps.executor import Executor
    from auxgrad.sweeps.worker import Job


class AuxgradLauncher(Launcher):
    """A launcher that passes typed configs to an executor.

    The grid sweeper uses the executor directly.
    """

    executor: Executor

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Check the callbacks, set the environment variables and make the executor.

        Raises:
            ConfigError: A callback needs the start or the end of a job, which is not supported.
        """
        self._config, self._loader = config, hydra_context.config_loader
        for name, callback in config.hydra.callbacks.items():
            kind: Any = get_class(callback._target_)
            if kind.on_job_start != Callback.on_job_start or kind.on_job_end != Callback.on_job_end:
                raise ConfigError(
                    f"hydra.callbacks.{name}: auxgrad's launchers do not support callbacks "
                    "at the start or end of a job"
                )
        os.environ.update(config.hydra.job.env_set)  # Inherited by workers and SLURM tasks.
        self.executor = self.make_executor()

    @abstractmethod
    def make_executor(self) -> Executor:
        """Return the executor of the jobs."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Execute jobs for another sweeper, such as Optuna.

        Args:
            job_overrides: The overrides of each job.
            initial_job_idx: The number of the first job.

        Returns:
            The best validation loss or the error of each job.

        Raises:
            ConfigError: A config is wrong, or the store cannot be used from all machines.
        """
        composed = [
            self._loader.load_sweep_config(self._config, quote_values(overrides))
            for overrides in job_overrides
        ]
        for each, overrides in zip(composed, job_overrides, strict=True):
            check_overrides(each, overrides)
        for tracking in {validate(each).tracking for each in composed}:
            self.executor.check_store(tracking)
        jobs = {n: _job(each, n) for n, each in enumerate(composed, initial_job_idx)}
        outcomes = self.executor.run(jobs)
        return [
            _returned(outcomes.get(number), list(overrides))
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]


def _job(composed: DictConfig, number: int) -> Job:
    from auxgrad.sweeps.worker import Job

    with open_dict(composed.hydra.job):
        composed.hydra.job.num = composed.hydra.job.id = number
    sweep = composed.hydra.sweep
    return Job.of(validate(composed).normalise(), Path(sweep.dir, sweep.subdir))


def _returned(outcome: Outcome | None, overrides: list[str]) -> JobReturn:
    from auxgrad.execution.result import Result

    done = JobReturn(overrides=overrides, working_dir=outcome.folder if outcome else None)
    if isinstance(outcome, Result):
        done.return_value, done.status = outcome.best_val_loss, JobStatus.COMPLETED
    else:
        error = RuntimeError(outcome.error if outcome else "was not started")
        done.return_value, done.status = error, JobStatus.FAILED
    return done


def require(launcher: str, package: str, extra: str) -> None:
    """Check that a package is installed.

    Args:
        launcher: The name of the launcher that needs it.
        package: The name of the package.
        extra: The extra of auxgrad that installs it.

    Raises:
        ConfigError: The package is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"hydra/launcher={launcher}: the package {package} is not installed; "
            f"install the extra auxgrad[{extra}]"
        )


def plain(node: Any, resolve: bool = True) -> Any:
    """Return a node of a config as a plain dictionary, list or value."""
    return OmegaConf.to_container(node, resolve=resolve) if OmegaConf.is_config(node) else node
