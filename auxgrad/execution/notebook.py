"""Train a run, and read finished runs, from Python, for example in a notebook."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from auxgrad.config.code.backend import check_backend
from auxgrad.config.composing import compose
from auxgrad.config.schema import TrackingConfig
from auxgrad.config.setting import RUN_KEYS
from auxgrad.execution.result import Result
from auxgrad.record.folders import claim_folder
from auxgrad.record.opening import open_store

if TYPE_CHECKING:
    import pandas as pd


def run(overrides: Iterable[str] = (), config_dir: str | Path | None = None) -> Result:
    """Train one run, as `python -m auxgrad.train` does with the same arguments.

    The run is recorded in MLflow. Its files are in a new folder below outputs/.

    Args:
        overrides: The arguments of the command line, such as `["mode=Projection", "lam=1"]`.
        config_dir: A folder with your own config files, as for `--config-dir`.

    Returns:
        The result of the run.

    Raises:
        ConfigError: A key is unknown, a value is out of range, or the Keras backend is not
            TensorFlow. Raised before anything is loaded.
        AuxgradError: The data or the tracking store cannot be used. Raised before any training.
    """
    check_backend()  # Before the user's modules are imported, because they may import Keras.
    from auxgrad.execution.session import Session

    config = compose(overrides, config_dir)
    now = datetime.datetime.now()
    folder = Path("outputs", f"{now:%Y-%m-%d}", f"{now:%H-%M-%S-%f}_{config.mode}")
    return Session().run(config, claim_folder(folder))


def runs(experiment: str = "auxgrad", uri: str | None = None) -> pd.DataFrame:
    """Return a data frame with one row for each finished run, newest first.

    The columns are run_id, mode, lam, alpha, overall, seed, data, problem and config, as in MLflow,
    and the last value of each metric. A metric that a run does not have is NaN.

    Args:
        experiment: The name of the MLflow experiment, as in `tracking.experiment`.
        uri: The address of the store, as in `tracking.uri`. The environment variable
            MLFLOW_TRACKING_URI, if set, takes precedence.

    Returns:
        The finished runs. Runs without an identity, logged by other programs, are left out.

    Raises:
        TrackingError: There is no such store or experiment.
    """
    import pandas as pd

    store = open_store(TrackingConfig(uri=uri, experiment=experiment), create=False)
    rows = []
    for run in store.runs("FINISHED"):
        if (identity := run.identity) is not None:
            knobs = {key: getattr(identity, key) for key in RUN_KEYS}
            names = {key: run.params.get(key) for key in ("data", "problem", "config")}
            rows.append({"run_id": run.run_id, **knobs, **names, **run.metrics})
    return pd.DataFrame(rows)
