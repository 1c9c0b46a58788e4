"""Compute bootstrap intervals, and the expected best setting within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auxgrad.reports.statistics import CONFIDENCE

RESAMPLES = 9_999

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Interval:
    """A statistic with its 95 % percentile bootstrap interval.

    Attributes:
        value: The statistic.
        low: The lower end of the interval; NaN if a sample has a single value.
        high: The upper end of the interval; NaN if a sample has a single value.
    """

    value: float
    low: float
    high: float


def mean_difference(x: Sequence[float], y: Sequence[float]) -> Interval:
    """Return the mean of x − y for paired samples; pairs are resampled.

    Args:
        x: The values of the first sample.
        y: The values of the second sample, in the same order.

    >>> mean_difference([0.30, 0.32, 0.31], [0.31, 0.33, 0.32]).value.__round__(6)
    -0.01
    """
    return bootstrap(lambda sample: sample.mean(axis=-1), [np.subtract(x, y)])


def improvement(studies: Sequence[tuple[Values, Values]]) -> Interval:
    """Return the probability that a run has a lower cost than a run of the baseline.

    The probability is the share of pairs of runs in which the cost is lower, where a tie counts one
    half, averaged over studies. For the interval, runs are resampled separately for each side of
    each study. The method is that of Agarwal et al., *Deep reinforcement learning at the edge of
    the statistical precipice*, arXiv 2108.13264, section 4.2.

    Args:
        studies: For each study, the costs of the runs and the costs of the baseline's runs.

    >>> improvement([([1.0, 2.0], [2.0, 3.0])]).value
    0.875
    """

    def mean_share(*samples: np.ndarray) -> Any:
        shares = []
        for x, y in zip(samples[::2], samples[1::2], strict=True):
            pairs = x[..., :, np.newaxis], y[..., np.newaxis, :]
            shares.append((np.less(*pairs) + 0.5 * np.equal(*pairs)).mean(axis=(-2, -1)))
        return np.mean(shares, axis=0)

    return bootstrap(mean_share, [np.asarray(side) for study in studies for side in study])


def bootstrap(
    statistic: Callable[..., Any], samples: Sequence[np.ndarray], resamples: int = RESAMPLES
) -> Interval:
    """Return a statistic of one or more samples with its interval.

    Each sample is resampled separately. The resamples are the same in each call.

    Args:
        statistic: A function of the samples that reduces their last axis.
        samples: One-dimensional samples.
        resamples: The number of resamples.
    """
    from scipy import stats

    value = float(statistic(*samples))
    if any(len(sample) < 2 for sample in samples):
        return Interval(value, math.nan, math.nan)
    found = stats.bootstrap(
        samples,
        lambda *resampled, axis: statistic(*resampled),
        n_resamples=resamples,
        batch=1_000,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))


def expected_best(ranked: Sequence[float], budget: int) -> float:
    """Return the expected value of the best of `budget` settings drawn without replacement.

    The method is that of Dodge et al., *Show your work*, arXiv 1909.03004, with the choice on the
    validation set.

    Args:
        ranked: The values of all settings, in the order in which they would be chosen.
        budget: The number of settings that are drawn; at most the number of all settings.

    >>> expected_best([0.3, 0.4, 0.8], 1), expected_best([0.3, 0.4, 0.8], 3)
    (0.5, 0.3)
    """
    n = len(ranked)
    weights = [math.comb(n - 1 - rank, budget - 1) / math.comb(n, budget) for rank in range(n)]
    return math.fsum(w * value for w, value in zip(weights, ranked, strict=True) if w)
