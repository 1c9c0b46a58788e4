"""Each setting has a summary run, which is rewritten when its finished runs change."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from auxgrad.config import Identity, compose
from auxgrad.config.schema import TrackingConfig
from auxgrad.record import view
from auxgrad.record.opening import open_sibling, open_store
from auxgrad.record.stored import METRICS
from auxgrad.record.writing import Dataset
from auxgrad.reports import summaries
from auxgrad.reports.analysis import table
from auxgrad.reports.runs.selection import from_store
from auxgrad.reports.statistics import Estimate

ABOUT = '{"accuracy": {"maximize": true}}'


@functools.cache
def identity(lam: float, seed: int) -> Identity:
    return compose(["mode=Multitask", f"lam={lam}", f"seed={seed}"]).identity("f" * 64)


@pytest.fixture
def store(in_tmp):
    return open_store(TrackingConfig())


def add(store, lam, seed, loss, status="FINISHED", accuracy=None) -> None:
    record = store.start_run(identity(lam, seed), {}, Dataset("d", "0" * 64, "{}", "{}"))
    if accuracy is not None:
        record.metric("val_accuracy", accuracy, 2)
        record.metric("test_accuracy", accuracy, 2)
        record.tag(METRICS, ABOUT)
    for step in (1, 2):
        record.metric("train_loss", 1 / step + loss, step)
    record.metric("val_loss", loss + 0.1, 2)
    for name, value in {
        "test_loss": loss,
        "best_val_loss": loss + 0.1,
        "epochs": 1,
        "seconds": 2,
    }.items():
        record.metric(name, value, 2)
    record.flush()
    record.end(status)


def write(store, *lams) -> list[str]:
    said = []
    settings = {identity(lam, 0).setting_key: identity(lam, 0) for lam in lams}
    summaries.write(store, settings, said.append)
    return said


def of_settings(store):
    return {run.params["lam"]: run for run in open_sibling(store, "-settings").runs()}


def test_means_of_the_newest_of_each_seed(store):
    add(store, 3.0, 0, 0.9)
    for seed, loss in enumerate([0.2, 0.3, 0.4]):
        add(store, 3.0, seed, loss)
    add(store, 3.0, 9, 0.9, "FAILED")
    add(store, 30.0, 0, 0.5)
    [line] = write(store, 3.0, 30.0, 300.0)
    expected = "summary   2 settings, mean and 95 % interval over seeds: experiment auxgrad-settings"
    assert line == expected
    found = of_settings(store)
    assert found.keys() == {"3", "30"}
    summary, estimate = found["3"], Estimate.of([0.2, 0.3, 0.4])
    assert summary.params == {
        **{"mode": "Multitask", "lam": "3", "alpha": "1", "overall": "false"},
        **{"data": "imdb25k", "problem": "reviews", "config": identity(3.0, 0).setting_name},
    }
    metrics = summary.metrics
    assert metrics["seeds"] == 3
    for name, value in (("", estimate.mean), ("_std", estimate.std), ("_low", estimate.low)):
        assert metrics[f"test_loss{name}"] == pytest.approx(value)
    assert (metrics["best_val_loss"], metrics["epochs"]) == (pytest.approx(0.4), 1)
    curves = open_sibling(store, "-settings").histories([summary.run_id], "train_loss")
    assert curves[summary.run_id] == pytest.approx({1: 1.3, 2: 0.8})
    assert "test_loss_std" not in found["30"].metrics


def test_only_changed_summaries_are_rewritten(store):
    for lam in (3.0, 30.0):
        add(store, lam, 0, 0.3)
    write(store, 3.0, 30.0)
    before = of_settings(store)
    add(store, 3.0, 1, 0.4)
    write(store, 3.0, 30.0)
    after = of_settings(store)
    assert after["30"].run_id == before["30"].run_id
    assert after["3"].run_id != before["3"].run_id
    assert after["3"].metrics["test_loss"] == pytest.approx(np.mean([0.3, 0.4]))
    assert len(open_sibling(store, "-settings").runs()) == 2


def test_metrics_beside_the_loss(store):
    for seed, accuracy in enumerate([0.8, 0.9]):
        add(store, 3.0, seed, 0.3, accuracy=accuracy)
    write(store, 3.0)
    summary, settings = of_settings(store)["3"], open_sibling(store, "-settings")
    assert summary.metrics["test_accuracy"] == pytest.approx(0.85)
    assert summary.metrics["val_accuracy"] == pytest.approx(0.85)
    assert summary.maximize("accuracy") is True
    shared = settings.client.get_experiment(settings.experiment_id).tags[view.TAG]
    assert view.metrics_in(shared) == ["accuracy"]
    assert shared == view.state(derived=True, metrics=["accuracy"])


def test_runs_that_diverged_are_left_out_and_counted(store):
    """The means are the same as in a report."""
    for seed, loss in enumerate([0.2, math.nan, 0.4, math.inf]):
        add(store, 3.0, seed, loss, accuracy=0.9 if math.isfinite(loss) else 0.5)
    add(store, 30.0, 0, math.nan)
    add(store, 300.0, 0, 0.5)
    [line] = write(store, 3.0, 30.0, 300.0)
    assert line.endswith("experiment auxgrad-settings; 3 runs diverged, left out")
    found = of_settings(store)
    metrics = found["3"].metrics
    assert (metrics["seeds"], metrics["diverged"]) == (2, 2)
    rows = {row.setting.lam: row for row in table(from_store(store.runs(), {}))}
    estimate = rows[3.0].estimate
    assert metrics["test_loss"] == pytest.approx(0.3) == pytest.approx(estimate.mean)
    assert metrics["test_loss_low"] == pytest.approx(estimate.low)
    assert metrics["test_loss_high"] == pytest.approx(estimate.high)
    assert metrics["diverged"] == rows[3.0].n_diverged
    assert (metrics["best_val_loss"], metrics["test_accuracy"]) == pytest.approx((0.4, 0.9))
    curves = open_sibling(store, "-settings").histories([found["3"].run_id], "train_loss")
    assert curves[found["3"].run_id] == pytest.approx({1: 1.3, 2: 0.8})
    assert found["30"].metrics == {"seeds": 0, "diverged": 1}
    assert (found["300"].metrics["seeds"], found["300"].metrics["diverged"]) == (1, 0)
    again = write(store, 3.0, 30.0, 300.0)
    assert again == [line]
    assert of_settings(store)["3"].run_id == found["3"].run_id


def test_without_finished_runs_nothing_is_written(store):
    add(store, 3.0, 0, 0.3, "KILLED")
    assert write(store, 3.0) == []
