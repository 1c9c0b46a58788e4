"""`python -m auxgrad.train`: composes a config, checks it, trains, records."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from auxgrad.config import HYDRA_VERSION_BASE, check_arguments, validate
from auxgrad.errors import AuxgradError
from auxgrad.terminal import plain_ending
from auxgrad.values import conf_dir, quote_values

GRID_SWEEPER = "hydra_plugins.auxgrad.grid_sweeper.GridSweeper"


@hydra.main(version_base=HYDRA_VERSION_BASE, config_path=str(conf_dir()), config_name="config")
def train(composed: DictConfig) -> float:
    """Trains one run; the best validation loss, which a Hydra sweeper may minimise."""
    config = validate(composed)
    from auxgrad import experiment

    hydra_config = HydraConfig.get()
    single = hydra_config.mode is not RunMode.MULTIRUN
    in_grid = not single and hydra_config.sweeper._target_ == GRID_SWEEPER
    try:
        result = experiment.run(
            config,
            output_dir=Path(hydra_config.runtime.output_dir),
            log_model=single,
            once=in_grid and not config.force,
        )
    except AuxgradError as error:
        if single:
            raise SystemExit(f"auxgrad: {error}") from None  # Hydra lets it pass without a word.
        raise
    return result.best_val_loss


def main() -> None:
    """The command line."""
    # Hydra's remark on a preset of ours that has the name of a plugin's own config, such as ray.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")
    try:
        with plain_ending():
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Or Hydra would print errors its own way.
            sys.argv[1:] = quote_values(sys.argv[1:])
            check_arguments(sys.argv[1:])
            train()
    finally:
        # All that is alive goes with the process: to look through it at exit would take over a second.
        gc.freeze()


if __name__ == "__main__":
    main()
