"""Run MLflow's server as a child process on a free port, and stop it with all its own children."""

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
from auxgrad.record.environment import set_quiet_defaults

HOST, PORT = "127.0.0.1", 5000
START_SECONDS = 120
ATTEMPTS = 2
STOP_SECONDS = 5


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def server(uri: str, wanted: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run MLflow's server for a store inside the context.

    Args:
        uri: the address of the store.
        wanted: the port; by default 5000 or, if that is taken, a free one.

    Yields:
        The process of the server, which is ready, and its address.

    Raises:
        TrackingError: the server did not start; the message ends with its last output.
    """
    environment = dict(os.environ)
    set_quiet_defaults(environment)
    environment.pop(TRACKING_URI, None)
    environment["MLFLOW_BACKEND_STORE_URI"] = uri  # Every user could see an argument (ps).
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--workers", "1", "--port"]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as started:
        log = Path(folder, "log")
        # Another process may take the port before the server, seconds later, binds it.
        for port in _ports(wanted):
            with log.open("wb") as out:
                # In a session of its own, Ctrl-C does not reach the server; this process stops it.
                process = subprocess.Popen(
                    [*command, str(port)],
                    env=environment,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            started.callback(_stop, process)
            if _wait_until_ready(process, port):
                break
        else:
            output = " ".join(log.read_text(encoding="utf-8", errors="replace").split())
            reason = hide_password(output, uri)[-500:] or f"no answer within {START_SECONDS} s"
            raise TrackingError(f"the MLflow UI did not start: {reason}")
        yield process, f"http://{HOST}:{port}"


def _ports(wanted: int | None) -> Iterator[int]:
    """Yield the wanted port only; or the default port, if it is free, and then free ones."""
    if wanted or is_free(PORT):
        yield wanted or PORT
    for _ in range(0 if wanted else ATTEMPTS):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        yield port


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server answers on the port, and return whether it does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health"):
            if _is_listening(process, port):
                return True
        time.sleep(0.2)
    return False


def _is_listening(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether the process, or one of its children, listens on the port."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(
            socket.status == psutil.CONN_LISTEN and socket.laddr.port == port
            for member in _process_tree(process)
            for socket in member.net_connections("inet")
        )
    return False


def _process_tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate all processes of the server, and kill those that do not end."""
    family = _process_tree(process)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, STOP_SECONDS)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
