"""`hydra/launcher=slurm`: several runs in each SLURM task, through submitit."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auxgrad.config import check_at_least
from auxgrad.errors import ConfigError
from auxgrad.launching import EventLauncher

if TYPE_CHECKING:
    from auxgrad.pool import Event


class SlurmLauncher(EventLauncher):
    """Packs runs into tasks, tasks into arrays; the keys are those of conf/hydra/launcher/slurm.yaml."""

    def __init__(
        self,
        runs_per_task: int,
        workers: int,
        gpus_per_task: int,
        cpus_per_task: int,
        mem: str | None,
        timeout_min: int,
        partition: str | None,
        max_parallel: int,
        options: Mapping[str, Any],
        setup_lines: Sequence[str],
        log_dir: str,
    ) -> None:
        for key, value, least in (
            ("runs_per_task", runs_per_task, 1),
            ("workers", workers, 1),
            ("gpus_per_task", gpus_per_task, 0),
            ("cpus_per_task", cpus_per_task, 1),
            ("timeout_min", timeout_min, 1),
            ("max_parallel", max_parallel, 1),
        ):
            check_at_least(f"hydra.launcher.{key}", value, least)
        if importlib.util.find_spec("submitit") is None:
            raise ConfigError(
                "hydra/launcher=slurm: the package submitit is not installed; "
                "the extra auxgrad[slurm] has it"
            )
        self._runs_per_task, self._workers, self._log_dir = runs_per_task, workers, log_dir
        sbatch = {
            "job_name": "auxgrad",
            "time": timeout_min,
            "partition": partition,
            "mem": mem,
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_task or None,
            "array_parallelism": max_parallel,
            "additional_parameters": dict(options) or None,
            "setup": list(setup_lines) or None,
            "stderr_to_stdout": True,
        }
        self._sbatch = {key: value for key, value in sbatch.items() if value is not None}

    def describe(self) -> str:
        return f"SLURM, {self._runs_per_task} run{'s' * (self._runs_per_task > 1)} to a task"

    def events(self, jobs: Mapping[int, Sequence[str]]) -> Generator[Event]:
        from auxgrad import slurm

        folder = Path(self._log_dir).absolute()
        return slurm.events(
            self.run_job(), jobs, folder, self._runs_per_task, self._workers, self._sbatch
        )
