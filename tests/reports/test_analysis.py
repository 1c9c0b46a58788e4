"""Tables, best settings, significance tests and missing runs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from auxgrad.config.setting import Setting
from auxgrad.reports import analysis
from auxgrad.reports.metric import Metric
from auxgrad.reports.runs import ReportedRun, RunSet, Study

STUDY = Study.named("imdb25k")


def setting(mode="Projection", lam=100.0, alpha=0.01, overall=False) -> Setting:
    return Setting.of(mode, overall, alpha, lam)


def runs(of, losses, seeds=None, val_losses=None) -> list[ReportedRun]:
    return [
        ReportedRun(
            of, seed, STUDY, value=loss, loss=loss, best_val=val_losses[i] if val_losses else None
        )
        for i, (loss, seed) in enumerate(zip(losses, seeds or range(len(losses)), strict=True))
    ]


def test_rows_are_in_the_order_of_a_paper():
    settings = [
        setting("Orthogonal", 3.0, 1.0),
        setting("Projection", 100.0, 0.01),
        setting("Projection", 30.0, 1.0),
        setting("Multitask", 30.0),
        setting("Multitask", 3.0),
        setting("SingleTask"),
    ]
    found = RunSet([run for each in settings for run in runs(each, [0.3])])
    assert [row.setting.name for row in analysis.table(found)] == [
        "SingleTask",
        "Multitask lam=3",
        "Multitask lam=30",
        "Orthogonal lam=3 alpha=1",
        "Projection lam=30 alpha=1",
        "Projection lam=100 alpha=0.01",
    ]


def test_rows_of_custom_modes():
    settings = [
        Setting("A", False, 0.5, 3.0, ("lam", "alpha")),
        Setting("B", False, 1.0, 3.0, ("lam",)),
        Setting("C", False, 1.0, 0.0, ()),
        Setting("D", False, 0.5, 0.0, ("alpha",)),
    ]
    rows = analysis.table(RunSet([run for each in settings for run in runs(each, [0.3])]))
    assert [row.setting.mode for row in rows] == ["C", "B", "A", "D"]


def test_the_best_setting_is_chosen_by_validation_loss():
    low_test, low_validation = setting(lam=30.0), setting(lam=100.0)
    both = runs(low_test, [0.30, 0.31], val_losses=[0.33, 0.34])
    both += runs(low_validation, [0.31, 0.32], val_losses=[0.32, 0.33])
    rows = analysis.table(RunSet(both))
    assert analysis.by_validation(rows)
    assert [row.setting for row in rows if row.best] == [low_validation]
    assert analysis.best_of_families(rows) == [low_validation]

    both += runs(setting(lam=3.0), [0.29])  # A run without a validation loss.
    rows = analysis.table(RunSet(both))
    assert not analysis.by_validation(rows)
    assert [row.setting.lam for row in rows if row.best] == [3.0]


def test_the_highest_value_is_best_if_the_metric_is_maximized():
    accuracy = Metric("test_accuracy", maximize=True)
    low, high = setting(lam=30.0), setting(lam=100.0)
    both = runs(low, [0.92], val_losses=[0.80]) + runs(high, [0.91], val_losses=[0.81])
    rows = analysis.table(RunSet(both), accuracy)
    assert [row.setting for row in rows if row.best] == [high]
    assert analysis.best_of_families(rows, accuracy) == [high]
    rows = analysis.table(RunSet([replace(run, best_val=None) for run in both]), accuracy)
    assert [row.setting for row in rows if row.best] == [low]


def test_a_validation_metric_that_is_nan_is_never_best():
    for maximize in (False, True):
        both = runs(setting(lam=30.0), [0.9], val_losses=[math.nan])
        both += runs(setting(lam=100.0), [0.8], val_losses=[0.8])
        rows = analysis.table(RunSet(both), Metric("test_x", maximize))
        assert [row.setting.lam for row in rows if row.best] == [100.0]


def test_missing_settings_of_a_custom_mode_have_its_knobs():
    def own(overall, lam):
        return Setting("Own", overall, 1.0, lam, ("lam", "overall"))

    found = RunSet(runs(own(False, 3.0), [0.3]) + runs(own(True, 30.0), [0.3]))
    missing = analysis.missing_settings(analysis.table(found))
    assert [each.name for each in missing] == ["Own lam=30", "Own lam=3 overall=true"]


def test_diverged_runs_are_left_out_of_means_and_never_best():
    own = runs(setting(), [0.1, math.nan, 1.797e308]) + runs(setting(lam=30.0), [0.5, 0.6])
    first, second = analysis.table(RunSet(own))
    assert (first.best, second.best) == (True, False)
    assert second.n_diverged == 2
    assert second.estimate.mean == 0.1


def test_missing_seeds_and_settings():
    full, short = runs(setting(), [0.3, 0.4, 0.5]), runs(setting("SingleTask"), [0.3], [1])
    lost = ReportedRun(setting("Multitask", 3.0), 2, STUDY, "FAILED")
    rows = analysis.table(RunSet([*full, *short, lost]))
    assert [(row.setting.mode, row.missing_seeds) for row in rows] == [
        ("SingleTask", (0, 2)),
        ("Multitask", (0, 1, 2)),
        ("Projection", ()),
    ]
    assert rows[1].estimate is None
    assert analysis.missing_settings(rows) == []
    more = analysis.table(RunSet(full + runs(setting(lam=3.0, alpha=1.0), [0.3])))
    assert [each.name for each in analysis.missing_settings(more)] == [
        "Projection lam=100 alpha=1",
        "Projection lam=3 alpha=0.01",
    ]


def test_runs_are_paired_by_common_seeds():
    single = runs(setting("SingleTask"), [0.30, 0.31, 0.32, 0.33], range(4))
    shared = runs(setting(), [0.31, 0.32, 0.33, 0.35], [1, 2, 3, 4])
    [test] = analysis.significance(analysis.table(RunSet(single + shared)))
    assert (test.paired, test.sizes) == (True, (3, 3))
    assert test.difference.mean == pytest.approx(0)  # Over seeds 1, 2 and 3.

    other = runs(setting(), [0.31, 0.32, 0.33], [3, 4, 5])
    [test] = analysis.significance(analysis.table(RunSet(single + other)))
    assert (test.paired, test.sizes) == (False, (4, 3))

    unknown = [ReportedRun(setting(), None, STUDY, value=loss, loss=loss) for loss in (0.31, 0.32)]
    [test] = analysis.significance(analysis.table(RunSet(single + unknown)))
    assert (test.paired, test.sizes) == (False, (4, 2))


def test_every_pair_of_modes_is_tested_once():
    modes = ("SingleTask", "Multitask", "Projection", "Orthogonal")
    all_of_them = [run for mode in modes for run in runs(setting(mode), [0.3, 0.32, 0.31])]
    tests = analysis.significance(analysis.table(RunSet(all_of_them)))
    assert len({frozenset((test.a.mode, test.b.mode)) for test in tests}) == len(tests) == 6
