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
TRIALS = 2
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
        if given.port is not None and not _is_free(given.port):
            raise ConfigError(f"--port={given.port}: is taken; must be a free port")
        store = open_store(tracking, create=False)
        if store.has_server:
            _show(store, None, given.open)
            return
        store.analyze()
        print(f"starting  the MLflow UI on {store.uri}", flush=True)
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # The terminal was closed.
        with server(store, given.port) as (process, port):
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


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _ports(wanted: int | None) -> Iterator[int]:
    """The wanted port only; or the usual one, if it is free, and then others."""
    if wanted or _is_free(PORT):
        yield wanted or PORT
    for _ in range(0 if wanted else TRIALS):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        yield port


@contextlib.contextmanager
def server(store: Store, wanted: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """MLflow's server on this machine, once it answers, and its port; ended with all its children.

    Raises TrackingError, with the server's last words, if it does not come up.
    """
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # Of its GenAI part: processes that nobody needs.
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
    command += ["--host", HOST, "--workers", "1", "--port"]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as started:
        log = Path(folder, "log")
        # A port that was free may be taken before the server, seconds later, asks for it.
        for port in _ports(wanted):
            with log.open("wb") as out:
                # In a session of its own: Ctrl-C reaches this process, which ends the server in order.
                process = subprocess.Popen(
                    [*command, str(port)],
                    env=environment,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            started.callback(_end, process)
            if _answers(process, port):
                break
        else:
            words = " ".join(log.read_text(errors="replace").split())[-500:]
            raise TrackingError(f"the MLflow UI did not start: {words}")
        yield process, port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Waits until this very server answers; whether it does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health"):
            if _listens(process, port):
                return True
        time.sleep(0.2)
    return False


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the port is that of this process or of one of its children."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(
            socket.status == psutil.CONN_LISTEN and socket.laddr.port == port
            for member in _family(process)
            for socket in member.net_connections("inet")
        )
    return False


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks all processes of the server to end, and makes them."""
    family = _family(process)
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
