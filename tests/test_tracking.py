"""The store: which one, created by many at once, and what cannot be used."""

from __future__ import annotations

import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import together
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from auxgrad.config import TrackingConfig
from auxgrad.errors import AlreadyFinished, RunsElsewhere, TrackingError
from auxgrad.tracking import Dataset, open_store, store_uri


def tracking(uri=None, experiment="auxgrad") -> TrackingConfig:
    return TrackingConfig(uri=uri, experiment=experiment, log_model=None, tensorboard=False)


def test_environment_then_key_then_working_directory(in_tmp, monkeypatch):
    assert store_uri(tracking()) == f"sqlite:///{in_tmp}/mlflow.db"
    assert store_uri(tracking("sqlite:///sub/runs.db")) == f"sqlite:///{in_tmp}/sub/runs.db"
    assert store_uri(tracking("http://127.0.0.1:5000")) == "http://127.0.0.1:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere/mlflow.db")
    assert store_uri(tracking("http://127.0.0.1:5000")) == "sqlite:////elsewhere/mlflow.db"


def test_artifacts_lie_beside_the_database(in_tmp):
    store = open_store(tracking(f"sqlite:///{in_tmp}/mlflow.db"))
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.name == "auxgrad"
    assert experiment.artifact_location == (in_tmp / "mlartifacts").as_uri()


def test_eight_processes_meet_a_store_that_is_not_there(tmp_path):
    code = (
        "from auxgrad.config import TrackingConfig\n"
        "from auxgrad.tracking import Dataset, open_store\n"
        "config = TrackingConfig(uri=None, experiment='e', log_model=None, tensorboard=False)\n"
        "store = open_store(config)\n"
        "record = store.start_run('run', 'key', {'mode': 'x'}, {}, Dataset('d', 'f' * 64, '{}', '{}'))\n"
        "[record.metric('train_loss', i / 7, i) for i in range(50)]\n"
        "record.flush()\n"
        "record.end('FINISHED')"
    )
    finished = together([[sys.executable, "-c", code]] * 8, tmp_path)
    assert [process.returncode for process in finished] == [0] * 8, finished[0].stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [experiment] = [e for e in client.search_experiments() if e.name == "e"]
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 8
    for run in runs:
        assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 50


DATA = Dataset("d", "0" * 64, "{}", "{}")


def test_a_run_is_made_once(in_tmp):
    store = open_store(tracking())

    def start(key="key"):
        return store.start_run("r", key, {}, {}, DATA, once=True)

    first = start()
    with pytest.raises(RunsElsewhere, match=f"process {os.getpid()} on "):
        start()
    start("another").end("FAILED")
    first.end("KILLED")
    second = start()
    second.end("FINISHED")
    with pytest.raises(AlreadyFinished) as caught:
        start()
    assert caught.value.run_id == second.run_id
    assert store.finished_keys() == {"key"}
    store.start_run("r", "key", {}, {}, DATA).end("FINISHED")  # Without `once` nobody asks.


def test_runs_that_bring_a_new_data_set_at_once(in_tmp):
    """MLflow refuses all but one of them, in one of twenty tries or so."""
    store = open_store(tracking())
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            data = Dataset("d", f"{number:032d}", "{}", "{}")
            started = [pool.submit(store.start_run, "r", "key", {}, {}, data) for _ in range(8)]
            ids = [each.result().run_id for each in started]
            assert all(store.client.get_run(run_id).inputs.dataset_inputs for run_id in ids)


def test_a_run_that_cannot_be_recorded_is_not_left_running(in_tmp):
    store = open_store(tracking())
    with pytest.raises(MlflowException, match="Invalid value"):
        store.start_run("r", "key", {"mode?!": "x"}, {}, DATA)
    assert [run.status for run in store.runs()] == ["FAILED"]


@pytest.mark.parametrize(
    ("changed", "is_alive"),
    [
        ({}, True),
        ({"worker.pid": "4194304"}, False),
        ({"worker.started": "1.0"}, False),  # Its number has been given to another process.
        ({"worker.boot": "before"}, False),
        ({"worker.host": "elsewhere"}, True),
        ({"worker.host": "elsewhere", "worker.alive": "1000"}, False),
    ],
)
def test_runs_of_dead_processes_are_orphans(in_tmp, changed, is_alive):
    store = open_store(tracking())
    record = store.start_run("r", "key", {}, {}, DATA)
    for name, value in changed.items():
        store.client.set_tag(record.run_id, name, value)
    assert store.kill_orphans() == (not is_alive)
    [run] = store.runs()
    assert run.status == ("RUNNING" if is_alive else "KILLED")


def test_more_metrics_than_one_call_takes(in_tmp):
    record = open_store(tracking()).start_run("r", "key", {}, {}, DATA)
    for step in range(2500):
        record.metric("train_loss", float(step), step)
    record.flush()
    record.end("FINISHED")
    history = record.store.client.get_metric_history(record.run_id, "train_loss")
    assert [point.value for point in history] == list(range(2500))


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("http://127.0.0.1:{port}", "tracking.uri={uri}: no tracking server can be reached there"),
        ("postgresql://u@127.0.0.1:{port}/x", "tracking.uri={uri}: no tracking server can be reached"),
        ("sqlite:////sys/mlflow.db", "tracking.uri={uri}: cannot be written (Permission denied)"),
        ("ftp://example.org", "tracking.uri={uri}: must be"),
        ("somewhere", "tracking.uri={uri}: must be"),
        ("http://", "tracking.uri={uri}: "),
    ],
)
def test_a_store_that_cannot_be_used_is_named_at_once(in_tmp, uri, line):
    uri = uri.format(port=unused_port())
    started = time.perf_counter()
    with pytest.raises(TrackingError) as caught:
        open_store(tracking(uri))
    assert str(caught.value).startswith(line.format(uri=uri))
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 60  # MLflow by itself tries for minutes.


def test_a_file_that_is_no_database(in_tmp):
    (in_tmp / "mlflow.db").write_bytes(b"something else" * 1000)
    with pytest.raises(TrackingError, match="cannot be used"):
        open_store(tracking())
    assert (in_tmp / "mlflow.db").read_bytes() == b"something else" * 1000


def test_a_deleted_experiment(in_tmp):
    store = open_store(tracking())
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match=r"tracking\.experiment=auxgrad: was deleted .*restore -x 1"):
        open_store(tracking())
