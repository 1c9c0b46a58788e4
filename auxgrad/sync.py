"""`python -m auxgrad.sync`: delivers the records of finished runs whose store was away."""

from __future__ import annotations

import argparse
from pathlib import Path

from auxgrad.config.composing import split_words
from auxgrad.config.entry import plain_ending
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import ConfigError
from auxgrad.execution import delivery
from auxgrad.record.opening import open_store
from auxgrad.record.store import Store

DESCRIPTION = """\
Delivers the records of finished runs that their tracking store was away for: a run that ends then keeps
its record in its output folder, as unsent.json. The next sweep delivers those of its own experiment.

words:
  tracking.uri=ADDRESS  the store, unless MLFLOW_TRACKING_URI is set; mlflow.db if not given
"""
FOLDERS = ("outputs", "multirun")


def main() -> None:
    """Run the command line."""
    with plain_ending():
        parser = argparse.ArgumentParser(
            "python -m auxgrad.sync",
            description=DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("words", nargs="*", metavar="key=value", help="which store, see above")
        parser.add_argument(
            "--folder",
            type=Path,
            action="append",
            help=f"where to look, also below; {' and '.join(FOLDERS)} if not given",
        )
        given = parser.parse_intermixed_args()
        tracking, others = split_words(given.words)
        for key, values in others.items():
            raise ConfigError(f"{key}={','.join(values)}: unknown key; must be tracking.uri")
        for folder in given.folder or ():
            if not folder.is_dir():
                raise ConfigError(f"--folder={folder}: is no folder")
        sync(given.folder or [Path(name) for name in FOLDERS], tracking)


def sync(folders: list[Path], tracking: TrackingConfig) -> None:
    """Deliver all records below the folders, and say what became of each."""
    files = list(delivery.find(folders))
    stores: dict[str, Store] = {}
    for file in files:
        try:
            experiment = delivery.experiment_of(file)
        except FileNotFoundError:  # Another process has delivered it.
            continue
        if experiment not in stores:
            named = TrackingConfig(uri=tracking.uri, experiment=experiment)
            stores[experiment] = open_store(named, create=False)
        print(f"sync      {delivery.deliver(file, stores[experiment])}", flush=True)
    if not files:
        print(f"sync      nothing to deliver below {', '.join(map(str, folders))}")


if __name__ == "__main__":
    main()
