"""`python -m auxgrad.ui` starts, prints links, and ends with all its children."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import urllib.request
from pathlib import Path

import psutil
import pytest
from conftest import auxgrad_ui, links, mlflow_ui

from auxgrad.config import compose
from auxgrad.record import view
from auxgrad.record.links import (
    DEFAULT_EXPERIMENT,
    artifacts_url,
    charts_url,
    command,
    run_url,
    table_url,
    ui_command,
)
from auxgrad.record.opening import open_sibling, open_store
from auxgrad.record.remote import stored
from auxgrad.record.store import SETTINGS, Store
from auxgrad.record.writing import Dataset


@pytest.fixture
def store(in_tmp) -> Store:
    """Return a store with one run that has a curve."""
    store = open_store(compose([]).tracking)
    identity = compose(["mode=SingleTask"]).identity("f")
    writer = store.start_run(identity, {}, Dataset("d", "0" * 64, "{}", "{}"))
    writer.metric("val_loss", 0.5, 1)
    writer.metric("val_loss", float("nan"), 2)
    writer.flush()
    writer.end("FINISHED")
    return store


def is_served(url: str) -> bool:
    base = url.partition("/#")[0]
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health", timeout=10) as answer:
        return answer.read() == b"OK"
    return False


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 143)],
)
def test_it_serves_until_it_is_stopped_with_all_its_children(store, number, status):
    with auxgrad_ui() as (process, found):
        url = found["charts"]
        assert is_served(url)
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == status
        assert err == ""
        assert ("stopped" in out) == (status == 0)
        assert not [member for member in family if member.is_running()]
        assert not is_served(url)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.process
def test_two_at_once_with_their_links_and_a_port_that_is_taken(store, tmp_path, forked):
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    script.chmod(0o755)
    port = free_port()
    with auxgrad_ui("--open", BROWSER=str(script)) as (_, first):
        one = first["charts"]
        assert (tmp_path / "opened").read_text().strip() == one
        assert set(first) == {"charts", "table"}
        assert f"/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning" in one
        settings = open_sibling(store, SETTINGS)
        with auxgrad_ui("--port", str(port)) as (_, second):
            assert second["means"].startswith(f"http://127.0.0.1:{port}/")
            assert f"/#/experiments/{settings.experiment_id}/runs?" in second["means"]
            assert is_served(one)
            assert is_served(second["charts"])
            assert one.partition("/#")[0] != second["charts"].partition("/#")[0]
            taken = one.split(":")[2].partition("/")[0]
            done = forked("ui", "--port", taken)
            assert done.returncode == 1
            assert done.stderr == f"auxgrad: --port={taken}: is taken; must be a free port\n"


@pytest.mark.process
def test_a_server_store_has_a_link_and_curves(store, tmp_path, forked):
    with mlflow_ui(["server", "--workers", "1", "--backend-store-uri", store.uri], tmp_path) as url:
        done = forked("ui", f"tracking.uri={url}")
        assert done.returncode == 0, done.stderr
        assert links(done.stdout)["charts"].startswith(
            f"{url}/#/experiments/{store.experiment_id}/runs?"
        )
        remote = open_store(compose([f"tracking.uri={url}"]).tracking, create=False)
        assert ui_command(remote) is None
        assert charts_url(remote).startswith(f"{url}/#/experiments/{store.experiment_id}/runs?")
        assert repr(remote.runs()) == repr(store.runs())  # NaN differs from itself, its text does not.
        [run] = remote.runs("FINISHED", store.runs()[0].identity.key)
        assert repr(stored(remote.client.get_run(run.run_id))) == repr(run)
        assert remote.runs("RUNNING") == []
        assert remote.finished_keys() == store.finished_keys() == {run.identity.key}
        assert remote.count_outdated() == 0
        run_ids = [run.run_id]
        there, here = (each.histories(run_ids, "val_loss") for each in (remote, store))
        assert str(there) == str(here) == str({run_ids[0]: {1: 0.5, 2: float("nan")}})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            [],
            "tracking.uri=sqlite:///{}/mlflow.db: there is no such store; a run of auxgrad.train",
        ),
        (
            ["mode=SingleTask"],
            "mode=SingleTask: unknown key; must be one of tracking.experiment, tracki",
        ),
        (["--port", "0"], "--port=0: must be a whole number from 1 to 65535"),
    ],
)
def test_wrong_input(tmp_path, forked, arguments, line):
    done = forked("ui", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"auxgrad: {line.format(tmp_path)}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_links(store):
    base = f"http://127.0.0.1:5000/#/experiments/{store.experiment_id}/runs"
    assert ui_command(store) == f"python -m auxgrad.ui tracking.uri={store.uri}"
    assert command(open_sibling(store, SETTINGS), "report") == (
        f"python -m auxgrad.report tracking.uri={store.uri} tracking.experiment=auxgrad-settings"
    )
    assert run_url(store, "r") == f"{base}/r/model-metrics?workflowType=machine_learning"
    assert artifacts_url(store, "r") == f"{base}/r/artifacts?workflowType=machine_learning"
    assert charts_url(store) == f"{table_url(store)}&compareRunsMode=CHART"
    assert table_url(store) == f"{base}?workflowType=machine_learning&viewStateShareKey=auxgrad"
    assert table_url(store, "http://h:1").startswith("http://h:1/#/experiments/")


def test_an_older_store_gets_the_view(store):
    assert compose([]).tracking.experiment == DEFAULT_EXPERIMENT
    store.client.set_experiment_tag(store.experiment_id, view.TAG, "{}")
    again = open_store(compose([]).tracking)
    tags = again.client.get_experiment(store.experiment_id).tags
    shared = json.loads(tags[view.TAG])
    assert shared["selectedColumns"] == [
        *(f"params.`{name}`" for name in ("mode", "lam", "alpha", "overall", "seed")),
        "metrics.`test_loss`",
    ]
    assert [chart["metricKey"] for chart in shared["compareRunCharts"]] == [
        *("train_loss", "val_loss", "test_loss")
    ]
    assert len(tags[view.TAG]) < 5000  # The longest tag that MLflow accepts.


def test_curves_stay_quick_in_a_large_store(store: Store, in_tmp: Path):
    """SQLite finds a curve by its run, without searching all curves with that name."""
    [run_id] = [run.run_id for run in store.runs()]
    db = sqlite3.connect(in_tmp / "mlflow.db")
    rows = [
        ("val_loss", 0.1, step, each, step, 0)
        for each in (run_id, *(f"{other:032d}" for other in range(50)))
        for step in range(3, 100)
    ]
    db.executemany(
        "insert into metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, ?)",
        rows,
    )
    db.commit()
    store.analyze()
    plan = "explain query plan select * from metrics where run_uuid = ? and key = ?"
    [(*_, how)] = sqlite3.connect(in_tmp / "mlflow.db").execute(plan, (run_id, "val_loss"))
    assert "run_uuid=? AND key=?" in how
