"""An SQLite file is refused if jobs may run on several machines."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import pytest

from auxgrad.config import compose
from auxgrad.errors import AuxgradError, ConfigError
from auxgrad.record import folders
from auxgrad.record.links import description
from auxgrad.record.opening import open_store
from auxgrad.sweeps.plan import Plan
from auxgrad.sweeps.pool import LocalExecutor
from auxgrad.sweeps.ray import RayExecutor
from auxgrad.sweeps.serial import SerialExecutor
from auxgrad.sweeps.slurm import SlurmExecutor
from auxgrad.sweeps.sweep import sweep

HERE = platform.node().partition(".")[0]
LINE = (
    "tracking.uri=sqlite:///{}/mlflow.db: a file serves the processes of one machine, but jobs may run "
    "on others (SLURM, 3 runs to a task); must be a tracking server (http://...) or PostgreSQL "
    "(postgresql://...)"
)


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Callable[..., str]:
    """Return a function that makes a fake `sinfo` and returns a search path with it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = f"{folder}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)

    def make(*nodes: str, status: int = 0) -> str:
        names = "".join(f"echo {node}\n" for node in nodes)
        (folder / "sinfo").write_text(f"#!/bin/sh\necho no controller >&2\n{names}exit {status}\n")
        (folder / "sinfo").chmod(0o755)
        return path

    return make


def slurm(folder):
    return SlurmExecutor(folder / "slurm", 3, 1, {})


@pytest.mark.parametrize(
    ("nodes", "spans"),
    [((HERE,), False), ((HERE, HERE), False), ((HERE, "node2"), True), (("node1", "node2"), True)],
)
def test_the_nodes_of_slurm(tmp_path, cluster, nodes, spans):
    """`sinfo` prints one line for each node and partition."""
    cluster(*nodes)
    assert slurm(tmp_path).spans_machines is spans


def test_slurm_does_not_answer(tmp_path, cluster):
    cluster(status=1)
    with pytest.raises(AuxgradError, match=r"^hydra/launcher=slurm: SLURM does not answer here \(no"):
        _ = slurm(tmp_path).spans_machines


def test_workers_of_this_machine():
    assert not SerialExecutor().spans_machines
    assert not LocalExecutor(1, 1).spans_machines
    assert not RayExecutor({"address": "local"}, {}).spans_machines


def test_a_file_is_refused_before_anything_is_submitted(tmp_path, cluster, small, monkeypatch):
    cluster("node1")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ConfigError) as caught:
        sweep(Plan((), 1, (compose([*small]),)), slurm(tmp_path), tmp_path / "work")
    assert str(caught.value) == LINE.format(tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
    assert not (tmp_path / "slurm").exists()
    slurm(tmp_path).check_store(compose(["tracking.uri=http://login:5000"]).tracking)
    cluster(HERE)
    slurm(tmp_path).check_store(compose([]).tracking)


@pytest.mark.parametrize("words", [[], ["hydra/sweeper=basic"]])
def test_on_the_command_line(tmp_path, cluster, small, forked_train, words):
    pytest.importorskip("submitit")
    path = cluster("node1")
    (tmp_path / "work").mkdir()
    launcher = ["--multirun", "hydra/launcher=slurm", "hydra.launcher.runs_per_task=3"]
    done = forked_train(*launcher, *words, *small, cwd=tmp_path / "work", PATH=path)
    assert done.returncode == 1
    assert done.stderr == f"auxgrad: {LINE.format(tmp_path / 'work')}\n"
    assert not (tmp_path / "work/mlflow.db").exists()
    assert not (tmp_path / "work/multirun/.slurm").exists()


def test_a_file_that_machines_share_is_noted(in_tmp, monkeypatch):
    store = open_store(compose([]).tracking)
    first = f"tracking  sqlite:///{in_tmp}/mlflow.db, experiment auxgrad"
    (in_tmp / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/tmp {in_tmp} nfs4 rw 0 0\n")
    assert description(store) == first
    monkeypatch.setattr(folders, "MOUNTS", in_tmp / "mounts")
    assert description(store).splitlines() == [
        first,
        "note      mlflow.db lies on nfs4: only processes of one machine may use it",
    ]
