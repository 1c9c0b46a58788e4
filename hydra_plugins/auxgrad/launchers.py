"""The launchers `hydra/launcher=basic|local|ray|slurm`, which choose where runs are executed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auxgrad.config.messages import check_at_least
from hydra_plugins.auxgrad.base import AuxgradLauncher, plain, require

if TYPE_CHECKING:
    from auxgrad.sweeps.executor import Executor


class SerialLauncher(AuxgradLauncher):
    """Executes runs in this process, with the options in conf/hydra/launcher/basic.yaml."""

    def make_executor(self) -> Executor:
        """Return an executor that executes jobs in this process."""
        from auxgrad.sweeps.serial import SerialExecutor

        return SerialExecutor()


class LocalLauncher(AuxgradLauncher):
    """Executes runs in local worker processes, with the options in conf/hydra/launcher/local.yaml."""

    def __init__(self, workers: int | None, jobs_per_gpu: int) -> None:
        check_at_least("hydra.launcher.workers", workers, 1, none_allowed=True)
        check_at_least("hydra.launcher.jobs_per_gpu", jobs_per_gpu, 1)
        self._workers, self._jobs_per_gpu = workers, jobs_per_gpu

    def make_executor(self) -> Executor:
        """Return an executor that executes jobs in local worker processes."""
        from auxgrad.sweeps.pool import LocalExecutor

        return LocalExecutor(self._workers, self._jobs_per_gpu)


class RayLauncher(AuxgradLauncher):
    """Executes runs in Ray actors, with the options in conf/hydra/launcher/ray.yaml."""

    def __init__(self, ray: Mapping[str, Any]) -> None:
        require("ray", "ray", "ray")
        self._ray = ray

    def make_executor(self) -> Executor:
        """Return an executor that executes jobs in Ray actors."""
        from auxgrad.sweeps.ray import RayExecutor

        init = plain(self._ray["init"])
        environment = init["runtime_env"].setdefault("env_vars", {})
        environment.update(self._config.hydra.job.env_set)
        places = [str(Path.cwd()), environment.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))]
        # Actors import the user's modules from the working directory.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
        return RayExecutor(init, plain(self._ray["remote"]))


class SlurmLauncher(AuxgradLauncher):
    """Executes runs in SLURM tasks, with the options in conf/hydra/launcher/slurm.yaml."""

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
        numbers = {"runs_per_task": runs_per_task, "workers": workers, "cpus_per_task": cpus_per_task}
        numbers |= {"timeout_min": timeout_min, "max_parallel": max_parallel}
        for key, value in numbers.items():
            check_at_least(f"hydra.launcher.{key}", value, 1)
        check_at_least("hydra.launcher.gpus_per_task", gpus_per_task, 0)
        require("slurm", "submitit", "slurm")
        self._runs_per_task, self._workers, self._log_dir = runs_per_task, workers, log_dir
        sbatch = {
            "job_name": "auxgrad",
            "time": timeout_min,
            "partition": partition,
            "mem": mem,
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_task or None,
            "array_parallelism": max_parallel,
            "additional_parameters": plain(options) or None,
            "setup": plain(setup_lines) or None,
            "stderr_to_stdout": True,
        }
        self._sbatch = {key: value for key, value in sbatch.items() if value is not None}

    def make_executor(self) -> Executor:
        """Return an executor that executes jobs in SLURM tasks."""
        from auxgrad.sweeps.slurm import SlurmExecutor

        return SlurmExecutor(Path(self._log_dir), self._runs_per_task, self._workers, self._sbatch)
