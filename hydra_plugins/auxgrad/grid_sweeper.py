"""The sweeper `hydra/sweeper=grid`, which runs each distinct config of a grid once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from auxgrad.config.groups import options, preset
from auxgrad.errors import ConfigError
from hydra_plugins.auxgrad.base import plain

if TYPE_CHECKING:
    from auxgrad.execution.result import Result
    from auxgrad.sweeps.executor import Executor


class GridSweeper(Sweeper):
    """Plans the distinct runs of a grid and executes them with `auxgrad.sweeps`.

    Args:
        dir: The folder for the output of all sweeps.
        params: The values of each key, as in conf/hydra/sweeper/grid.yaml.
        grids: Further mappings like `params`. Each of them makes a grid together with `params`.
    """

    def __init__(
        self,
        dir: str,
        params: Mapping[str, object] | None = None,
        grids: Sequence[Mapping[str, object]] | None = None,
    ) -> None:
        self._dir, self._params, self._grids = dir, plain(params), plain(grids)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Check the options of the sweep and make the executor.

        Raises:
            ConfigError: An option of Hydra's sweeps was set that has no effect here, or the
                launcher is not one of auxgrad's.
        """
        self._config, self._loader = config, hydra_context.config_loader
        sweep, choices = config.hydra.sweep, config.hydra.runtime.choices
        if str(sweep.dir) != self._dir:
            raise ConfigError(
                f"hydra.sweep.dir={sweep.dir}: hydra/sweeper=grid has one folder for all sweeps; "
                f"set hydra.sweeper.dir={sweep.dir}"
            )
        usual = preset("", "config")["hydra"]["sweep"]["subdir"]
        if plain(sweep, resolve=False)["subdir"] != usual:
            raise ConfigError("hydra.sweep.subdir: hydra/sweeper=grid names folders by setting and seed")
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        # isinstance would fail, because Hydra executes the modules of its plugins twice.
        executor: Executor | None = getattr(launcher, "executor", None)
        if executor is None:
            raise ConfigError(
                f"hydra/launcher={choices['hydra/launcher']}: hydra/sweeper=grid needs one of "
                f"{', '.join(options('hydra/launcher'))}"
            )
        self._executor = executor

    def sweep(self, arguments: list[str]) -> list[Result]:
        """Run the configs that are not finished.

        Args:
            arguments: The overrides of the command line.

        Returns:
            The results of the runs.

        Raises:
            SweepFailed: A run failed after all retries.
            AuxgradError: The plan, the data or the store cannot be used.
        """
        from auxgrad.sweeps.plan import plan
        from auxgrad.sweeps.sweep import sweep

        planned = plan(self._compose, arguments, self._params, self._grids, self._files)
        return sweep(planned, self._executor, Path(self._dir))

    def _compose(self, overrides: list[str]) -> Any:
        return self._loader.load_sweep_config(self._config, overrides)

    def _files(self, group: str) -> list[str]:
        job, overrides = self._config.hydra.job, list(self._config.hydra.overrides.hydra)
        return self._loader.get_group_options(group, ObjectType.CONFIG, job.config_name, overrides)
