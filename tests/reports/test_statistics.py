"""Estimates, differences and permutation tests, compared with SciPy and with manual results."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from auxgrad.reports.statistics import (
    Difference,
    Estimate,
    MeanCurve,
    holm,
    p_value,
)


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
    assert p_value(x, y, paired=True) == pytest.approx(expected)
    far = p_value(x + 9, y, paired=True)
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
    assert p_value(x, y, paired=False) == pytest.approx(expected)


def test_many_seeds_are_sampled_the_same_each_time():
    x, y = samples(5, 30, 30)
    first, second = (p_value(x, y, paired=True) for _ in range(2))
    assert first == second
    assert first == pytest.approx(scipy.stats.ttest_rel(x, y).pvalue, abs=0.02)


def test_equal_samples_do_not_differ():
    for n in (3, 30):
        assert p_value([0.3] * n, [0.3] * n, paired=True) == 1


@pytest.mark.parametrize("seed", range(5))
def test_holm(seed):
    p_values = list(np.random.default_rng(seed).uniform(0, 0.2, 6))
    corrected = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    assert min(corrected) == pytest.approx(min(1, 6 * min(p_values)))
    order = np.argsort(p_values)
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)
    # The k-th smallest is rejected at 0.05 if all smaller ones are and p <= 0.05 / (6 - k).
    rejected = 0
    while rejected < 6 and p_values[order[rejected]] <= 0.05 / (6 - rejected):
        rejected += 1
    assert sum(q <= 0.05 for q in corrected) == rejected


def test_mean_curve_goes_as_far_as_every_curve():
    curve = MeanCurve.of([{1: 1.0, 2: 2.0, 3: 9.0}, {1: 3.0, 2: 2.0}])
    assert curve.steps.tolist() == [1, 2]
    assert curve.mean.tolist() == [2.0, 2.0]
    expected = Estimate.of([1.0, 3.0])
    assert (curve.low[0], curve.high[0]) == pytest.approx((expected.low, expected.high))
    assert np.isnan(MeanCurve.of([{1: 1.0}]).low).all()
