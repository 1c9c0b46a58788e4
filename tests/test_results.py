"""Runs from the store and from CSV files."""

from __future__ import annotations

import math

import pytest

from auxgrad.errors import ReportError
from auxgrad.results import (
    COLUMNS,
    Run,
    Setting,
    check_filters,
    from_store,
    read_runs,
    select,
    write_runs,
)
from auxgrad.tracking import SETTING_KEY, Recorded


def recorded(run_id="r", status="FINISHED", version="v", config="", loss=0.3, **params) -> Recorded:
    knobs = {"mode": "Projection", "lam": "100", "alpha": "0.01", "overall": "false", "seed": "0"}
    knobs |= {"data": "imdb25k", "problem": "reviews", "config": config, **params}
    metrics = {} if loss is None else {"test_loss": loss, "best_val_loss": 0.4, "epochs": 9.0}
    return Recorded(run_id, status, knobs, metrics, {SETTING_KEY: version})


def test_each_run_once_and_the_newest_counts():
    found = from_store([recorded("new", loss=0.2), recorded("old", loss=0.9)])
    assert [run.run_id for run in found.runs] == ["new"]
    assert found.notes == ["Left out: 1 finished, of which there are newer ones."]


def test_a_failed_attempt_does_not_hide_a_finished_one():
    found = from_store([recorded("again", "FAILED", loss=None), recorded("before")])
    assert [run.run_id for run in found.runs] == ["before"]
    assert found.unfinished == []


def test_of_failed_attempts_the_latest_counts():
    found = from_store([recorded("b", "KILLED", loss=None), recorded("a", "FAILED", loss=None)])
    assert found.runs == []
    assert [(left.run_id, left.status) for left in found.unfinished] == [("b", "KILLED")]


def test_finished_without_a_test_loss_is_not_finished():
    [left] = from_store([recorded(loss=None)]).unfinished
    assert left.status == "without a test loss"


def test_runs_on_other_data_under_the_same_name_are_left_out_and_said():
    found = from_store([recorded("new", seed="1"), recorded("old", version="before")])
    assert [run.run_id for run in found.runs] == ["new"]
    assert found.notes == ["Left out: 1 finished, on other data or by another method than the newest."]


def test_runs_of_others_need_no_more_than_the_five_parameters():
    params = {"mode": "Multitask", "lam": "3", "alpha": "1", "overall": "False", "seed": "7"}
    theirs = Recorded("x", "FINISHED", params, {"test_loss": 0.5}, {})
    [run] = from_store([theirs, Recorded("y", "FINISHED", {"epochs": "3"}, {}, {})]).runs
    assert run.setting == Setting("Multitask", False, 1.0, 3.0)
    assert (run.seed, run.data, run.best_val_loss) == (7, "unknown", None)
    params["lam"] = "much"
    with pytest.raises(ReportError, match="run x: lam, alpha and seed must be numbers"):
        from_store([theirs])


def test_groups_of_data_and_changes():
    found = from_store(
        [
            recorded("a", seed="1"),
            recorded("b", seed="2"),
            recorded("c", config="Projection lam=100 alpha=0.01 problem.hidden=[8]", version="w"),
        ]
    )
    assert found.groups() == [("imdb25k", ""), ("imdb25k", "problem.hidden=[8]")]
    assert [run.run_id for run in found.of_group(found.groups()[1]).runs] == ["c"]


def test_filters():
    own = [
        recorded("a"),
        recorded("b", lam="30", config="Projection lam=30 problem.batch_size=64"),
        recorded("c", mode="SingleTask", lam="0"),
    ]

    def chosen(**filters):
        return [
            run.run_id for run in select(own, {key.replace("__", "."): v for key, v in filters.items()})
        ]

    assert chosen() == ["a", "b", "c"]
    assert chosen(mode=["Projection"]) == ["a", "b"]
    assert chosen(lam=["0", "100"]) == ["a", "c"]
    assert chosen(problem__batch_size=["512"]) == ["a", "c"]
    assert chosen(problem__batch_size=["64"], mode=["Projection"]) == ["b"]
    assert chosen(problem=["reviews"], data=["imdb25k"]) == ["a", "b", "c"]
    for filters, line in (
        (
            {"mode": ["Projektion"]},
            "mode=Projektion: no run has it; in the store are: Projection, Single",
        ),
        ({"lam": ["3"]}, "lam=3: no run has it; in the store are: 0, 30, 100"),
        ({"mode": ["SingleTask"], "lam": ["30"]}, "mode=SingleTask lam=30: no run has all of these"),
    ):
        with pytest.raises(ReportError) as caught:
            select(own, filters)
        assert str(caught.value).startswith(line)


def test_unknown_filters():
    check_filters({"problem.hidden": ["[8]"], "seed": ["1"]})
    with pytest.raises(ReportError, match=r"lamm=3: unknown filter; must be one of mode, .*mean lam\?"):
        check_filters({"lamm": ["3"]})


def test_a_file_is_read_back_as_it_was(tmp_path):
    own = [
        Run(Setting("SingleTask", False, 1.0, 0.0), 0.1 + 0.2, 3, "aclimdb", "", 7.0, 1.5, "id", 0.25),
        Run(Setting("Orthogonal", True, 0.01, 42.5), math.inf, None, "x", "problem.hidden=[8,8]"),
    ]
    write_runs(tmp_path / "runs.csv", own)
    header = (tmp_path / "runs.csv").read_text().splitlines()[0]
    assert header.startswith("run,mode,overall,alpha,lam,loss,seed,data,epochs,seconds,run_id")
    assert header == ",".join(COLUMNS)
    assert read_runs(tmp_path / "runs.csv") == own


def test_a_file_from_elsewhere(tmp_path):
    (tmp_path / "runs.csv").write_text("run,mode,overall,alpha,lam,loss\n0,Multitask,True,0.01,3,0.5\n")
    [run] = read_runs(tmp_path / "runs.csv")
    assert run.setting == Setting("Multitask", False, 1.0, 3.0)  # What the mode uses.
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
        ("mode,overall,alpha,lam,loss\nOthers,false,1,1,0.5\n", "line 2: mode=Others must be one of"),
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
