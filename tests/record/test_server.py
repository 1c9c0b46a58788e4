"""The tracking server of the documentation, on the PostgreSQL of `.ci/postgres`: pytest -m slurm.

The marker includes all tests that need a server which a script in .ci starts.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.slurm


def commands():
    """Return the lines of the first console block of the page."""
    page = (REPOSITORY / "docs/how-to/tracking-server.md").read_text(encoding="utf-8")
    block = re.search(r"```console\n(.*?)```", page, re.S)[1]
    return [line.removeprefix("$ ") for line in block.splitlines()]


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def uri(home):
    """Start a server with the page's commands, except port and database, and yield its address."""
    *lines, sweep = commands()
    assert sweep.startswith("python -m auxgrad.train --multirun ")
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    database = f"auxgrad_test_{port}"
    uri = f"http://{socket.gethostname()}:{port}"
    script = "\n".join([*lines, f'[ "$MLFLOW_TRACKING_URI" = {uri} ]'])
    script = script.replace("5000", str(port)).replace("mlruns", database)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["bash", "-ec", script],
        cwd=home,
        env={**os.environ, "HOME": str(home), "PATH": path},
        start_new_session=True,
    )
    try:
        assert shell.wait(180) == 0, [log.read_text() for log in home.glob("*.log")]
        yield uri
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        subprocess.run(["dropdb", "--if-exists", "--force", database], check=True)


def status(url, **headers):
    """Return the HTTP status of a search for experiments, sent as the server's own page sends it."""
    headers["Content-Type"] = "application/json"
    request = urllib.request.Request(
        f"{url}/ajax-api/2.0/mlflow/experiments/search", b'{"max_results": 1}', headers
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_sweep_on_the_tracking_server_of_the_page(uri, home, tmp_path, small, train):
    from mlflow import MlflowClient

    grid = ("mode=SingleTask,Multitask", "lam=1", "seed=range(2)", *small)
    done = train("--multirun", *grid, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    again = train("--multirun", *grid, MLFLOW_TRACKING_URI=uri)
    assert again.returncode == 0, again.stderr
    assert "4 finished, 0 to run" in again.stdout

    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("auxgrad").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    # The server has stored the artifacts in its folder, and returns them.
    assert runs[0].info.artifact_uri.startswith("mlflow-artifacts:/")
    config = Path(client.download_artifacts(runs[0].info.run_id, "config.yaml", str(home)))
    assert "lam: 1" in config.read_text()
    assert len(list(home.glob("mlartifacts/**/config.yaml"))) == 4
    assert not list(tmp_path.glob("ml*"))

    # The server accepts its own host name, localhost (for a tunnel) and its own page, and nothing else.
    host = uri.removeprefix("http://")
    assert status(uri) == status(uri, Host=host.replace(socket.gethostname(), "localhost")) == 200
    assert status(uri, Origin=uri) == 200
    assert (
        status(uri, Host="elsewhere.example:80") == status(uri, Origin="http://elsewhere.example") == 403
    )
