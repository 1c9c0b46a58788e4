"""MLflow's server as a child process: started on a free port, ended with all its own children."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from auxgrad.config.addresses import TRACKING_URI, hide_password
from auxgrad.errors import TrackingError
from auxgrad.record.environment import quieten

HOST, PORT = "127.0.0.1", 5000
START_SECONDS = 120
TRIALS = 2
STOP_SECONDS = 5


def is_free(port: int) -> bool:
    """Return whether a server could take the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def server(uri: str, wanted: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Give MLflow's server on a store, once it answers, and its address; end it with all its children.

    Args:
        uri: the store.
        wanted: the port, if it must be this one.

    Raises TrackingError, with the server's last words, if it does not come up.
    """
    environment = dict(os.environ)
    quieten(environment)
    environment.pop(TRACKING_URI, None)
    environment["MLFLOW_BACKEND_STORE_URI"] = uri  # An argument would be seen by every user (ps).
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--workers", "1", "--port"]
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
            said = " ".join(log.read_text(encoding="utf-8", errors="replace").split())
            words = hide_password(said, uri)[-500:]
            raise TrackingError(f"the MLflow UI did not start: {words}")
        yield process, f"http://{HOST}:{port}"


def _ports(wanted: int | None) -> Iterator[int]:
    """The wanted port only; or the usual one, if it is free, and then others."""
    if wanted or is_free(PORT):
        yield wanted or PORT
    for _ in range(0 if wanted else TRIALS):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        yield port


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
