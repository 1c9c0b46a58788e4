"""A run, and the finished runs, from Python, as in a notebook."""

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
    """Train one run, as `python -m auxgrad.train` does with the same words, and return its result.

    The run is recorded in MLflow, and its files are in a new folder below outputs/.

    Args:
        overrides: words of the command line.
        config_dir: a folder with config files of your own, as `--config-dir`.

    Raises:
        ConfigError: before anything is loaded, for an unknown key, a value out of range, or another
            backend of Keras than TensorFlow.
        AuxgradError: before any training, if the data or the tracking store cannot be used.
    """
    check_backend()  # Before modules of the user's that import Keras.
    from auxgrad.execution.session import Session

    config = compose(overrides, config_dir)
    now = datetime.datetime.now()
    folder = Path("outputs", f"{now:%Y-%m-%d}", f"{now:%H-%M-%S-%f}_{config.mode}")
    return Session().run(config, claim_folder(folder))


def runs(experiment: str = "auxgrad", uri: str | None = None) -> pd.DataFrame:
    """Return a row for each finished run, newest first.

    The columns are run_id, mode, lam, alpha, overall, seed, data, problem and config, as in MLflow, and
    the last value of every metric. A metric that a run does not have is NaN.

    Args:
        experiment: as `tracking.experiment`.
        uri: as `tracking.uri`; MLFLOW_TRACKING_URI, when set, goes before it.

    Raises:
        TrackingError: there is no such store or experiment.
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
