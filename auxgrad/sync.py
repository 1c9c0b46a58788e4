"""The command `python -m auxgrad.sync`: deliver records of runs that the store did not accept."""

from __future__ import annotations

import argparse
from pathlib import Path

from auxgrad.config.entry import exit_cleanly, split_arguments
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import ConfigError, TrackingError
from auxgrad.execution import delivery
from auxgrad.record.opening import open_store
from auxgrad.record.store import Store

DESCRIPTION = """\
Delivers the records of finished runs whose tracking store did not answer. Such a run has kept its record
in its output folder, as unsent-RUN_ID.json. The next sweep of the same experiment delivers them too.

arguments:
  tracking.uri=ADDRESS  the store, unless MLFLOW_TRACKING_URI is set; default: mlflow.db
"""
FOLDERS = ("outputs", "multirun")


def main() -> None:
    """Run the command line."""
    with exit_cleanly():
        parser = argparse.ArgumentParser(
            "python -m auxgrad.sync",
            description=DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("overrides", nargs="*", metavar="key=value", help="which store, see above")
        parser.add_argument(
            "--folder",
            type=Path,
            action="append",
            help=f"a folder to search, with its subfolders; default: {' and '.join(FOLDERS)}",
        )
        given = parser.parse_intermixed_args()
        tracking, others = split_arguments(given.overrides)
        for key, values in others.items():
            raise ConfigError(f"{key}={','.join(values)}: unknown key; must be tracking.uri")
        for folder in given.folder or ():
            if not folder.is_dir():
                raise ConfigError(f"--folder={folder}: is not a folder")
        sync(given.folder or [Path(name) for name in FOLDERS], tracking)


def sync(folders: list[Path], tracking: TrackingConfig) -> None:
    """Deliver all records in folders and their subfolders, and print the outcome for each.

    Args:
        folders: the folders to search.
        tracking: the store; the records name their experiments.

    Raises:
        TrackingError: a record could not be delivered. Raised after the others were delivered.
    """
    files = list(delivery.find(folders))
    stores: dict[str, Store] = {}
    failed = 0
    for file in files:
        try:
            try:
                experiment = delivery.experiment_of(file)
            except FileNotFoundError:  # Another process has delivered it.
                continue
            if experiment not in stores:
                named = TrackingConfig(uri=tracking.uri, experiment=experiment)
                stores[experiment] = open_store(named, create=False)
            outcome = delivery.deliver(file, stores[experiment])
        except TrackingError as error:
            failed += 1
            outcome = str(error)
        print(f"sync      {outcome}", flush=True)
    if failed:
        raise TrackingError(f"{failed} of {len(files)} records could not be delivered")
    if not files:
        print(f"sync      nothing to deliver below {', '.join(map(str, folders))}")


if __name__ == "__main__":
    main()
