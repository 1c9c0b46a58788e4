"""`python -m auxgrad.report` on the store of a real sweep, and on stores with made-up runs."""

from __future__ import annotations

import csv
import functools
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL
from forked import run_python
from matplotlib.figure import Figure
from mlflow import MlflowClient

from auxgrad.config import compose
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import AuxgradError
from auxgrad.record import database
from auxgrad.record.opening import open_store
from auxgrad.record.stored import IDENTITY, METRICS
from auxgrad.record.writing import Dataset
from auxgrad.report import Request, make
from auxgrad.reports.csv_files import read_runs
from auxgrad.reports.metric import Metric
from auxgrad.reports.report import Published, Report
from auxgrad.reports.runs import RunSet
from auxgrad.reports.runs.selection import from_store

FIGURES = ("test_loss", "modes", "losses", "censoring")
LISTED = {
    "runs.csv",
    "table.csv",
    "table.md",
    "significance.csv",
    "report.md",
    "modes.csv",
    *(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")),
}


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as text:
        return list(csv.DictReader(text))


@pytest.fixture(scope="module")
def swept(tmp_path_factory, template, corpus, cache) -> Path:
    """Return a folder with the store of a sweep, half of it added later: 5 settings, 2 seeds."""
    folder = tmp_path_factory.mktemp("swept")
    small = ["data=aclimdb", f"data.path={corpus}", f"data.cache_dir={cache}", *SMALL]
    sweep = ["mode=SingleTask,Projection", "lam=1,10", "alpha=0.01,1"]
    command = ["python", "-m", "auxgrad.train", "--multirun", "hydra/launcher=basic", *sweep, *small]
    for seeds, plan in (
        ("seed=0", "8 combinations, 5 distinct: 0 finished, 5 to run"),
        ("seed=0,1", "16 combinations, 10 distinct: 5 finished, 5 to run"),
    ):
        done = run_python([*command, seeds], folder, os.environ, template)
        assert done.returncode == 0, done.stderr
        assert f"plan      {plan}\n" in done.stdout
    for line in ("see it    python -m auxgrad.ui", "report    python -m auxgrad.report"):
        assert f"{line} tracking.uri=sqlite:///{folder}/mlflow.db\n" in done.stdout
    return folder


def test_a_sweep_becomes_a_report(swept, forked):
    done = forked("report", "--compare", "figure7", cwd=swept)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "runs      10 finished runs in 5 settings, 2 seeds" in done.stdout
    assert "compare   figure7: " in done.stdout
    assert "was measured on" not in done.stdout
    folder = swept / re.search(r"report +(.*)/report.md", done.stdout)[1]
    assert {file.name for file in folder.iterdir()} == LISTED | {"comparison.csv"}

    client = MlflowClient(f"sqlite:///{swept}/mlflow.db")
    experiment = client.get_experiment_by_name("auxgrad")
    recorded = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    written = rows(folder / "runs.csv")
    assert {row["run_id"] for row in written} == recorded.keys()
    for row in written:
        run = recorded[row["run_id"]]
        for name in ("mode", "alpha", "lam", "overall", "seed", "data"):
            assert row[name] == run.data.params[name]
        assert float(row["loss"]) == run.data.metrics["test_loss"]
        assert float(row["best_val_loss"]) == run.data.metrics["best_val_loss"]
        assert row["changes"].startswith("data.num_words=60 problem.hidden=[8,8]")

    table = rows(folder / "table.csv")
    assert [row["mode"] for row in table] == ["SingleTask"] + ["Projection"] * 4
    for row in table:
        knobs = {name: row[name] for name in ("mode", "alpha", "lam")}
        losses = [float(each["loss"]) for each in written if knobs.items() <= each.items()]
        assert (len(losses), row["runs"]) == (2, "2")
        assert float(row["test_loss_mean"]) == pytest.approx(np.mean(losses), rel=1e-5)
        assert float(row["test_loss_std"]) == pytest.approx(np.std(losses, ddof=1), rel=1e-4)
    assert sum(row["best"] == "true" for row in table) == 2
    assert len(rows(folder / "significance.csv")) == 1
    assert len(rows(folder / "comparison.csv")) == 5

    text = (folder / "report.md").read_text()
    assert "Only in figure7 (14): " in text
    assert "## What is missing\n\nNothing." in text
    assert "nan" not in text.lower()
    for name in re.findall(r"\]\((.*?)\)", text):
        assert (folder / name).exists()
    for file in folder.glob("*.svg"):
        assert "<svg" in file.read_text()
    for file in folder.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG")

    reports = client.get_experiment_by_name("auxgrad-reports")
    [run] = client.search_runs([reports.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"runs": 10, "settings": 5}
    stored = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert stored == {file.name for file in folder.iterdir()}
    # The axes have the label of the loss that the runs recorded.
    assert "test loss (cross-entropy, nats)" in (folder / "test_loss.svg").read_text()


def test_the_same_report_twice_is_the_same_and_writes_nothing_over(swept, monkeypatch):
    monkeypatch.chdir(swept)
    first, second = make(Request.of(["mode=SingleTask"])), make(Request.of(["mode=SingleTask"]))
    assert first != second
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_a_report_is_read_back(swept, monkeypatch):
    monkeypatch.chdir(swept)
    ours = make(Request.of(["--output", "ours"]))
    again = make(Request.of(["--runs", "ours/runs.csv", "--compare", "ours/table.csv"]))
    assert (again / "table.csv").read_text() == (ours / "table.csv").read_text()
    assert (again / "significance.csv").read_text() == (ours / "significance.csv").read_text()
    compared = rows(again / "comparison.csv")
    assert len(compared) == 5
    assert all(row["agrees"] == "true" for row in compared)
    assert max(abs(float(row["difference"])) for row in compared) < 1e-6
    assert "No curves" in (again / "report.md").read_text()
    by_runs = make(Request.of(["--runs", "ours/runs.csv", "--compare", "ours/runs.csv"]))
    assert rows(by_runs / "comparison.csv")[0]["published_runs"] == "2"


def test_curves_are_read_as_mlflow_has_them(swept, monkeypatch):
    monkeypatch.chdir(swept)
    store = open_store(compose([]).tracking, create=False)
    run_ids = [run.run_id for run in store.runs()]
    for metric in ("train_loss", "val_loss", "cosine/overall", "nothing"):
        expected = {}
        for run_id in run_ids:
            points = store.client.get_metric_history(run_id, metric)
            if points:
                expected[run_id] = {point.step: point.value for point in points}
        monkeypatch.setattr(database, "MAX_VARIABLES", 5)
        assert store.histories(run_ids, metric) == expected


@functools.cache
def identity_of(overrides, fingerprint):
    return compose(overrides).identity(fingerprint)


def make_run(
    store, loss, *overrides, status="FINISHED", fingerprint="f" * 64, about=None, curve=(), **metrics
):
    """Write a run with the minimum that a report needs to a real store."""
    seeds = [word.partition("=")[2] for word in overrides if word.startswith("seed=")] or ["0"]
    words = tuple(word for word in overrides if not word.startswith("seed="))
    identity = replace(identity_of(words, fingerprint), seed=int(seeds[-1]))
    record = store.start_run(identity, {}, Dataset("d", "0" * 64, "{}", "{}"))
    if loss is not None:
        metrics["test_loss"] = loss
    for name, value in metrics.items():
        record.metric(name, value, 0)
    for step, value in enumerate(curve):
        record.metric("val_accuracy", value, step)
    if about:
        record.tag(METRICS, json.dumps(about))
    record.flush()
    record.end(status)


@pytest.fixture
def store(in_tmp):
    return open_store(TrackingConfig())


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the files of figures empty, because drawing takes most of the time of a report."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: Path(file).touch())


def test_means_are_over_all_runs(undrawn, store):
    losses = np.random.default_rng(0).uniform(0.2, 0.4, 11)
    for seed, loss in enumerate(losses):
        make_run(store, loss, "mode=SingleTask", f"seed={seed}")
    [row] = rows(make(Request.of([])) / "table.csv")
    assert row["runs"] == "11"
    assert float(row["test_loss_mean"]) == pytest.approx(np.mean(losses), rel=1e-5)


UP = {"accuracy": {"maximize": True}}


def make_accurate(store, about=UP):
    """Write runs in which the lowest loss has the lowest accuracy."""
    for seed in range(3):
        more = {"about": about, "curve": (0.5, 0.6)}
        for words, loss, accuracy in (
            (("mode=SingleTask",), 0.3, 0.80),
            (("mode=Multitask", "lam=3"), 0.2, 0.85),
            (("mode=Multitask", "lam=30"), 0.4, 0.90),
        ):
            values = {"test_accuracy": accuracy + seed / 100, "best_val_accuracy": accuracy + seed / 50}
            make_run(store, loss, *words, f"seed={seed}", **more, **values, best_val_loss=loss)


def test_a_report_on_another_metric(undrawn, store, capsys):
    make_accurate(store)
    make_run(store, float("nan"), "lam=100", about=UP, test_accuracy=0.5, best_val_accuracy=0.5)
    folder = make(Request.of(["--metric", "test_accuracy"]))
    out = capsys.readouterr().out
    assert "best      of each mode, by mean validation accuracy, and its mean test accuracy ± sta" in out
    assert re.search(r"^ +Multitask lam=30 +0\.9100 ± 0\.0100$", out, re.M)
    table = rows(folder / "table.csv")
    assert {"test_accuracy_mean", "test_accuracy_std", "best_val_accuracy_mean"} < table[0].keys()
    assert [row["lam"] for row in table if row["best"] == "true"] == ["0", "30"]
    assert [row["test_accuracy_mean"] for row in table] == ["0.81", "0.86", "0.91", ""]
    assert (
        table[-1]["note"] == "1 diverged, left out, 2 seeds missing"
    )  # The report on the loss has the same note.
    [test] = rows(folder / "significance.csv")
    assert (test["b"], test["difference"]) == ("Multitask lam=30", "-0.1")
    text = (folder / "report.md").read_text()
    for words in (
        "# Test accuracy, problem=reviews data=imdb25k\n",
        "| test accuracy | std |",
        "| validation accuracy |",
        "by its mean validation accuracy at the epoch with the lowest validation loss, so that the "
        "choice does not flatter its test accuracy; "
        "its highest test accuracy is bold.",
        "| 30 | **0.9100** |",
        "Permutation tests of the mean test accuracy,",
        "![Test accuracy over lam](test_accuracy.png)",
        "![Validation accuracy of every setting](val_accuracy.png)",
    ):
        assert words in text
    assert "loss" not in text.replace("at the epoch with the lowest validation loss", "")
    drawn = {file.name for file in folder.glob("*.svg")}
    assert drawn == {"test_accuracy.svg", "val_accuracy.svg", "modes.svg"}
    [stored] = open_store(TrackingConfig(experiment="auxgrad-reports")).runs()
    assert stored.params == {"metric": "test_accuracy"}

    again = make(Request.of(["--runs", f"{folder}/runs.csv", "--metric=test_accuracy", "--maximize"]))
    assert (again / "table.csv").read_text() == (folder / "table.csv").read_text()
    compared = make(Request.of(["--metric=test_accuracy", f"--compare={folder}/table.csv"]))
    assert len(rows(compared / "comparison.csv")) == 3
    assert "Test accuracy as mean ± standard deviation" in (compared / "report.md").read_text()
    short = make(Request.of(["--metric=accuracy"]))
    assert (short / "table.csv").read_text() == (folder / "table.csv").read_text()
    loss = make(Request.of([]))
    assert [row["best"] for row in rows(loss / "table.csv")] == ["true", "true", "false", "false"]
    assert (loss / "test_loss.svg").exists()


def test_settings_that_share_the_best_value_are_named(undrawn, store, capsys):
    make_run(store, 0.3, "mode=SingleTask", best_val_loss=0.5)
    for lam, values in ((30, (0.1, 0.2, 0.3)), (3, (0.3, 0.2, 0.1)), (10, (0.2, 0.2, 0.9))):
        for seed, value in enumerate(values):  # Their sums differ by rounding.
            make_run(store, 0.3, "mode=Multitask", f"lam={lam}", f"seed={seed}", best_val_loss=value)
    folder = make(Request.of([]))
    line = "Multitask lam=3: tied with Multitask lam=30 by mean validation loss; the first in the table"
    assert f"\n{line} is taken as the best.\n" in (folder / "report.md").read_text()
    assert f"tied      {line}" in capsys.readouterr().out
    table = {row["mode"] + row["lam"]: row["best"] for row in rows(folder / "table.csv")}
    assert [name for name, best in table.items() if best == "true"] == ["SingleTask0", "Multitask3"]
    capsys.readouterr()
    make(Request.of(["lam=10"]))
    assert "tied" not in capsys.readouterr().out


def test_the_label_of_the_loss_is_on_the_axes(store):
    about = {"loss": {"label": "squared error, m²"}}
    make_run(store, 0.3, "mode=SingleTask", about=about)
    make_run(store, 0.3, "mode=Multitask", "lam=3")  # A run without a recorded label.
    found = from_store(store.runs(), {})
    shown = [
        Report.of(part, part.studies()[0], Published(), Metric()).metric
        for part in (found, RunSet([run for run in found.runs if not run.loss_label]))
    ]
    assert [metric.axis for metric in shown] == ["test loss (squared error, m²)", "test loss"]
    assert [metric.loss_axis for metric in shown] == ["loss (m²)", "loss"]


def test_censoring_is_drawn_for_each_of_several_auxiliaries(store):
    for seed in range(2):
        statistics = {"cosine/odd/overall": 0.5, "conflict/odd/overall": 0.1, "cosine/odd/h.kernel": 0.4}
        statistics |= {"cosine/large/overall": 0.25, "conflict/large/overall": 0.2}
        make_run(store, 0.3, "mode=Multitask", "lam=3", f"seed={seed}", **statistics)
        make_run(store, 0.3, "mode=SingleTask", f"seed={seed}")
    folder = make(Request.of([]))
    assert (
        "![Cosine and share of steps in conflict](censoring.png)" in (folder / "report.md").read_text()
    )
    drawn = (folder / "censoring.svg").read_text()
    for label in ("cosine of odd", "(cosine of odd &lt; 0)", "cosine of large", "Multitask lam=3"):
        assert f"<!-- {label} -->" in drawn, label
    assert "alpha" not in drawn  # Multitask does not use it.
    for name in ("modes", "test_loss", "censoring"):
        assert "mean and 95 % interval" in (folder / f"{name}.svg").read_text()
    assert not (make(Request.of(["mode=SingleTask"])) / "censoring.png").exists()


def test_which_way_is_better_must_be_known(undrawn, store):
    asked = ["--metric", "test_accuracy"]
    make_accurate(store, about=None)
    with pytest.raises(
        AuxgradError, match="did not record whether higher is better; add --maximize or --m"
    ):
        make(Request.of(asked))
    bests = [
        rows(make(Request.of([*asked, flag])) / "table.csv") for flag in ("--maximize", "--minimize")
    ]
    assert [[row["best"] for row in table[1:]] for table in bests] == [
        ["false", "true"],
        ["true", "false"],
    ]
    make_accurate(store)
    with pytest.raises(
        AuxgradError, match=r"^--minimize: the runs recorded that a higher test_accuracy is better$"
    ):
        make(Request.of([*asked, "--minimize"]))
    make_run(
        store, 0.3, "mode=SingleTask", "seed=9", about={"accuracy": {"maximize": False}}, test_accuracy=1
    )
    with pytest.raises(
        AuxgradError, match="some runs recorded that higher is better, others that lower is"
    ):
        make(Request.of(asked))
    with pytest.raises(AuxgradError, match=r"^--maximize: a lower test_loss is always better$"):
        Request.of(["--maximize"])
    assert make(Request.of(["--minimize"])).name == "auxgrad_3"


def test_a_metric_that_is_not_there(undrawn, store, capsys):
    listed = "no run has it; the store has: test_accuracy, test_loss"
    make_accurate(store)
    near = r" \(did you mean accuracy\?\)"
    for name, end in (("test_f1", ""), ("f1", ""), ("test_", ""), ("acuracy", near)):
        full = "test_" + name.removeprefix("test_")
        with pytest.raises(AuxgradError, match=f"^--metric={full}: {listed}{end}$"):
            make(Request.of(["--metric", name]))
    with pytest.raises(
        AuxgradError, match=r"^--compare=figure7: has means of test_loss only, not of te"
    ):
        make(Request.of(["--metric=test_accuracy", "--compare=figure7"]))
    assert not Path("reports").exists()

    make_run(store, 0.3, "mode=SingleTask", "problem.hidden=[8]")
    folder = make(Request.of(["--metric=test_accuracy"]))
    assert (folder / "test_accuracy.png").exists()
    expected = (
        "missing   problem=reviews data=imdb25k problem.hidden=[8]: nothing to report; "
        "found 1 without a test accuracy\n"
    )
    assert expected in capsys.readouterr().out
    with pytest.raises(AuxgradError, match="no finished run with a test accuracy; found 1 without a"):
        make(Request.of(["--metric=test_accuracy", "problem.hidden=[8]"]))


def test_failures_divergence_and_missing_seeds_are_marked(store, capsys):
    for seed in range(3):
        make_run(store, 0.3 + seed / 100, "mode=SingleTask", f"seed={seed}")
        make_run(store, None, "mode=Multitask", "lam=3", f"seed={seed}", status="FAILED")
    make_run(store, float("nan"), "lam=100", "seed=0")
    make_run(store, float("inf"), "lam=100", "seed=1")
    make_run(store, 0.35, "lam=100", "seed=2")
    make_run(store, 0.36, "lam=30", "seed=1")
    folder = make(Request.of([]))
    notes = {row["mode"] + row["lam"]: row["note"] for row in rows(folder / "table.csv")}
    assert notes == {
        "SingleTask0": "",
        "Multitask3": "no finished run, 3 FAILED",
        "Projection30": "2 seeds missing, one run: no interval",
        "Projection100": "2 diverged, left out, one run: no interval",
    }
    out, text = capsys.readouterr().out, (folder / "report.md").read_text()
    for line in (
        "Multitask lam=3: FAILED, seed 0-2.",
        "Projection lam=30 alpha=0.01: no run with seed 0, 2.",
        "Projection lam=100 alpha=0.01: 2 diverged, seed 0-1; left out of the mean.",
    ):
        assert f"* {line}\n" in text
        assert f"missing   {line}\n" in out
    for name in ("report.md", "table.md", "table.csv", "significance.csv"):
        assert not re.search(r"\b(nan|inf)\b", (folder / name).read_text()), name


def test_the_runs_are_left_as_they_are(undrawn, store):
    """A run that looks dead may be running on another machine."""
    make_run(store, 0.3, "mode=SingleTask")
    other = compose(["mode=SingleTask", "seed=1"]).identity("f" * 64)
    writer = store.start_run(other, {}, Dataset("d", "0" * 64, "{}", "{}"))
    store.client.set_tag(writer.run_id, "worker.pid", "4194304")
    before = store.runs()
    text = (make(Request.of([])) / "report.md").read_text()
    assert store.runs() == before
    assert "* SingleTask: RUNNING, seed 1." in text


def test_one_seed(store, capsys):
    make_run(store, 0.3, "mode=SingleTask")
    make_run(store, 0.4, "mode=Multitask", "lam=3")
    folder = make(Request.of(["--compare", "figure7"]))
    out = capsys.readouterr().out
    assert "SingleTask       0.3000 (one run: no interval)" in out
    assert (
        "0 of 0 settings agree within 95 %. 2 cannot be compared, because there is only one run." in out
    )
    text = (folder / "report.md").read_text()
    assert "Nothing to test: a test needs two modes with two finished runs each." in text
    assert "unknown: one run" in text
    note = "figure7 was measured on data=imdb or data=aclimdb; these runs have data=imdb25k, so levels"
    assert note in out
    assert note in text
    assert "nan" not in text.lower()


def test_each_study_is_compared_with_its_own_published_means(undrawn, store, capsys):
    for task, loss in (("same", 0.41), ("similar", 0.43)):
        for seed in range(3):
            words = ["problem=synthetic", f"problem.task={task}", f"seed={seed}"]
            make_run(store, loss + seed / 100, *words, "overall=true", "lam=3")
            make_run(store, 0.44 + seed / 100, *words, "mode=SingleTask")
            make_run(store, 0.3, "mode=SingleTask", f"seed={seed}")
    folder = make(Request.of(["--compare", "figure5"]))
    compared = {
        task: {
            row["mode"]: row["published"]
            for row in rows(folder / f"problem=synthetic_problem.task={task}" / "comparison.csv")
        }
        for task in ("same", "similar")
    }
    assert compared == {
        "same": {"SingleTask": "0.44729", "Projection": "0.41022"},
        "similar": {"SingleTask": "0.44729", "Projection": "0.43209"},
    }
    out = capsys.readouterr().out
    line = (
        "overview  none; SingleTask is the only mode with a setting whose runs all converged in each of "
    )
    assert f"{line}the 3 studies; train another mode in all of them" in out
    assert out.count("compare   figure5: 2 of 2 settings agree within 95 %.") == 2
    assert "compare   figure5: It has no setting of this study." in out
    text = (folder / "problem=synthetic_problem.task=similar" / "report.md").read_text()
    assert "Only in figure5 (19): " in text
    # A CSV file of the runs has the task too.
    runs = folder / "problem=synthetic_problem.task=similar" / "runs.csv"
    again = make(Request.of([f"--runs={runs}", "--compare=figure5"]))
    assert {row["published"] for row in rows(again / "comparison.csv")} == {"0.44729", "0.43209"}


def test_modes_are_set_side_by_side_over_studies(store, capsys):
    for task, loss in (("same", 0.4), ("unrelated", 0.6)):
        for seed in range(3):
            words = ["problem=synthetic", f"problem.task={task}", f"seed={seed}"]
            make_run(store, 0.5 + seed / 100, *words, "mode=SingleTask")
            for lam in (1, 3):
                make_run(store, loss + seed / 100 + lam / 100, *words, "mode=UPGrad", f"lam={lam}")
    folder = make(Request.of([]))
    assert f"overview  {folder}/overview.md: the modes over 2 studies" in capsys.readouterr().out
    part = folder / "problem=synthetic_problem.task=same"
    upgrad, single = rows(part / "modes.csv")
    assert (upgrad["best"], upgrad["settings"], single["mode"]) == ("UPGrad lam=1", "2", "SingleTask")
    assert float(upgrad["difference"]) == pytest.approx(-0.09)
    assert "| UPGrad | lam=1 | 0.4200" in (part / "report.md").read_text()
    overview = {row["mode"]: row for row in rows(folder / "overview.csv")}
    assert float(overview["UPGrad"]["ratio"]) == pytest.approx((0.42 + 0.62) / 2 / 0.51, rel=1e-4)
    assert float(overview["UPGrad"]["improvement"]) == pytest.approx(0.5)
    assert (folder / "profiles.png").read_bytes().startswith(b"\x89PNG")


def test_data_and_networks_are_not_mixed(undrawn, store):
    make_run(store, 0.3, "mode=SingleTask")
    make_run(store, 0.9, "mode=SingleTask", "problem.hidden=[8]")
    folder = make(Request.of([]))
    assert {each.name for each in folder.iterdir()} == {
        "problem=reviews_data=imdb25k",
        "problem=reviews_data=imdb25k_problem.hidden=[8]",
    }
    for part, mean in (
        ("problem=reviews_data=imdb25k", "0.3"),
        ("problem=reviews_data=imdb25k_problem.hidden=[8]", "0.9"),
    ):
        [row] = rows(folder / part / "table.csv")
        assert row["test_loss_mean"] == mean
    only = make(Request.of(["problem.hidden=[8]", "--output", "only"]))
    assert (only / "table.csv").exists()


def test_data_with_failed_runs_only_is_named(undrawn, store, capsys):
    make_run(store, 0.3, "mode=SingleTask")
    make_run(store, None, "mode=SingleTask", "problem.hidden=[8]", status="FAILED")
    folder = make(Request.of([]))
    assert (folder / "table.csv").exists()
    expected = "missing   problem=reviews data=imdb25k problem.hidden=[8]: nothing to report; "
    assert f"{expected}found 1 FAILED\n" in capsys.readouterr().out


def test_the_title_of_a_study_can_be_a_folder(store):
    """The value of an option is never interpreted as a part of the title."""
    make_run(store, 0.3, "mode=SingleTask")
    make_run(store, 0.9, "mode=SingleTask", "problem.hidden=[8,8]", "data.num_words=60")
    folder = make(Request.of([]))
    part = folder / "problem=reviews_data=imdb25k_data.num_words=60_problem.hidden=[8,8]"
    assert (
        (part / "report.md")
        .read_text()
        .startswith("# Test loss, problem=reviews data=imdb25k data.num_words=60 problem.hidden=[8,8]\n")
    )
    [row] = rows(part / "runs.csv")
    assert row["changes"] == "data.num_words=60 problem.hidden=[8,8]"


def test_what_was_left_out_is_noted(undrawn, store, capsys):
    for seed in range(2):
        make_run(store, 0.9, "mode=SingleTask", f"seed={seed}", fingerprint="e" * 64)
        make_run(store, 0.3, "mode=SingleTask", f"seed={seed}")
    outdate(store, seed=1)
    [row] = rows(make(Request.of([])) / "table.csv")
    assert (row["runs"], row["test_loss_mean"]) == ("1", "0.3")
    out = capsys.readouterr().out
    for line in (
        "Left out: 1 finished (SingleTask), because the reported runs have other data.",
        "Left out: 2 runs of auxgrad 0.1.0, which recorded no identity; run them again.",
    ):
        assert f"missing   {line}\n" in out


def test_the_baseline_remains_whatever_lam_is_asked_for(undrawn, store, capsys):
    make_run(store, 0.3, "mode=SingleTask")
    for mode, lam in (("Multitask", 3), ("Projection", 3), ("Projection", 30), ("Orthogonal", 30)):
        make_run(store, 0.4, f"mode={mode}", f"lam={lam}")
    table = rows(make(Request.of(["lam=3"])) / "table.csv")
    assert [(row["mode"], row["lam"]) for row in table] == [
        *(("SingleTask", "0"), ("Multitask", "3"), ("Projection", "3"))
    ]
    capsys.readouterr()
    table = rows(make(Request.of(["mode=SingleTask,Projection,Orthogonal", "lam=3"])) / "table.csv")
    assert [row["mode"] for row in table] == ["SingleTask", "Projection"]
    line = "missing   mode=Orthogonal: no run has it together with lam=3.\n"
    assert line in capsys.readouterr().out
    with pytest.raises(AuxgradError, match=r"^mode=Projektion: no run has it; .*mean Projection\?\)$"):
        make(Request.of(["mode=Projektion"]))


def test_nothing_but_runs_of_auxgrad_0_1_0(store):
    make_run(store, 0.3, "mode=SingleTask")
    outdate(store, seed=0)
    with pytest.raises(AuxgradError, match=r"left out: 1 run of auxgrad 0\.1\.0, which recorded no ide"):
        make(Request.of([]))


def outdate(store, seed: int) -> None:
    """Remove the identity from the runs of a seed, as auxgrad 0.1.0 recorded none."""
    for run in store.runs():
        if run.params["seed"] == str(seed):
            store.client.delete_tag(run.run_id, IDENTITY)


def test_another_experiment(undrawn, in_tmp):
    make_run(open_store(TrackingConfig(experiment="other")), 0.3, "mode=SingleTask")
    folder = make(Request.of(["tracking.experiment=other"]))
    assert folder == Path("reports/other")
    with pytest.raises(
        AuxgradError, match=r"tracking\.experiment=auxgrad: is not in .* its experiments are Def"
    ):
        make(Request.of([]))


def test_nothing_finished(store):
    with pytest.raises(AuxgradError, match="experiment=auxgrad: has no runs in sqlite"):
        make(Request.of([]))
    make_run(store, None, "mode=SingleTask", status="KILLED")
    with pytest.raises(AuxgradError, match="no finished run with a test loss; found 1 KILLED"):
        make(Request.of([]))
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "there is no such store; a run of auxgrad.train creates it"),
        (["moed=SingleTask"], "moed=SingleTask: unknown filter; must be one of mode, lam"),
        (["SingleTask"], "SingleTask: must be key=value"),
        (["tracking.urk=3"], "tracking.urk=3: unknown key; must be one of tracking.uri"),
        (
            ["--compare", "figure8"],
            "--compare=figure8: no such file; must be a CSV file, or one of figure5, figure7",
        ),
        (
            ["--compare", "short.csv"],
            "short.csv: column alpha, lam, test_loss_mean, test_loss_std, runs is",
        ),
        (["--runs", "short.csv"], "short.csv: column alpha, lam, loss is missing; needed are mode"),
        (
            ["--runs", "short.csv", "lam=3"],
            "lam=3: selects runs of a store; cannot be combined with --runs",
        ),
        (["--output", "there"], "--output=there: already exists; must be a new folder"),
    ],
)
def test_wrong_input(tmp_path, forked, arguments, line):
    (tmp_path / "short.csv").write_text("mode,overall\nSingleTask,false\n")
    (tmp_path / "there").mkdir()
    done = forked("report", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("auxgrad: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["short.csv", "there"]


@pytest.mark.long
def test_three_thousand_runs(store):
    """All runs are used, however many there are."""
    losses = np.random.default_rng(0).uniform(0.2, 0.4, (30, 100))
    for lam in range(30):
        for seed in range(100):
            make_run(store, losses[lam, seed], "mode=Multitask", f"lam={lam + 1}", f"seed={seed}")
    table = rows(make(Request.of([])) / "table.csv")
    means = [float(row["test_loss_mean"]) for row in table]
    assert means == pytest.approx(losses.mean(axis=1), rel=1e-5)
    assert {row["runs"] for row in table} == {"100"}
    assert len(read_runs(Path("reports/auxgrad/runs.csv"))) == 3000
