"""Selection of the runs of a report from a store."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from auxgrad.config.identity import Identity, Names
from auxgrad.config.setting import Setting, mode_uses
from auxgrad.config.values import format_value
from auxgrad.errors import ReportError
from auxgrad.record.stored import IDENTITY, METRICS, RUN_KEY, StoredRun
from auxgrad.reports.metric import Metric
from auxgrad.reports.runs import ReportedRun, Study
from auxgrad.reports.runs.filters import check_filters
from auxgrad.reports.runs.selection import from_store

PROBLEM = {
    "hidden": [512, 512],
    "learning_rate": 0.001,
    "batch_size": 512,
    "epochs": 200,
    "patience": 5,
    "tf32": False,
}
DATA = {"num_words": 10000}


def run(
    run_id="r",
    status="FINISHED",
    loss=0.3,
    problem=(),
    data=(),
    fingerprint="f" * 64,
    names=Names("reviews", "imdb25k"),  # noqa: B008
    method=2,
    version="",
    source="",
    **knobs,
) -> StoredRun:
    knobs = {"mode": "Projection", "lam": 100.0, "alpha": 0.01, "overall": False, "seed": 0, **knobs}
    uses = tuple(mode_uses(knobs["mode"]))
    rule = {"target": "auxgrad.censoring.projection", "version": version}
    changed = {"data": dict(data), "problem": dict(problem)}
    identity = Identity(
        **knobs,
        rule=rule,
        uses=uses,
        problem={"target": "p.P", "version": source, "options": {**PROBLEM, **changed["problem"]}},
        data={"target": "p.D", "options": {**DATA, **changed["data"]}, "fingerprint": fingerprint},
        names=names,
        changes=tuple(
            f"{group}.{key}={format_value(value)}"
            for group, options in changed.items()
            for key, value in options.items()
        ),
        method=method,
    )
    metrics = {} if loss is None else {"test_loss": loss, "best_val_loss": 0.4, "epochs": 9.0}
    tags = {IDENTITY: identity.to_json(), RUN_KEY: identity.key}
    return StoredRun(run_id, status, identity.params, metrics, tags)


def another_programs(run_id="x", loss=0.5, **params) -> StoredRun:
    knobs = {"mode": "Multitask", "lam": "3", "alpha": "1", "overall": "False", "seed": "7"}
    return StoredRun(run_id, "FINISHED", {**knobs, **params}, {"test_loss": loss}, {})


def run_ids(stored, **filters) -> list[str]:
    found = from_store(stored, {key.replace("__", "."): values for key, values in filters.items()})
    return sorted(each.run_id for each in found.finished)


def test_what_a_report_knows_of_a_run():
    [found] = from_store([run(problem={"hidden": [8]})], {}).runs
    assert found.setting == Setting("Projection", False, 0.01, 100.0)
    assert (found.seed, found.status, found.loss, found.run_id) == (0, "FINISHED", 0.3, "r")
    assert (found.best_val, found.epochs, found.seconds) == (0.4, 9.0, None)
    assert (found.study.problem, found.study.data) == ("reviews", "imdb25k")
    assert found.study.changes == "problem.hidden=[8]"
    assert found.study.title == "problem=reviews data=imdb25k problem.hidden=[8]"
    assert found.is_finished
    assert not found.has_diverged


def test_another_metric():
    plain, other = run("plain", seed=1), run("other")
    metrics = {**other.metrics, "test_accuracy": 0.9, "best_val_accuracy": 0.8}
    about = json.dumps({"loss": {"label": "bits"}, "accuracy": {"maximize": True}})
    other = replace(other, metrics=metrics, tags={**other.tags, METRICS: about})
    found = from_store([plain, other], {}, Metric("test_accuracy"))
    [one], [left] = found.finished, found.unfinished
    assert (one.value, one.loss, one.best_val) == (0.9, 0.3, 0.8)
    assert (one.maximize, one.loss_label) == (True, "bits")
    assert left.status == "without a test accuracy"
    for text in ("{", "[]", '{"accuracy": 1, "loss": []}', '{"accuracy": {"maximize": 1}}'):
        changed = replace(other, tags={**other.tags, METRICS: text})
        [one] = from_store([changed], {}, Metric("test_accuracy")).runs
        assert (one.maximize, one.loss_label) == (None, "")


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1.797e308])
def test_a_loss_that_is_no_finite_number_diverged(loss):
    def diverged(value, loss):
        setting = Setting("SingleTask", False, 1.0, 0.0)
        return ReportedRun(setting, 0, Study.named("x"), value=value, loss=loss).has_diverged

    assert diverged(loss, loss)
    # A report on another metric has the same runs.
    assert diverged(0.9, loss)
    assert diverged(loss, 0.3)
    assert not diverged(0.9, 0.3)
    assert not diverged(0.9, None)


def test_each_run_once_and_the_newest_counts():
    found = from_store([run("new", loss=0.2), run("old", loss=0.9)], {})
    assert [each.run_id for each in found.runs] == ["new"]
    assert found.notes == [
        "Left out: 1 finished (Projection lam=100 alpha=0.01), "
        "because there are newer attempts at the same runs."
    ]


def test_a_failed_attempt_does_not_hide_a_finished_one():
    found = from_store([run("again", "FAILED", loss=None), run("before")], {})
    assert [each.run_id for each in found.finished] == ["before"]
    assert found.unfinished == []


def test_the_latest_of_failed_attempts_counts():
    found = from_store([run("b", "KILLED", loss=None), run("a", "FAILED", loss=None)], {})
    assert found.finished == []
    assert [(left.run_id, left.status) for left in found.unfinished] == [("b", "KILLED")]


def test_finished_without_a_test_loss_is_not_finished():
    [left] = from_store([run(loss=None)], {}).unfinished
    assert left.status == "without a test loss"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"fingerprint": "e" * 64}, "other data"),
        ({"method": 1}, "another version of auxgrad's method"),
        ({"source": "e" * 64}, "other source code of the problem"),
        (
            {"source": "e" * 64, "fingerprint": "e" * 64},
            "other source code of the problem and other data",
        ),
    ],
)
def test_runs_on_other_data_or_by_another_method_are_left_out_and_noted(before, now):
    stored = [run("new", seed=1), run("old", **before), run("other setting", lam=3.0, **before)]
    stored.append(run("failed", "FAILED", loss=None, lam=3.0, seed=1, **before))
    found = from_store(stored, {})
    assert [each.run_id for each in found.runs] == ["new"]
    names = "Projection lam=3 alpha=0.01, Projection lam=100 alpha=0.01"
    assert found.notes == [
        f"Left out: 2 finished, 1 FAILED ({names}), because the reported runs have {now}."
    ]
    other = run("x", names=Names("digits"), problem={"hidden": [8]})
    [note] = from_store([other, *stored], {}).notes
    assert note.startswith("Left out of problem=reviews data=imdb25k: 2 finished, 1 FAILED (Proj")


def test_a_note_on_many_settings_is_short():
    def of(*modes, lams, **more):
        return [run(mode=mode, lam=float(lam), **more) for mode in modes for lam in lams]

    modes = ("Mine", "Multitask", "Orthogonal", "PCGrad", "Projection")
    stored = of("Projection", lams=[3]) + of(*modes, lams=range(1, 4), method=1)
    [note] = from_store(stored, {}).notes
    assert note == (
        "Left out: 15 finished (Multitask in 3 settings, Mine in 3 settings, Orthogonal in 3 settings, "
        "PCGrad in 3 settings, 1 more mode), because the reported runs have another version of "
        "auxgrad's method."
    )


def test_runs_of_auxgrad_0_1_0_are_left_out_and_noted():
    params = {"mode": "SingleTask", "lam": "0", "alpha": "1", "overall": "false", "seed": "0"}
    old = [
        StoredRun(name, "FINISHED", params, {"test_loss": 0.1}, {RUN_KEY: "key", "setting_key": "key"})
        for name in ("a", "b")
    ]
    found = from_store([run(), *old], {})
    assert [each.run_id for each in found.runs] == ["r"]
    assert found.notes == [
        "Left out: 2 runs of auxgrad 0.1.0, which recorded no identity; run them again."
    ]
    assert "Left out: 1 run of auxgrad 0.1.0" in from_store(old[:1], {}).notes[0]
    assert from_store(old, {"lam": ["0"]}).notes == found.notes
    # Their values are not offered for filters either.
    with pytest.raises(ReportError, match=r"no run has it; the store has: Projection$"):
        from_store([run(), *old], {"mode": ["SingleTask"]})


def test_runs_of_other_programs_need_no_more_than_the_five_parameters():
    nothing = StoredRun("y", "FINISHED", {"epochs": "3"}, {}, {})
    [found] = from_store([another_programs(), nothing], {}).runs
    assert found.setting == Setting("Multitask", False, 1.0, 3.0)
    assert (found.seed, found.study.data, found.best_val) == (7, "", None)
    assert found.study.title == "unknown"
    with pytest.raises(ReportError, match="run x: lam, alpha and seed must be numbers"):
        from_store([another_programs(lam="much")], {})


def test_runs_of_other_programs_join_the_study_that_they_name_but_are_not_averaged():
    theirs = another_programs(mode="Multitask", problem="reviews", data="imdb25k")
    found = from_store([run(), theirs], {})
    assert [each.run_id for each in found.runs] == ["x", "r"]
    assert len(found.studies()) == 1
    ours = run("ours", mode="Multitask", lam=3.0, alpha=1.0, seed=8)
    found = from_store([ours, theirs], {})
    assert [each.run_id for each in found.runs] == ["ours"]
    assert found.notes == [
        "Left out: 1 finished (Multitask lam=3), because the reported runs of the setting were made by "
        "another program."
    ]


def test_studies_with_the_same_data_and_other_options_are_separate():
    stored = [run("a", seed=1), run("b", seed=2), run("c", problem={"hidden": [8]})]
    found = from_store(stored, {})
    assert [study.title for study in found.studies()] == [
        "problem=reviews data=imdb25k",
        "problem=reviews data=imdb25k problem.hidden=[8]",
    ]
    parts = [[each.run_id for each in found.of_study(study).runs] for study in found.studies()]
    assert parts == [["a", "b"], ["c"]]
    assert found.notes == []


def test_two_rules_of_one_name_are_never_averaged():
    old = [run("old", mode="Mine", version="a" * 64, seed=seed) for seed in (0, 1)]
    new = [run("new", mode="Mine", version="b" * 64, seed=0), run("other", version="", seed=1)]
    failed = run("failed", "FAILED", loss=None, mode="Mine", version="a" * 64, seed=2)
    found = from_store([*new, failed, *old], {})
    assert sorted(each.run_id for each in found.runs) == ["new", "other"]
    assert found.notes == [
        "Left out: 2 finished, 1 FAILED (Mine lam=100 alpha=0.01), because the reported runs have "
        "another version of the mode's rule."
    ]
    # A run of another study does not decide which rule is reported.
    newest = run("newest", "FAILED", loss=None, mode="Mine", version="b" * 64)
    found = from_store([newest, run("one"), run("old", mode="Mine", version="a" * 64, method=1)], {})
    assert [each.run_id for each in found.runs] == ["newest", "one"]


def test_names_are_never_parsed():
    """Values of options may contain spaces, dots and =."""
    odd = {"note": "a.b=c problem.hidden=[8]"}
    names = Names("reviews", "my data=x y")
    stored = [run("odd", data=odd, seed=1, names=names), run("plain", names=names)]
    found = from_store(stored, {})
    by_title = {each.study.title: each for each in found.runs}
    assert len(by_title) == len(found.studies()) == 2
    of_odd = next(each for each in found.runs if each.run_id == "odd")
    assert of_odd.study.data == "my data=x y"
    assert "data.note=a.b=c problem.hidden=[8]" in of_odd.study.changes
    assert run_ids(stored, problem__hidden=["[512,512]"]) == ["odd", "plain"]
    assert run_ids(stored, data=["my data=x y"], seed=["0"]) == ["plain"]


def test_filters():
    own = [
        run("a"),
        run("b", lam=30.0, problem={"batch_size": 64}),
        run("c", mode="SingleTask", lam=0.0, alpha=1.0),
        run("d", mode="Multitask", lam=30.0, alpha=1.0),
    ]
    assert run_ids(own) == ["a", "b", "c", "d"]
    assert run_ids(own, mode=["Projection"]) == ["a", "b"]
    assert run_ids(own, problem__batch_size=["512"]) == ["a", "c", "d"]
    assert run_ids(own, problem__batch_size=["64"], mode=["Projection"]) == ["b"]
    assert run_ids(own, problem=["reviews"], data=["imdb25k"], overall=["false"]) == ["a", "b", "c", "d"]
    # A filter on a knob does not apply to modes that do not use it.
    assert run_ids(own, lam=["100"]) == run_ids(own, lam=["0", "100"]) == ["a", "c"]
    assert run_ids(own, lam=["0"]) == ["c"]
    assert run_ids(own, alpha=["0.01"]) == ["a", "b", "c", "d"]
    assert run_ids(own, alpha=["0.01"], mode=["Multitask", "SingleTask"], lam=["30"]) == ["c", "d"]
    assert run_ids([*own, another_programs("x", lam="3")], overall=["false"], lam=["3"]) == ["c", "x"]
    for filters, line in (
        (
            {"mode": ["Projektion"]},
            "mode=Projektion: no run has it; the store has: Multitask, Projection, SingleTask "
            "(did you mean Projection?)",
        ),
        ({"lam": ["3"]}, "lam=3: no run has it; the store has: 0, 30, 100"),
        # The stored alpha=1 of Multitask is not a choice.
        ({"alpha": ["1"]}, "alpha=1: no run has it; the store has: 0.01"),
        (
            {"mode": ["Projection"], "seed": ["0"], "lam": ["0"]},
            "mode=Projection seed=0 lam=0: no run matches all of these",
        ),
    ):
        with pytest.raises(ReportError) as caught:
            from_store(own, filters)
        assert str(caught.value) == line
    with pytest.raises(ReportError, match=r"^alpha=1: no run has it; no mode in the store uses alpha$"):
        from_store(own[2:], {"alpha": ["1"]})


def test_values_that_no_run_has_together_with_the_other_filters_are_noted():
    own = [run("a"), run("b", lam=30.0), run("c", mode="SingleTask", lam=0.0), run("d", mode="Mine")]
    found = from_store(own, {"mode": ["SingleTask", "Mine", "Projection"], "lam": ["30"]})
    assert sorted(each.run_id for each in found.runs) == ["b", "c"]
    assert found.notes == ["mode=Mine: no run has it together with lam=30."]
    found = from_store(own, {"mode": ["SingleTask"], "lam": ["30", "100"]})
    assert [each.run_id for each in found.runs] == ["c"]
    assert found.notes == ["lam=30,100: no run has them together with mode=SingleTask."]


def test_filters_on_runs_of_other_programs():
    stored = [run("ours"), another_programs(lam="3.0", data="imdb25k")]
    assert run_ids(stored, lam=["3"]) == ["x"]
    assert run_ids(stored, data=["imdb25k"]) == ["ours", "x"]
    assert run_ids(stored, problem__hidden=["unknown"]) == ["x"]


def test_problems_are_separate():
    digits = {"names": Names("digits"), "problem": {"hidden": [64]}}
    found = from_store([run("a"), run("b", seed=1), run("c", **digits)], {})
    assert [study.title for study in found.studies()] == [
        "problem=reviews data=imdb25k",
        "problem=digits problem.hidden=[64]",
    ]
    assert run_ids([run("a"), run("c", **digits)], problem=["digits"]) == ["c"]


def test_unknown_filters():
    check_filters({"problem.hidden": ["[8]"], "seed": ["1"]})
    with pytest.raises(
        ReportError, match=r"problem.hiden=\[8\]: no run has this option; .*mean problem.hid"
    ):
        from_store([run()], {"problem.hiden": ["[8]"]})
    with pytest.raises(ReportError, match=r"lamm=3: unknown filter; must be one of mode, .*mean lam\?"):
        check_filters({"lamm": ["3"]})


def test_runs_are_in_the_order_of_settings_and_seeds():
    stored = [run("c", lam=3.0, seed=1), run("b", seed=0), run("a", lam=3.0, seed=0)]
    assert [each.run_id for each in from_store(stored, {}).runs] == ["a", "c", "b"]
