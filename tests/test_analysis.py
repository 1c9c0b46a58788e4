"""Estimates, differences, tests: against SciPy, by hand and by properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from auxgrad import analysis
from auxgrad.analysis import Difference, Estimate, MeanCurve, holm
from auxgrad.errors import ReportError
from auxgrad.results import Results, Run, Setting, Unfinished

GROUP = ("imdb25k", "")


def setting(mode="Projection", lam=100.0, alpha=0.01, overall=False) -> Setting:
    return Setting.of(mode, overall, alpha, lam)


def runs(of, losses, seeds=None, val_losses=None) -> list[Run]:
    return [
        Run(
            of,
            loss,
            seed,
            *GROUP,
            best_val_loss=None if val_losses is None else val_losses[i],
        )
        for i, (loss, seed) in enumerate(zip(losses, seeds or range(len(losses)), strict=True))
    ]


def samples(seed, n=8, m=12):
    chance = np.random.default_rng(seed)
    return chance.normal(0.3, 0.02, n), chance.normal(0.31, 0.01, m)


@pytest.mark.parametrize("seed", range(5))
def test_estimate_and_differences_are_scipys(seed):
    x, y = samples(seed)
    estimate = Estimate.of(x)
    assert estimate.std == pytest.approx(np.std(x, ddof=1))
    expected = scipy.stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))

    welch = Difference.unpaired(Estimate.of(x), Estimate.of(y))
    expected = scipy.stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert (welch.low, welch.high) == pytest.approx((expected.low, expected.high))
    assert welch.mean == pytest.approx(np.mean(x) - np.mean(y))
    assert welch.agrees == (expected.low <= 0 <= expected.high)

    paired = Difference.paired(x, y[: len(x)])
    expected = scipy.stats.ttest_rel(x, y[: len(x)]).confidence_interval(0.95)
    assert (paired.low, paired.high) == pytest.approx((expected.low, expected.high))


def test_one_value_has_no_interval():
    one = Estimate.of([0.3])
    assert one.mean == 0.3
    assert all(math.isnan(value) for value in (one.std, one.low, one.high))
    assert Difference.unpaired(one, Estimate.of([0.3, 0.4])).agrees is None
    same = Estimate.of([0.3, 0.3])
    assert Difference.unpaired(same, same).agrees is True


def test_paired_permutations_are_all_changes_of_sign():
    x, y = samples(3, 6, 6)
    means = [np.mean((x - y) * signs) for signs in itertools.product((1, -1), repeat=6)]
    observed = abs(np.mean(x - y))
    expected = np.mean([abs(mean) >= observed - 1e-12 for mean in means])
    assert analysis._p_value(list(x), list(y), paired=True) == pytest.approx(expected)
    far = analysis._p_value(list(x + 9), list(y), paired=True)
    assert far == 2 / 2**6  # No order of six pairs is more extreme.


def test_unpaired_permutations_are_all_divisions():
    x, y = samples(4, 4, 5)
    pool, total = np.concatenate([x, y]), 0
    observed = np.mean(x) - np.mean(y)
    lower = upper = 0
    for chosen in itertools.combinations(range(9), 4):
        rest = [i for i in range(9) if i not in chosen]
        difference = np.mean(pool[list(chosen)]) - np.mean(pool[rest])
        lower += difference <= observed + 1e-12
        upper += difference >= observed - 1e-12
        total += 1
    expected = min(1, 2 * min(lower, upper) / total)
    assert analysis._p_value(list(x), list(y), paired=False) == pytest.approx(expected)


def test_many_seeds_are_sampled_the_same_each_time():
    x, y = samples(5, 30, 30)
    first, second = (analysis._p_value(list(x), list(y), paired=True) for _ in range(2))
    assert first == second
    assert first == pytest.approx(scipy.stats.ttest_rel(x, y).pvalue, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_holm(seed):
    p_values = list(np.random.default_rng(seed).uniform(0, 0.2, 6))
    corrected = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    assert min(corrected) == pytest.approx(min(1, 6 * min(p_values)))
    order = np.argsort(p_values)
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)
    # Step down: the k-th smallest is rejected at 0.05 if all smaller ones are and p <= 0.05 / (6 - k).
    rejected = 0
    while rejected < 6 and p_values[order[rejected]] <= 0.05 / (6 - rejected):
        rejected += 1
    assert sum(q <= 0.05 for q in corrected) == rejected


def test_rows_are_in_the_order_of_a_paper():
    settings = [
        setting("Orthogonal", 3.0, 1.0),
        setting("Projection", 100.0, 0.01),
        setting("Projection", 30.0, 1.0),
        setting("Multitask", 30.0),
        setting("Multitask", 3.0),
        setting("SingleTask"),
    ]
    found = Results([run for each in settings for run in runs(each, [0.3])])
    assert [row.setting.name for row in analysis.table(found)] == [
        "SingleTask",
        "Multitask lam=3",
        "Multitask lam=30",
        "Orthogonal lam=3 alpha=1",
        "Projection lam=30 alpha=1",
        "Projection lam=100 alpha=0.01",
    ]


def test_the_best_setting_is_chosen_by_validation_loss():
    low_test, low_validation = setting(lam=30.0), setting(lam=100.0)
    both = runs(low_test, [0.30, 0.31], val_losses=[0.33, 0.34])
    both += runs(low_validation, [0.31, 0.32], val_losses=[0.32, 0.33])
    rows = analysis.table(Results(both))
    assert analysis.selection(rows) == "best_val_loss"
    assert [row.setting for row in rows if row.best] == [low_validation]
    assert analysis.best_of_families(rows) == [low_validation]

    both += runs(setting(lam=3.0), [0.29])  # From elsewhere, without a validation loss.
    rows = analysis.table(Results(both))
    assert analysis.selection(rows) == "test_loss"
    assert [row.setting.lam for row in rows if row.best] == [3.0]


def test_what_diverged_is_no_part_of_a_mean_and_never_best():
    own = runs(setting(), [0.1, math.nan, 1.797e308]) + runs(setting(lam=30.0), [0.5, 0.6])
    first, second = analysis.table(Results(own))
    assert (first.best, second.best) == (True, False)
    assert second.diverged == 2
    assert second.estimate.mean == 0.1


def test_missing_seeds_and_holes():
    full, short = runs(setting(), [0.3, 0.4, 0.5]), runs(setting("SingleTask"), [0.3], [1])
    lost = Unfinished(setting("Multitask", 3.0), 2, GROUP, "FAILED", "")
    rows = analysis.table(Results(full + short, [lost]))
    assert [(row.setting.mode, row.missing_seeds) for row in rows] == [
        ("SingleTask", (0, 2)),
        ("Multitask", (0, 1, 2)),
        ("Projection", ()),
    ]
    assert rows[1].estimate is None
    assert analysis.holes(rows) == []
    more = analysis.table(Results(full + runs(setting(lam=3.0, alpha=1.0), [0.3])))
    assert [hole.name for hole in analysis.holes(more)] == [
        "Projection lam=100 alpha=1",
        "Projection lam=3 alpha=0.01",
    ]


def test_pairs_where_seeds_are_common_and_says_so():
    single = runs(setting("SingleTask"), [0.30, 0.31, 0.32, 0.33], range(4))
    shared = runs(setting(), [0.31, 0.32, 0.33, 0.35], [1, 2, 3, 4])
    [test] = analysis.significance(analysis.table(Results(single + shared)))
    assert (test.paired, test.sizes) == (True, (3, 3))
    assert test.difference.mean == pytest.approx(0)  # Over seeds 1, 2 and 3.

    other = runs(setting(), [0.31, 0.32, 0.33], [3, 4, 5])
    [test] = analysis.significance(analysis.table(Results(single + other)))
    assert (test.paired, test.sizes) == (False, (4, 3))

    unknown = [Run(setting(), loss, None, *GROUP) for loss in (0.31, 0.32)]
    [test] = analysis.significance(analysis.table(Results(single + unknown)))
    assert (test.paired, test.sizes) == (False, (4, 2))


def test_every_pair_of_modes_is_tested_once():
    modes = ("SingleTask", "Multitask", "Projection", "Orthogonal")
    all_of_them = [run for mode in modes for run in runs(setting(mode), [0.3, 0.32, 0.31])]
    tests = analysis.significance(analysis.table(Results(all_of_them)))
    assert len({frozenset((test.a.mode, test.b.mode)) for test in tests}) == len(tests) == 6


def test_mean_curve_goes_as_far_as_every_curve():
    curve = MeanCurve.of([{1: 1.0, 2: 2.0, 3: 9.0}, {1: 3.0, 2: 2.0}])
    assert curve.steps.tolist() == [1, 2]
    assert curve.mean.tolist() == [2.0, 2.0]
    expected = Estimate.of([1.0, 3.0])
    assert (curve.low[0], curve.high[0]) == pytest.approx((expected.low, expected.high))
    assert np.isnan(MeanCurve.of([{1: 1.0}]).low).all()


def test_figure7_comes_with_the_package():
    published = analysis.read_published("figure7")
    assert len(published) == 19
    best = published[setting("Projection", 100.0, 0.01)]
    assert (best.mean, best.std, best.n) == (0.29743, 0.00631, 50)


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
        analysis.read_published(str(file))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
