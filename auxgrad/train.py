"""The command `python -m auxgrad.train`: compose a config, check it, train, record."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from auxgrad.process import interruption

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(composed: DictConfig) -> float:
    """Train one run.

    Args:
        composed: The config that Hydra composed.

    Returns:
        The best validation loss, which a Hydra sweeper may minimise.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from auxgrad.config.composing import validate
    from auxgrad.errors import AuxgradError
    from auxgrad.execution.session import Session

    hydra_config = HydraConfig.get()
    config = validate(composed, hydra_config).normalise()
    is_single = hydra_config.mode is not RunMode.MULTIRUN
    try:
        folder = Path(hydra_config.runtime.output_dir)
        return Session().run(config, folder, log_model=is_single).best_val_loss
    except AuxgradError as error:
        if is_single:
            # Hydra lets SystemExit pass without a traceback.
            raise SystemExit(f"auxgrad: {error}") from None
        raise


def main() -> None:
    """Run the command line."""
    interruption.install()  # Before the imports, which take a second.
    import hydra

    from auxgrad.config.composing import HYDRA_VERSION_BASE, PRIMARY
    from auxgrad.config.entry import exit_cleanly, hide_shown_passwords, prepare
    from auxgrad.config.groups import conf_dir

    # Hydra warns that some of auxgrad's presets have the name of a plugin's own config, such as
    # basic.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")
    try:
        with exit_cleanly():
            if str(Path.cwd()) not in sys.path and "" not in sys.path:
                sys.path.insert(0, str(Path.cwd()))  # As `python -m` does: to import the user's modules.
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Keeps Hydra from printing errors in its own way.
            sys.argv[1:] = prepare(sys.argv[1:])
            with hide_shown_passwords(sys.argv[1:]):
                hydra.main(
                    version_base=HYDRA_VERSION_BASE, config_path=str(conf_dir()), config_name=PRIMARY
                )(train)()
    finally:
        # Keeps the garbage collector from searching all objects at exit, which takes over a second.
        gc.freeze()


if __name__ == "__main__":
    main()
