"""If the store is unavailable, the run continues, and its record is delivered once, later."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from urllib.parse import urlsplit

import pytest
from conftest import mlflow_ui
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from auxgrad.config import compose
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import RunsElsewhere, TrackingError
from auxgrad.execution import delivery
from auxgrad.execution.session import Session
from auxgrad.process.liveness import process_tags
from auxgrad.record import writing
from auxgrad.record.claims import AlreadyFinished
from auxgrad.record.opening import open_store
from auxgrad.record.stored import RUN_KEY
from auxgrad.record.writing import Dataset, StoreUnavailable
from auxgrad.sync import sync

TINY = ("problem=toy", "problem.starts=[[-1.5,0.4]]", "mode=SingleTask", "problem.epochs=3")


@pytest.fixture
def place(in_tmp):
    """Return a folder for the store, which can be moved away."""
    folder = in_tmp / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def tracking(place):
    return TrackingConfig(uri=f"sqlite:///{place}/mlflow.db", experiment="e")


def words(tracking):
    return [f"tracking.uri={tracking.uri}", f"tracking.experiment={tracking.experiment}"]


@pytest.fixture
def away(place, monkeypatch):
    """Return a function that moves the store away during the next run, and back if asked to."""

    def go(until=None):
        from auxgrad.execution.curves import RecordCurves

        end = RecordCurves.on_epoch_end

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                place.rename(place.with_name("away"))
            if epoch == until:
                place.with_name("away").rename(place)
            self.writer._next = 0.0
            end(self, epoch, logs)

        monkeypatch.setattr(RecordCurves, "on_epoch_end", on_epoch_end)
        return place.with_name("away")

    return go


def test_a_store_that_is_away_for_a_while(in_tmp, tracking, away, capfd):
    away(until=2)
    result = Session().run(compose([*TINY, *words(tracking)]), in_tmp / "out", log_model=False)
    [run] = open_store(tracking).runs()
    assert (run.run_id, run.status) == (result.run_id, "FINISHED")
    told = capfd.readouterr().err
    assert told.count("tracking  the store does not answer") == 1
    assert "tracking  the store answers again" in told
    curve = open_store(tracking).client.get_metric_history(run.run_id, "train_loss")
    assert [each.step for each in curve] == list(range(1, result.steps + 1))


class Proxy:
    """Forwards TCP connections to a server, until it drops all of them and accepts no more."""

    def __init__(self, target):
        self.target = target
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.listen()

    def listen(self):
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                ends = [listener.accept()[0], socket.create_connection(self.target)]
                self.connections += ends
                for pair in (ends, ends[::-1]):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def drop(self):
        for each in [self.listener, *self.connections]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.connections.clear()

    def restore(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.listen()


@pytest.mark.process
def test_a_connection_that_is_dropped(in_tmp, place, new_store, tracking, monkeypatch, capfd):
    """A tracking server whose connections break during the first epoch and come back at the last."""
    from auxgrad.execution.curves import RecordCurves

    new_store(place)
    with mlflow_ui(["server", "--workers", "1", "--backend-store-uri", tracking.uri], in_tmp) as url:
        proxy = Proxy((urlsplit(url).hostname, urlsplit(url).port))
        through = TrackingConfig(uri=f"http://127.0.0.1:{proxy.port}", experiment="e")
        end = RecordCurves.on_epoch_end

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                proxy.drop()
            if epoch == 2:
                proxy.restore()
            self.writer._next = 0.0
            end(self, epoch, logs)

        monkeypatch.setattr(RecordCurves, "on_epoch_end", on_epoch_end)
        result = Session().run(compose([*TINY, *words(through)]), in_tmp / "out", log_model=False)
        proxy.drop()
    told = capfd.readouterr().err
    assert told.count("tracking  the store does not answer") == 1
    assert "tracking  the store answers again" in told
    store = open_store(tracking)
    [run] = store.runs()
    assert (run.run_id, run.status) == (result.run_id, "FINISHED")
    curve = store.client.get_metric_history(run.run_id, "train_loss")
    assert [each.step for each in curve] == list(range(1, result.steps + 1))


@pytest.mark.process
def test_a_store_that_stays_away(in_tmp, place, tracking, away, monkeypatch, capfd):
    """The run finishes, and a second delivery of its record changes nothing."""
    for method in (writing.RunWriter.flush, writing.RunWriter.end):
        monkeypatch.setattr(method, "__defaults__", (0,))
    elsewhere = away()
    result = Session().run(compose([*TINY, *words(tracking)]), in_tmp / "out", log_model=True)
    file = delivery.unsent_file(in_tmp / "out", result.run_id)
    out = capfd.readouterr().out
    assert f"its record is in {file}; `python -m auxgrad.sync` delivers it" in out
    assert json.loads((in_tmp / "out" / "result.json").read_text())["test_loss"] == result.test_loss
    elsewhere.rename(place)
    [run] = open_store(tracking).runs()
    assert run.status == "RUNNING"
    kept = file.read_text()
    command = [sys.executable, "-m", "auxgrad.sync", "--folder", "out", words(tracking)[0]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"sync      run {run.run_id} delivered\n", done.stderr
    assert not file.exists()
    store = open_store(tracking)
    [run] = store.runs()
    assert (run.status, run.metrics["test_loss"]) == ("FINISHED", result.test_loss)
    curve = store.client.get_metric_history(run.run_id, "train_loss")
    assert [each.step for each in curve] == list(range(1, result.steps + 1))
    assert [each.path for each in store.client.list_artifacts(run.run_id)] == [
        "config.yaml",
        "model.keras",
    ]
    assert not list((in_tmp / "out").glob("unsent-*"))
    file.write_text(kept)
    assert delivery.deliver(file, store) == f"run {run.run_id} was delivered before"


def test_runs_of_one_folder_whose_models_the_store_lacks(in_tmp, tracking, monkeypatch, capfd):
    """Each run keeps a record and a model of its own; a damaged record does not stop the others."""

    def fail(*_):
        raise MlflowException("API request failed with exception ConnectionError")

    session, folder = Session(), in_tmp / "out"
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", fail)
        configs = [compose([*TINY, *words(tracking), f"seed={seed}"]) for seed in (0, 1)]
        results = [session.run(config, folder, log_model=True) for config in configs]
    assert capfd.readouterr().out.count("unsent    run") == 2
    models = [delivery.unsent_file(folder, each.run_id, "keras").read_bytes() for each in results]
    assert models[0] != models[1]
    damaged = delivery.unsent_file(folder, "damaged")
    damaged.write_text("{")
    with pytest.raises(TrackingError, match="1 of 3 records could not be delivered"):
        sync([folder], tracking)
    assert list(folder.glob("unsent-*")) == [damaged]
    assert f"sync      {damaged}: cannot be read" in capfd.readouterr().out
    artifacts = in_tmp / "store" / "mlartifacts"
    for result, model in zip(results, models, strict=True):
        [stored] = artifacts.glob(f"**/{result.run_id}/artifacts/model.keras")
        assert stored.read_bytes() == model
    assert {each.run_id for each in open_store(tracking).runs("FINISHED")} == {
        each.run_id for each in results
    }


def test_a_run_that_was_repeated_in_the_meantime(in_tmp, tracking, capsys):
    config = compose([*TINY, *words(tracking)])
    result = Session().run(config, in_tmp / "out", log_model=False)
    store = open_store(tracking)
    [run] = store.runs()
    lost = store.client.create_run(store.experiment_id, tags=dict(run.tags))
    content = {"format": 1, "experiment": "e", "run_id": lost.info.run_id}
    file = delivery.unsent_file(in_tmp, lost.info.run_id)
    file.write_text(json.dumps({**content, "metrics": [], "tags": {}, "files": {}}))
    assert f"repeated in the meantime, as run {result.run_id}" in delivery.deliver(file, store)
    assert [each.run_id for each in store.runs("FINISHED")] == [result.run_id]


def test_a_run_that_another_process_makes_or_delivers(in_tmp, tracking):
    store = open_store(tracking)
    lost = store.client.create_run(store.experiment_id, tags={RUN_KEY: "k"})
    file = delivery.unsent_file(in_tmp, lost.info.run_id)
    store.client.set_terminated(lost.info.run_id, "KILLED")
    again = store.client.create_run(store.experiment_id, tags={RUN_KEY: "k", **process_tags()})
    content = {"format": 1, "experiment": "e", "run_id": lost.info.run_id}
    file.write_text(json.dumps({**content, "metrics": [], "tags": {}, "files": {}}))
    assert f"is running elsewhere, in process {os.getpid()} on" in delivery.deliver(file, store)
    assert file.exists()
    assert store.runs("FINISHED") == []
    store.client.set_terminated(again.info.run_id, "FINISHED")
    assert f"repeated in the meantime, as run {again.info.run_id}" in delivery.deliver(file, store)
    assert delivery.deliver(file, store) == f"{file} was delivered by another process"


@pytest.mark.parametrize("has_lock", [True, False])
def test_no_run_is_started_while_its_record_is_delivered(in_tmp, tracking, monkeypatch, has_lock):
    """A process that wants the run at that moment waits or withdraws; afterwards the run is finished."""
    store, identity, data = open_store(tracking), compose(TINY).identity("0"), Dataset("d", "0", "", "")
    if not has_lock:
        store.__dict__["_file_lock"] = None
    lost = store.start_run(identity, {}, data)
    file = delivery.keep(in_tmp, store, lost, {})
    lost.end("KILLED")

    def start():
        with pytest.raises((AlreadyFinished, RunsElsewhere)) as caught:
            store.start_run(identity, {}, data, once=True)
        return caught.type

    end, pool, starts = writing.RunWriter.end, ThreadPoolExecutor(1), []

    def end_meanwhile(self, status):
        if status == "FINISHED":
            starts.append(pool.submit(start))
            wait(starts, timeout=1)
            assert starts[0].done() is not has_lock
        end(self, status)

    monkeypatch.setattr(writing.RunWriter, "end", end_meanwhile)
    assert delivery.deliver(file, store) == f"run {lost.run_id} delivered"
    assert starts[0].result() is (AlreadyFinished if has_lock else RunsElsewhere)
    assert [(run.run_id, run.status) for run in store.runs()] == [(lost.run_id, "FINISHED")]


def test_what_cannot_be_delivered(in_tmp, tracking):
    store, file = open_store(tracking), delivery.unsent_file(in_tmp, "x")
    for content, line in [
        ('{"format": 1', "cannot be read"),
        ('{"format": 2}', "format 2, not 1"),
        ('{"format": 1, "experiment": "e", "run_id": "x"}', "run x is not in e"),
    ]:
        file.write_text(content)
        with pytest.raises(TrackingError, match=line):
            delivery.deliver(file, store)
        assert file.exists()


def test_a_record_without_its_model_is_not_delivered(in_tmp, tracking, capsys):
    store = open_store(tracking)
    run = store.client.create_run(store.experiment_id, tags={RUN_KEY: "k"})
    file = delivery.keep(in_tmp, store, writing.RunWriter(store.client, run), {"model.keras": "gone"})
    with pytest.raises(TrackingError, match="1 of 1 records could not be delivered"):
        sync([in_tmp], tracking)
    assert f"sync      {file}: gone, which belongs to it, is missing" in capsys.readouterr().out
    assert file.exists()
    assert store.runs("FINISHED") == []


def test_an_error_that_waiting_does_not_fix(tracking):
    store = open_store(tracking)
    run = store.client.create_run(store.experiment_id)
    writer = writing.RunWriter(store.client, run)
    writer.metric("a" * 1000, 1.0, 1)
    with pytest.raises(Exception, match="exceeds") as caught:
        writer.flush()
    assert not isinstance(caught.value, StoreUnavailable)
    writer.end("FAILED")
