"""The Hydra callback that checks the composed config before Hydra writes anything."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from auxgrad.config.entry import check_run, check_sweep
from auxgrad.errors import ConfigError


class Checks(Callback):
    """Ends the program with a message of one line if the config is wrong.

    Errors are raised as SystemExit, because Hydra turns other exceptions of a callback into
    warnings.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the config of a single run."""
        try:
            check_run(config)
        except ConfigError as error:
            raise SystemExit(f"auxgrad: {error}") from None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the config of a sweep."""
        try:
            check_sweep(config)
        except ConfigError as error:
            raise SystemExit(f"auxgrad: {error}") from None
