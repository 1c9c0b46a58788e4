"""Compute estimates, differences, permutation tests and mean curves of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 99_999
BATCH = 1_000  # Resamples at once. Larger batches do not fit the caches and take twice the time.


@dataclass(frozen=True)
class Estimate:
    """The estimate of a mean, with a 95 % interval by Student's t.

    Attributes:
        mean: The mean.
        std: The standard deviation (n − 1); NaN for one value.
        n: The number of values.
    """

    mean: float
    std: float
    n: int

    @staticmethod
    def of(values: Iterable[float]) -> Estimate:
        """Return the estimate of values; the interval of a single value is NaN.

        Args:
            values: One value or more.

        >>> estimate = Estimate.of([0.30, 0.32, 0.34])
        >>> print(f"{estimate.mean:.3f} {estimate.std:.3f} {estimate.low:.3f} {estimate.high:.3f}")
        0.320 0.020 0.270 0.370
        """
        sample = np.asarray(list(values), np.float64)
        std = float(np.std(sample, ddof=1)) if len(sample) > 1 else math.nan
        return Estimate(float(np.mean(sample)), std, len(sample))

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.mean - self._half

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.mean + self._half

    @property
    def _half(self) -> float:
        return _t_quantile(self.n - 1) * self.std / math.sqrt(self.n) if self.n > 1 else math.nan


@dataclass(frozen=True)
class Difference:
    """A difference of two means.

    Attributes:
        mean: The difference.
        standard_error: The standard error of the difference; NaN if it cannot be estimated.
        low: The lower end of the 95 % interval.
        high: The upper end of the 95 % interval.
    """

    mean: float
    standard_error: float
    low: float
    high: float

    @staticmethod
    def unpaired(a: Estimate, b: Estimate) -> Difference:
        """Return a − b for independent samples of unequal variance, with Welch's interval.

        The interval is NaN if one of the samples has a single value.

        Args:
            a: The estimate of the first mean.
            b: The estimate of the second mean.

        >>> of = Difference.unpaired(Estimate(0.31, 0.02, 10), Estimate(0.30, 0.01, 50))
        >>> print(f"{of.mean:.3f} {of.standard_error:.4f} {of.low:.4f} {of.high:.4f}")
        0.010 0.0065 -0.0045 0.0245
        """
        mean = a.mean - b.mean
        if min(a.n, b.n) < 2:
            return Difference(mean, math.nan, math.nan, math.nan)
        of_a, of_b = a.std**2 / a.n, b.std**2 / b.n
        error = math.sqrt(of_a + of_b)
        if error == 0:
            return Difference(mean, 0.0, mean, mean)
        freedom = (of_a + of_b) ** 2 / (of_a**2 / (a.n - 1) + of_b**2 / (b.n - 1))
        half = _t_quantile(freedom) * error
        return Difference(mean, error, mean - half, mean + half)

    @staticmethod
    def paired(a: Sequence[float], b: Sequence[float]) -> Difference:
        """Return the mean of a − b for paired samples, with Student's interval.

        Args:
            a: The values of the first sample.
            b: The values of the second sample, in the same order.
        """
        estimate = Estimate.of(x - y for x, y in zip(a, b, strict=True))
        error = estimate.std / math.sqrt(estimate.n)
        return Difference(estimate.mean, error, estimate.low, estimate.high)

    @property
    def agrees(self) -> bool | None:
        """Whether the interval contains zero; None if there is no interval."""
        return None if math.isnan(self.standard_error) else self.low <= 0 <= self.high


def _t_quantile(freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def p_value(x: Sequence[float], y: Sequence[float], paired: bool) -> float:
    """Return the two-sided p-value of a permutation test of the difference of two means.

    The test is exact if there are at most `RESAMPLES` permutations. Otherwise it uses random ones,
    which are the same in each call.

    Args:
        x: The values of the first sample.
        y: The values of the second sample.
        paired: Whether the samples are paired; they then have the same length and order.
    """
    from scipy.stats import permutation_test

    def statistic(x: Any, y: Any, axis: int) -> Any:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    result = permutation_test(
        (x, y),
        statistic,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values, corrected for their number by Holm's method.

    This is the step-down Bonferroni method of Holm (1979).

    Args:
        p_values: The p-values, in any order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class MeanCurve:
    """The mean of several curves and its 95 % interval at each step.

    The mean curve has only the steps that all curves have, because a mean over a changing set of
    curves would bend.

    Attributes:
        steps: The steps.
        mean: The means.
        low: The lower ends of the intervals.
        high: The upper ends of the intervals.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(curves: Sequence[Mapping[int, float]]) -> MeanCurve:
        """Return the mean of curves; the interval of a single curve is NaN.

        Args:
            curves: The values of each curve by step.
        """
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        values = np.array([[curve[step] for step in steps] for curve in curves])
        n, mean = len(curves), values.mean(axis=0)
        half = np.full_like(mean, math.nan)
        if n > 1:
            half = _t_quantile(n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
        return MeanCurve(np.array(steps), mean, mean - half, mean + half)


def epoch_means(curve: Mapping[int, float], ends: Iterable[int]) -> dict[int, float]:
    """Return the means of a curve over epochs, by the last step of each epoch.

    Args:
        curve: The values by step.
        ends: The last step of each epoch.

    >>> epoch_means({1: 0.5, 2: 0.25, 3: 0.125, 4: 0.375}, [2, 4])
    {2: 0.375, 4: 0.25}
    """
    means, start = {}, 0
    for end in sorted(ends):
        values = [curve[step] for step in range(start + 1, end + 1) if step in curve]
        if values:
            means[end] = float(np.mean(values))
        start = end
    return means
