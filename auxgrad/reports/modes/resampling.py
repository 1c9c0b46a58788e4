"""Bootstrap intervals, and choices with an equal budget: numbers in, numbers out."""

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
    """A statistic and its 95 % percentile bootstrap interval, NaN where there is nothing to resample."""

    value: float
    low: float
    high: float


def mean_difference(x: Sequence[float], y: Sequence[float]) -> Interval:
    """Return the mean of x − y, pair by pair; pairs are resampled.

    >>> mean_difference([0.30, 0.32, 0.31], [0.31, 0.33, 0.32]).value.__round__(6)
    -0.01
    """
    return bootstrap(lambda sample: sample.mean(axis=-1), [np.subtract(x, y)])


def improvement(studies: Sequence[tuple[Values, Values]]) -> Interval:
    """Return the probability that a run has a lower cost than a run of the baseline; a tie is one half.

    Over all pairs of runs of a study, then the mean over studies; all runs are resampled, those of each
    side of each study by themselves. Agarwal et al., *Deep reinforcement learning at the edge of the
    statistical precipice*, arXiv 2108.13264, section 4.2.

    Args:
        studies: the costs of the runs, and those of the baseline's.

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
    """Return a statistic of one or more samples with its interval; each sample is resampled by itself.

    Args:
        statistic: of the samples, along their last axis.
        samples: one-dimensional.
        resamples: how many; the same random ones each time.
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

    Dodge et al., *Show your work*, arXiv 1909.03004, with the choice on the validation set.

    Args:
        ranked: the values of all settings, that which would be chosen first of all first.
        budget: at most as many.

    >>> expected_best([0.3, 0.4, 0.8], 1), expected_best([0.3, 0.4, 0.8], 3)
    (0.5, 0.3)
    """
    n = len(ranked)
    weights = [math.comb(n - 1 - rank, budget - 1) / math.comb(n, budget) for rank in range(n)]
    return math.fsum(w * value for w, value in zip(weights, ranked, strict=True) if w)
