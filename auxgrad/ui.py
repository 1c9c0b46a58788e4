"""The command `python -m auxgrad.ui`: start the MLflow UI and print links to an experiment."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import webbrowser

from auxgrad.config.entry import exit_cleanly, split_arguments
from auxgrad.errors import ConfigError, TrackingError
from auxgrad.process import interruption
from auxgrad.record.links import charts_url, table_url
from auxgrad.record.opening import open_sibling, open_store
from auxgrad.record.store import SETTINGS, Store
from auxgrad.record.ui_server import PORT, is_free, server

DESCRIPTION = """\
Starts the MLflow UI on the store in use and prints links to an experiment: charts of training,
validation and test loss, averaged over seeds, and the table of runs. Ctrl-C stops it.

arguments:
  tracking.experiment=NAME  the MLflow experiment; default: auxgrad
  tracking.uri=ADDRESS      the store, unless MLFLOW_TRACKING_URI is set; default: mlflow.db. For a
                            tracking server only the links are printed
"""


def main() -> None:
    """Run the command line."""
    with exit_cleanly():
        parser = argparse.ArgumentParser(
            "python -m auxgrad.ui",
            description=DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        help_text = "which experiment, see above"
        parser.add_argument("overrides", nargs="*", metavar="key=value", help=help_text)
        parser.add_argument("--open", action="store_true", help="open the first link in a browser")
        parser.add_argument("--port", type=int, help=f"default: {PORT}, or a free port if that is taken")
        given = parser.parse_intermixed_args()
        tracking, others = split_arguments(given.overrides)
        for key, values in others.items():
            known = "tracking.experiment, tracking.uri"
            raise ConfigError(f"{key}={','.join(values)}: unknown key; must be one of {known}")
        _check_port(given.port)
        store = open_store(tracking, create=False)
        if store.has_server:
            _show(store, None, given.open)
        else:
            _serve(store, given.port, given.open)


def _check_port(port: int | None) -> None:
    if port is not None and not 0 < port < 65536:
        raise ConfigError(f"--port={port}: must be a whole number from 1 to 65535")
    if port is not None and not is_free(port):
        raise ConfigError(f"--port={port}: is taken; must be a free port")


def _serve(store: Store, port: int | None, is_to_be_opened: bool) -> None:
    store.analyze()
    print(f"starting  the MLflow UI on {store.address}", flush=True)
    # Closing the terminal stops the server too.
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    try:
        with interruption.as_exceptions(), server(store.uri, port) as (process, address):
            _show(store, address, is_to_be_opened)
            print("stop it   with Ctrl-C", flush=True)
            process.wait()
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
        return
    raise TrackingError(f"the MLflow UI ended by itself, with status {process.returncode}")


def _show(store: Store, address: str | None, is_to_be_opened: bool) -> None:
    charts = charts_url(store, address)
    print(f"charts    {charts}")
    print(f"table     {table_url(store, address)}")
    with contextlib.suppress(TrackingError):  # Before the first sweep there are no summary runs.
        settings = open_sibling(store, SETTINGS, create=False)
        print(f"means     {charts_url(settings, address)}")
        print("          (MLflow averages the newest 100 runs only; these are the means over all seeds)")
    if is_to_be_opened and not webbrowser.open(charts):
        print("no browser was found; open the link yourself")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
