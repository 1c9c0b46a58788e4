"""`python -m auxgrad.ui`: the MLflow UI on the store in use, and the link to an experiment in it."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import psutil

from auxgrad.config import split_words
from auxgrad.errors import ConfigError, TrackingError
from auxgrad.terminal import plain_ending
from auxgrad.tracking import SETTINGS, Store, open_store

HOST, PORT = "127.0.0.1", 5000
START_SECONDS = 120
STOP_SECONDS = 5
DESCRIPTION = """\
Starts the MLflow UI on the store in use and prints links to the experiment: charts of training,
validation and test loss, averaged over seeds, and the table of its runs. Ctrl-C ends it.

words:
  tracking.experiment=NAME  the MLflow experiment; auxgrad if not given
  tracking.uri=ADDRESS      the store, unless MLFLOW_TRACKING_URI is set; mlflow.db if not given. Of a
                            tracking server only the link is printed: it runs already
"""


def main() -> None:
    """The command line."""
    with plain_ending():
        parser = argparse.ArgumentParser(
            "python -m auxgrad.ui",
            description=DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("words", nargs="*", metavar="key=value", help="which experiment, see above")
        parser.add_argument("--open", action="store_true", help="open the link in a browser")
        parser.add_argument("--port", type=int, help=f"{PORT} if not given, or another if that is taken")
        given = parser.parse_intermixed_args()
        tracking, others = split_words(given.words)
        for key, values in others.items():
            known = "tracking.experiment, tracking.uri"
            raise ConfigError(f"{key}={','.join(values)}: unknown key; must be one of {known}")
        if given.port is not None and not 0 < given.port < 65536:
            raise ConfigError(f"--port={given.port}: must be a whole number from 1 to 65535")
        store = open_store(tracking, create=False)
        if store.has_server:
            _show(store, None, given.open)
            return
        store.analyze()
        port = _free_port(given.port)
        print(f"starting  the MLflow UI on {store.uri}", flush=True)
        with server(store, port) as process:
            _show(store, f"http://{HOST}:{port}", given.open)
            print("stop it   with Ctrl-C", flush=True)
            try:
                process.wait()
            except KeyboardInterrupt:
                print("\nstopped", flush=True)
                return
            raise TrackingError(f"the MLflow UI ended by itself, with status {process.returncode}")


def _show(store: Store, base: str | None, is_to_be_opened: bool) -> None:
    charts = store.ui_charts_url(base)
    print(f"charts    {charts}")
    print(f"table     {store.ui_table_url(base)}")
    with contextlib.suppress(TrackingError):  # No sweep, no summary runs.
        settings = store.sibling(SETTINGS, create=False)
        print(f"means     {settings.ui_charts_url(base)}")
        print("          (MLflow averages the newest 100 runs only; these are the means over all seeds)")
    if is_to_be_opened and not webbrowser.open(charts):
        print("no browser was found; copy the link into one")
    sys.stdout.flush()


def _free_port(wanted: int | None) -> int:
    """The wanted port, or the usual one; another where that is taken and none was wanted."""
    for port in (wanted or PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if wanted:
                    raise ConfigError(f"--port={wanted}: cannot be used ({error.strerror})") from None
                continue
            return int(probe.getsockname()[1])
    raise TrackingError(f"{HOST}: no free port")


@contextlib.contextmanager
def server(store: Store, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server on this machine, once it answers; ended with all its children.

    Raises TrackingError, with the server's last words, if it does not come up.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # Of its GenAI part: processes that nobody needs.
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as out:
            # In a session of its own: Ctrl-C reaches this process, which ends the server in order.
            process = subprocess.Popen(
                command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # The terminal was closed.
        try:
            _wait(process, port, log)
            yield process
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health"):
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    words = " ".join(log.read_text(errors="replace").split())[-500:]
    raise TrackingError(f"the MLflow UI did not start: {words}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks all processes of the server to end, and makes them."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, STOP_SECONDS)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


if __name__ == "__main__":
    main()
