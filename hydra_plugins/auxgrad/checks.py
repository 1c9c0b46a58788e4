"""The Hydra callback that checks what was composed before Hydra writes anything."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from auxgrad.config.entry import check_run, check_sweep
from auxgrad.errors import ConfigError


class Checks(Callback):
    """Ends the program in one line if a run or a sweep cannot be started.

    Hydra turns every exception of a callback into a warning, but lets SystemExit pass.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check_run(config)
        except ConfigError as error:
            raise SystemExit(f"auxgrad: {error}") from None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check_sweep(config)
        except ConfigError as error:
            raise SystemExit(f"auxgrad: {error}") from None
