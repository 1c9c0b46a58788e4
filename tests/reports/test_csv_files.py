"""CSV files of runs and of published results are written, read and checked."""

from __future__ import annotations

import math

import pytest

from auxgrad.config.setting import Setting
from auxgrad.errors import ReportError
from auxgrad.reports.csv_files import columns, read_runs, write_runs
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.published import read_published
from auxgrad.reports.runs import ReportedRun, Study

ANY = Study.named()


def test_a_file_is_read_back_as_it_was(tmp_path):
    own = [
        ReportedRun(
            setting=Setting("SingleTask", False, 1.0, 0.0),
            seed=3,
            study=Study.named("reviews", "aclimdb"),
            value=0.1 + 0.2,
            loss=0.1 + 0.2,
            epochs=7.0,
            seconds=1.5,
            run_id="id",
            best_val=0.25,
        ),
        ReportedRun(
            setting=Setting("Orthogonal", True, 0.01, 42.5),
            seed=None,
            study=Study.named("p", "x", "problem.hidden=[8,8]"),
            value=math.inf,
            loss=math.inf,
        ),
    ]
    write_runs(tmp_path / "runs.csv", own)
    header = (tmp_path / "runs.csv").read_text().splitlines()[0]
    assert header.startswith("run,mode,overall,alpha,lam,loss,seed,data,epochs,seconds,run_id")
    assert header == ",".join(columns(LOSS))
    assert read_runs(tmp_path / "runs.csv") == own


def test_the_columns_of_another_metric(tmp_path):
    accuracy, setting = Metric("test_accuracy"), Setting("SingleTask", False, 1.0, 0.0)
    own = ReportedRun(setting, 0, Study.named("x"), value=0.9, loss=0.3, best_val=0.8)
    file = tmp_path / "runs.csv"
    write_runs(file, [own], accuracy)
    header = file.read_text().splitlines()[0]
    assert header == (
        "run,mode,overall,alpha,lam,accuracy,seed,data,epochs,seconds,run_id,best_val_accuracy,changes,problem,loss"
    )
    assert read_runs(file, accuracy) == [own]
    [of_loss] = read_runs(file)
    assert (of_loss.value, of_loss.loss, of_loss.best_val) == (0.3, 0.3, None)
    with pytest.raises(ReportError, match=r"column f1 is missing; needed are mode, .*lam, f1; the file"):
        read_runs(file, Metric("test_f1"))
    # A metric with the name of another column has a column with the full name.
    assert columns(Metric("test_seconds"))[5] == "test_seconds"


def test_published_means_of_another_metric(tmp_path):
    file, accuracy = tmp_path / "table.csv", Metric("test_accuracy")
    file.write_text(
        "mode,overall,alpha,lam,test_accuracy_mean,test_accuracy_std,runs\nSingleTask,false,1,0,0.9,0.1,9\n"
    )
    [estimate] = read_published(str(file), accuracy).of(ANY).values()
    assert (estimate.mean, estimate.std, estimate.n) == (0.9, 0.1, 9)
    with pytest.raises(ReportError, match="column test_loss_mean, test_loss_std is missing"):
        read_published(str(file))


def test_a_file_of_another_program(tmp_path):
    (tmp_path / "runs.csv").write_text("run,mode,overall,alpha,lam,loss\n0,Multitask,True,0.01,3,0.5\n")
    [run] = read_runs(tmp_path / "runs.csv")
    assert run.setting == Setting(
        "Multitask", False, 1.0, 3.0
    )  # Knobs that the mode does not use are neutral.
    assert run.seed is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "",
            "column mode, overall, alpha, lam, loss is missing; needed are mode, overall, alpha, lam, ",
        ),
        ("mode,overall,alpha,lam\n", "column loss is missing"),
        ("mode,overall,alpha,lam,loss\n", "has a header, but no rows"),
        ("mode,overall,alpha,lam,loss\n,false,1,1,0.5\n", "line 2: mode= must be the name of a mode"),
        ("mode,overall,alpha,lam,loss\nMultitask,no,1,1,0.5\n", "line 2: overall=no must be true or"),
        (
            "mode,overall,alpha,lam,loss\nMultitask,false,0,1,0.5\n",
            "line 2: alpha=0 must be a number in",
        ),
        ("mode,overall,alpha,lam,loss\nMultitask,false,1,-1,0.5\n", "line 2: lam=-1 must be a finite"),
        ("mode,overall,alpha,lam,loss\nMultitask,false,1,nan,0.5\n", "line 2: lam=nan must be a finite"),
        ("mode,overall,alpha,lam,loss\nMultitask,false,1,1,low\n", "line 2: loss=low must be a number"),
        (
            "mode,overall,alpha,lam,loss,seed\nMultitask,false,1,1,1,a\n",
            "line 2: seed=a must be empty or",
        ),
        (
            "mode,overall,alpha,lam,loss,seed\nMultitask,false,1,1,1,0\nMultitask,false,1,1,1,0\n",
            "line 3: seed=0 of Multitask lam=1 is in line 2 already",
        ),
    ],
)
def test_wrong_files(tmp_path, text, line):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(ReportError) as caught:
        read_runs(tmp_path / "runs.csv")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe")
    for file in (tmp_path / "none.csv", tmp_path, tmp_path / "picture.csv"):
        with pytest.raises(ReportError, match="cannot be read"):
            read_runs(file)


def test_runs_to_compare_with_are_of_one_study_and_have_converged(tmp_path):
    file = tmp_path / "runs.csv"
    lines = [
        "mode,overall,alpha,lam,loss,data",
        "SingleTask,false,1,0,0.3,a",
        "SingleTask,false,1,0,inf,a",
    ]
    file.write_text("\n".join(lines) + "\n")
    [estimate] = read_published(str(file)).of(ANY).values()
    assert (estimate.mean, estimate.n) == (0.3, 1)
    file.write_text("\n".join([*lines, "SingleTask,false,1,0,0.9,b"]) + "\n")
    with pytest.raises(ReportError, match="has runs of data=a, data=b; must be of one study"):
        read_published(str(file))


def test_figure7_comes_with_the_package():
    published = read_published("figure7").of(ANY)
    assert len(published) == 19
    best = published[Setting("Projection", False, 0.01, 100.0)]
    assert (best.mean, best.std, best.n) == (0.29743, 0.00631, 50)


def test_figure5_has_means_of_three_tasks():
    published = read_published("figure5")
    assert len(published.means) == 61
    tasks = [f"problem.task={task}" for task in ("same", "similar", "unrelated")]
    of_task = [published.of(Study.named("synthetic", "", task)) for task in tasks]
    assert [len(means) for means in of_task] == [21, 21, 21]
    projection, single = Setting("Projection", True, 0.01, 3.0), Setting("SingleTask", False, 1.0, 0.0)
    assert [means[projection].mean for means in of_task] == [0.41022, 0.43209, 0.49987]
    # SingleTask ignores the task, so that its result is the same for all three.
    assert [means[single].mean for means in of_task] == [0.44729] * 3
    assert not published.of(Study.named("reviews", "imdb25k"))


def test_means_of_some_studies_only(tmp_path):
    file = tmp_path / "published.csv"
    header = "problem.width,problem,mode,overall,alpha,lam,test_loss_mean,test_loss_std,runs"
    rows = ["8,p,SingleTask,false,1,0,0.3,0.1,9", ",p,SingleTask,false,1,0,0.4,0.1,9"]

    def mean(*study):
        return [estimate.mean for estimate in read_published(str(file)).of(Study.named(*study)).values()]

    for order in (rows, rows[::-1]):
        file.write_text("\n".join([header, *order]) + "\n")
        assert mean("p", "d", "data.n=1 problem.width=8") == [0.3]
        assert mean("p", "d", "problem.width=16") == mean("p", "d") == [0.4]
        assert mean("q", "d", "problem.width=8") == []
        assert mean() == [0.4]  # The problem of the runs is not known.
    file.write_text("\n".join([header, *rows, rows[0].replace("8,", "8.0,")]) + "\n")
    with pytest.raises(ReportError, match=r"line 4: lam=0 of SingleTask is there twice"):
        read_published(str(file))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("mode,alpha,lam\n", "column overall, test_loss_mean, test_loss_std, runs is missing"),
        (
            "mode,overall,alpha,lam,test_loss_mean,test_loss_std,runs\nSingleTask,false,1,0,0.3,,9\n",
            "line 2: test_loss_std= must be a number",
        ),
        (
            "mode,overall,alpha,lam,test_loss_mean,test_loss_std,runs\nSingleTask,false,1,0,0.3,0.1,0\n",
            "line 2: runs=0 must be a whole number >= 1",
        ),
        (
            "mode,overall,alpha,lam,test_loss_mean,test_loss_std,runs\n"
            "SingleTask,false,1,0,0.3,0.1,9\nSingleTask,false,0.01,3,0.3,0.1,9\n",
            "line 3: lam=3 of SingleTask is there twice",
        ),
    ],
)
def test_wrong_published_files(tmp_path, text, line):
    file = tmp_path / "published.csv"
    file.write_text(text)
    with pytest.raises(ReportError) as caught:
        read_published(str(file))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
