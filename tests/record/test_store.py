"""The store: its address, simultaneous creation, writing and reading runs, and unusable stores."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import socket
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from conftest import together
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from auxgrad.config import Identity
from auxgrad.config.addresses import store_address
from auxgrad.config.identity import Names
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import AuxgradError, RunsElsewhere, TrackingError
from auxgrad.process.liveness import process_tags, stable_tags
from auxgrad.record import store as module
from auxgrad.record import view, writing
from auxgrad.record.claims import AlreadyFinished
from auxgrad.record.opening import open_sibling, open_store
from auxgrad.record.remote import Server, stored
from auxgrad.record.store import REPORTS, SETTINGS
from auxgrad.record.stored import IDENTITY, RUN_KEY, SETTING_KEY
from auxgrad.record.writing import Dataset, RunWriter

DATA = Dataset("d", "0" * 64, "{}", "{}")
IT = Identity(
    mode="Projection",
    lam=1.0,
    alpha=1.0,
    overall=False,
    seed=0,
    rule={"target": "auxgrad.censoring.projection", "version": ""},
    uses=("lam", "alpha", "overall"),
    problem={"target": "p.P", "version": "", "options": {"hidden": [8, 8]}},
    data={"target": "p.D", "version": "", "options": {"num_words": 60}, "fingerprint": "f" * 64},
    names=Names("reviews", "imdb25k"),
    changes=("problem.hidden=[8,8]",),
)


def tracking(uri=None, experiment="auxgrad") -> TrackingConfig:
    return TrackingConfig(uri=uri, experiment=experiment)


@pytest.fixture
def store(in_tmp):
    return open_store(tracking())


def test_environment_then_key_then_working_directory(in_tmp, monkeypatch):
    assert store_address(None)[1] == f"sqlite:///{in_tmp}/mlflow.db"
    assert store_address("sqlite:///sub/runs.db")[1] == f"sqlite:///{in_tmp}/sub/runs.db"
    assert store_address("http://127.0.0.1:5000")[1] == "http://127.0.0.1:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite+pysqlite:////elsewhere/mlflow.db")
    assert store_address("http://127.0.0.1:5000")[1] == "sqlite:////elsewhere/mlflow.db"


def test_artifacts_lie_beside_the_database(new_databases, store, in_tmp):
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.name == "auxgrad"
    assert experiment.artifact_location == (in_tmp / "mlartifacts").as_uri()


@pytest.mark.process
def test_eight_processes_create_one_store(tmp_path):
    code = (
        "from auxgrad.config.identity import Identity, Names\n"
        "from auxgrad.config.schema import TrackingConfig\n"
        "from auxgrad.record.opening import open_store\n"
        "from auxgrad.record.writing import Dataset\n"
        "store = open_store(TrackingConfig(experiment='e'))\n"
        f"identity = {IT!r}\n"
        "run = store.start_run(identity, {}, Dataset('d', 'f' * 64, '{}', '{}'))\n"
        "[run.metric('train_loss', i / 7, i) for i in range(50)]\n"
        "run.flush()\n"
        "run.end('FINISHED')"
    )
    finished = together([[sys.executable, "-c", code]] * 8, tmp_path)
    assert [process.returncode for process in finished] == [0] * 8, finished[0].stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [experiment] = [e for e in client.search_experiments() if e.name == "e"]
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 8
    for run in runs:
        assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 50


def test_a_new_run_has_parameters_tags_and_data(store):
    run = store.start_run(IT, {"device": "CPU"}, DATA)
    [found] = store.runs()
    assert found == stored(store.client.get_run(run.run_id))
    assert found.status == "RUNNING"
    assert found.params == IT.params
    assert found.identity == IT
    assert found.identity is found.identity  # It is parsed only once.
    assert not found.is_outdated
    assert found.process_name.startswith(f"process {os.getpid()} on ")
    assert json.loads(found.tags[IDENTITY])["problem"]["options"] == {"hidden": [8, 8]}
    own = {RUN_KEY: IT.key, SETTING_KEY: IT.setting_key, "device": "CPU", "mlflow.runName": IT.name}
    assert own.items() <= found.tags.items()
    assert {"mlflow.user", "mlflow.source.name"} <= set(found.tags)
    [used] = store.client.get_run(run.run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("d", "0" * 32)


def test_an_identity_that_is_too_long_for_a_tag(store):
    long = replace(IT, problem={**IT.problem, "options": {"hidden": [8] * 4000}})
    with pytest.raises(TrackingError, match=r"^run Projection.*12\d\d\d characters.* at most 8000$"):
        store.start_run(long, {}, DATA, once=True)
    assert store.runs() == []
    just = replace(IT, problem={**IT.problem, "options": {"text": "x" * (7900 - len(IT.to_json()))}})
    store.start_run(just, {}, DATA)
    assert store.runs()[0].identity == just


def test_an_identity_that_was_changed_by_hand(store):
    run = store.start_run(IT, {}, DATA)
    for text in ("{", "[]", '{"mode": "SingleTask"}'):
        store.client.set_tag(run.run_id, IDENTITY, text)
        with pytest.raises(
            TrackingError, match=f"^run {run.run_id}: tag auxgrad.identity cannot be read"
        ):
            _ = stored(store.client.get_run(run.run_id)).identity


@pytest.mark.parametrize("has_lock", [True, False])
def test_one_of_several_simultaneous_requests_gets_the_run(store, monkeypatch, has_lock):
    """A server has no lock. A run that is withdrawn is deleted."""
    ask = module.refuse_second

    def ask_and_think(runs):
        ask(runs)
        time.sleep(0.3)

    def start(_):
        with contextlib.suppress(RunsElsewhere):
            return store.start_run(IT, {}, DATA, once=True)

    monkeypatch.setattr(module, "refuse_second", ask_and_think)
    if not has_lock:
        store.__dict__["_file_lock"] = None
    with ThreadPoolExecutor(4) as pool:
        made = [writer for writer in pool.map(start, range(4)) if writer]
    assert [run.run_id for run in store.runs()] == [writer.run_id for writer in made]
    assert len(made) == 1
    made[0].end("KILLED")


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (MlflowException("no"), "FAILED")],
)
def test_a_run_that_is_interrupted_while_it_is_opened(store, monkeypatch, error, status):
    def fail(*_):
        raise error

    monkeypatch.setattr(RunWriter, "params", fail)
    with pytest.raises((KeyboardInterrupt, SystemExit, MlflowException)):
        store.start_run(IT, {}, DATA)
    assert [run.status for run in store.runs()] == [status]


def test_a_run_is_made_once(store):
    def start(seed=0):
        return store.start_run(replace(IT, seed=seed), {}, DATA, once=True)

    first = start()
    with pytest.raises(RunsElsewhere, match=f"process {os.getpid()} on "):
        start()
    start(1).end("FAILED")
    first.end("KILLED")
    second = start()
    second.end("FINISHED")
    with pytest.raises(AlreadyFinished, match=f"^finished already: run {second.run_id}$") as caught:
        start()
    assert caught.value.run == stored(store.client.get_run(second.run_id))
    again = pickle.loads(pickle.dumps(caught.value))  # A worker may send it to the sweep.
    assert again.run == caught.value.run
    assert store.finished_keys() == {IT.key}
    store.start_run(IT, {}, DATA).end("FINISHED")  # Without `once` a second run is allowed.


def test_runs_of_the_first_version_do_not_count(store):
    old = store.client.create_run(store.experiment_id, tags={RUN_KEY: "k", "setting": "x"}).info.run_id
    assert store.count_outdated() == 0  # The run has not ended.
    store.client.set_terminated(old, "FINISHED")
    store.start_run(IT, {}, DATA).end("FINISHED")
    store.client.set_terminated(store.start_derived("mean", {"mode": "x"}, {}).run_id, "FINISHED")
    found = {run.run_id: run for run in store.runs()}
    assert found[old].is_outdated
    assert found[old].identity is None
    assert sum(run.is_outdated for run in found.values()) == store.count_outdated() == 1
    assert store.finished_keys() == {IT.key}


def test_tables_and_client_agree(store):
    statuses = ("FINISHED", "RUNNING", "FINISHED", "FAILED", "KILLED", "FINISHED")
    writers = []
    for seed, status in enumerate(statuses):
        writer = store.start_run(replace(IT, seed=seed), {"number": str(seed)}, DATA)
        for step in range(4):
            writer.metric("train_loss", seed + step / 7, step)
        for name, value in (("nan", math.nan), ("inf", math.inf), ("minus", -math.inf), ("seven", 7.0)):
            writer.metric(name, 1.0, 0)
            writer.metric(name, value, 1)
        writer.flush()
        if status != "RUNNING":
            writer.end(status)
        writers.append(writer)
    store.client.create_run(store.experiment_id)  # A run without parameters, metrics and tags.
    # Two runs that started in the same millisecond, and one that started before all others.
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as tables:
        for writer, start in zip(writers[:3], (5, 5, 1), strict=True):
            tables.execute("update runs set start_time = ? where run_uuid = ?", (start, writer.run_id))
    tables.close()
    open_sibling(store, SETTINGS).start_derived("elsewhere", {"mode": "x"}, {RUN_KEY: IT.key})
    store.delete([writers[5].run_id])

    client = Server(store.client, store.experiment_id)
    assert len(store.runs()) == 6
    for status in (None, "FINISHED", "RUNNING", "SCHEDULED"):
        assert repr(store.runs(status)) == repr(client.runs(status))  # As texts, NaN equals NaN.
    for key in (IT.key, replace(IT, seed=1).key, replace(IT, seed=5).key, "none"):
        assert repr(store.runs(key=key)) == repr(client.runs(key=key))
    assert store.finished_keys() == client.finished_keys() == {IT.key, replace(IT, seed=2).key}
    assert store.count_outdated() == client.count_outdated() == 0
    ids = [run.run_id for run in store.runs()]
    for metric in ("train_loss", "nan", "inf", "minus", "none"):
        # Sorted, because the order of the runs is not specified.
        direct, asked = (
            sorted(map(repr, each.histories(ids, metric).items())) for each in (store, client)
        )
        assert direct == asked


@pytest.mark.process
def test_runs_that_add_a_new_data_set_at_once(store):
    """In about one of twenty attempts MLflow refuses all but one of them."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            data = Dataset("d", f"{number:032d}", "{}", "{}")
            started = [pool.submit(store.start_run, IT, {}, data) for _ in range(8)]
            ids = [each.result().run_id for each in started]
            assert all(store.client.get_run(run_id).inputs.dataset_inputs for run_id in ids)


def test_a_run_that_cannot_be_recorded_is_not_left_running(store):
    with pytest.raises(MlflowException, match="500"):
        store.start_run(IT, {}, replace(DATA, name="d" * 501))
    assert [run.status for run in store.runs()] == ["FAILED"]


def test_runs_of_dead_processes_are_marked(store):
    """A run that has ended or was resumed since it was read is not marked."""
    writers = [store.start_run(replace(IT, seed=seed), {}, DATA) for seed in range(4)]
    for writer in writers[1:]:
        store.client.set_tag(writer.run_id, "worker.pid", "4194304")
    read = store.runs()
    writers[2].end("FINISHED")
    store.client.set_tag(writers[3].run_id, "worker.pid", str(os.getpid()))
    states = {run.run_id: run.status for run in store.mark_dead(read)}
    assert states == {run.run_id: run.status for run in store.runs()}
    assert [states[w.run_id] for w in writers] == ["RUNNING", "KILLED", "FINISHED", "RUNNING"]
    assert store.mark_dead_runs() == 0


def test_an_interrupted_run_is_resumed(store):
    first = store.start_run(IT, {"folder": "a"}, DATA)
    for step in (1, 2, 3):
        first.metric("train_loss", step / 7, step)
    first.flush()
    first.end("KILLED")
    other = store.start_run(replace(IT, seed=1), {}, DATA)
    other.end("FAILED")

    def resumes(run):
        return run.tags.get("folder") == "a"

    again = store.start_run(IT, {"folder": "b"}, DATA, once=True, resumes=resumes)
    assert again.run_id == first.run_id
    with pytest.raises(RunsElsewhere):
        store.start_run(IT, {}, DATA, once=True, resumes=resumes)
    for step in (2, 3, 4):  # Values that are stored already are not stored again.
        again.metric("train_loss", step / 7, step)
    again.flush()
    again.end("FINISHED")
    [found] = store.runs("FINISHED")
    assert found.tags["folder"] == "b"
    history = store.client.get_metric_history(first.run_id, "train_loss")
    assert [(each.step, each.value) for each in history] == [(n, n / 7) for n in (1, 2, 3, 4)]


def test_a_resumed_run_belongs_to_its_new_process_only(store):
    in_slurm = {"worker.slurm_job": "17", "worker.slurm_cluster": "c"}
    store.start_run(IT, in_slurm, DATA).end("KILLED")
    store.start_run(IT, {}, DATA, resumes=lambda run: True)
    [run] = store.runs("RUNNING")
    assert stable_tags(run.tags) == stable_tags(process_tags())


def test_a_resumed_run_is_at_no_moment_one_of_a_dead_process(store, monkeypatch):
    """No lock keeps others from looking where a server stands before the database."""
    first = store.start_run(IT, {}, DATA)
    first.end("KILLED")
    store.client.set_tag(first.run_id, "worker.started", "1.00")
    update, others = MlflowClient.update_run, []

    def update_run(self, run_id, **changes):
        update(self, run_id, **changes)
        others.append(store.mark_dead_runs())

    monkeypatch.setattr(MlflowClient, "update_run", update_run)
    store.start_run(IT, {}, DATA, resumes=lambda run: True)
    assert others == [0]
    assert [run.status for run in store.runs()] == ["RUNNING"]


def test_a_derived_run_is_not_marked_killed(store):
    reports = open_sibling(store, REPORTS)
    reports.start_derived("report", {"runs": "3"}, {"sort": "report"})
    assert reports.mark_dead_runs() == 0
    [run] = reports.runs()
    assert (run.status, run.params) == ("RUNNING", {"runs": "3"})
    with pytest.raises(TrackingError, match="auxgrad-settings: is not in sqlite"):
        open_sibling(store, SETTINGS, create=False)


def test_more_metrics_than_one_call_takes(store):
    writer = store.start_run(IT, {}, DATA)
    for step in range(2500):
        writer.metric("train_loss", float(step), step)
    writer.flush()
    writer.end("FINISHED")
    history = store.client.get_metric_history(writer.run_id, "train_loss")
    assert [point.value for point in history] == list(range(2500))
    assert store.histories([writer.run_id], "train_loss") == {
        writer.run_id: {step: float(step) for step in range(2500)}
    }


def test_tags_are_written_with_the_metrics(store, monkeypatch):
    writer, calls = store.start_run(IT, {}, DATA), []
    log_batch = writer.client.log_batch
    monkeypatch.setattr(
        writer.client, "log_batch", lambda *args, **kwargs: calls.append(log_batch(*args, **kwargs))
    )
    for step in range(1000):
        writer.metric("train_loss", float(step), step)
    writer.tag("late", "yes")
    assert "late" not in store.runs()[0].tags
    writer.flush()
    assert store.runs()[0].tags["late"] == "yes"
    assert len(calls) == 2  # One call accepts at most 1,000 metrics and tags together.
    assert len(store.histories([writer.run_id], "train_loss")[writer.run_id]) == 1000
    writer.metric("train_loss", 1.0, 1000)
    writer.tag("later", "yes")
    writer.flush()
    assert len(calls) == 3
    writer.flush()
    assert len(calls) == 3


def shown(store) -> list[str]:
    """Return the metrics with charts in the view that is stored."""
    state = json.loads(store.client.get_experiment(store.experiment_id).tags[view.TAG])
    return [chart["metricKey"] for chart in state["compareRunCharts"]]


def test_metrics_get_charts_once(store, monkeypatch):
    losses = ["train_loss", "val_loss", "test_loss"]
    assert shown(store) == losses
    asked, get = [], store.client.get_experiment
    store.add_charts([])
    store.add_charts(["accuracy"])
    with monkeypatch.context() as patch:
        patch.setattr(store.client, "get_experiment", lambda key: asked.append(key) or get(key))
        store.add_charts(["accuracy"])
        assert asked == []  # The chart is known to exist.
        store.add_charts(["accuracy", "error"])
        assert len(asked) == 1
    expected = [*losses, "val_accuracy", "test_accuracy", "val_error", "test_error"]
    assert shown(store) == expected
    again = open_store(tracking())
    assert shown(store) == expected  # Opening the store keeps the charts.
    again.add_charts(["error", "accuracy"])
    assert shown(store) == expected
    state = json.loads(store.client.get_experiment(store.experiment_id).tags[view.TAG])
    assert state["selectedColumns"][-3:] == [
        f"metrics.`test_{name}`" for name in ("loss", "accuracy", "error")
    ]
    kinds = {chart["metricKey"]: chart["type"] for chart in state["compareRunCharts"]}
    assert (kinds["val_error"], kinds["test_error"]) == ("LINE", "BAR")
    sections = {chart["metricSectionId"] for chart in state["compareRunCharts"]}
    assert sections <= {section["uuid"] for section in state["compareRunSections"]}
    open_sibling(store, SETTINGS).add_charts(["accuracy"])
    assert shown(open_sibling(store, SETTINGS))[-1] == "test_accuracy"


def test_a_view_is_never_too_long_for_a_tag(store):
    store.add_charts([f"a_metric_with_a_rather_long_name_{number}" for number in range(100)])
    assert 5 < len(shown(store)) < 200
    assert shown(open_store(tracking())) == shown(store)


def test_a_run_sends_heartbeats(store, monkeypatch):
    monkeypatch.setattr(writing, "HEARTBEAT_SECONDS", 0.05)
    writer = store.start_run(IT, {}, DATA)
    store.client.set_tag(writer.run_id, "worker.heartbeat", "1000")
    deadline = time.monotonic() + 20
    while (beat := store.runs()[0].tags["worker.heartbeat"]) == "1000":
        assert time.monotonic() < deadline
    assert time.time() - float(beat) < 10
    writer.end("KILLED")


def test_artifacts(new_databases, store, tmp_path):
    """MLflow finds the artifacts, for any name of the folder."""
    (tmp_path / "a b ü").mkdir()
    named = open_store(tracking("sqlite+pysqlite:///a b ü/100 %#.db"))
    assert named.uri == f"sqlite:///{tmp_path}/a b ü/100 %#.db"
    for each in (store, named):
        writer = each.start_run(IT, {}, DATA)
        writer.text("mode: x\nü\n", "config.yaml")
        writer.text("deep", "some/where.txt")
        with writer.artifact("weights") as path:
            path.write_text("w")
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / "events").write_text("e")
        writer.folder(tmp_path / "logs")
        found = {file.path for file in each.client.list_artifacts(writer.run_id)}
        assert found == {"config.yaml", "some", "weights", "events"}
        for name, text in (("config.yaml", "mode: x\nü\n"), ("some/where.txt", "deep")):
            file = each.client.download_artifacts(writer.run_id, name, str(tmp_path))
            with open(file, encoding="utf-8") as lines:  # noqa: PTH123
                assert lines.read() == text
        assert [run.run_id for run in each.runs()] == [writer.run_id]
    files = {file.name for file in (tmp_path / "a b ü").iterdir()}
    assert files == {"100 %#.db", "100 %#.db.lock", "mlartifacts"}


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
def test_an_unusable_store_is_reported_at_once(in_tmp, uri, line):
    uri = uri.format(port=unused_port())
    started = time.perf_counter()
    with pytest.raises(AuxgradError) as caught:
        open_store(tracking(uri))
    assert str(caught.value).startswith(line.format(uri=uri))
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 60  # MLflow alone would retry for minutes.


def test_a_file_that_is_not_a_database(in_tmp):
    (in_tmp / "mlflow.db").write_bytes(b"something else" * 1000)
    with pytest.raises(TrackingError, match="cannot be used"):
        open_store(tracking())
    assert (in_tmp / "mlflow.db").read_bytes() == b"something else" * 1000


def test_a_deleted_experiment(in_tmp):
    store = open_store(tracking())
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match=r"tracking\.experiment=auxgrad: was deleted .*restore -x 1"):
        open_store(tracking())
