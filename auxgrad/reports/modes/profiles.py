"""Modes over several studies: how their runs lie to the mean of the baseline of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auxgrad.reports.metric import Metric
from auxgrad.reports.modes.resampling import Interval, bootstrap, improvement
from auxgrad.reports.modes.standings import BASELINE, Standings


@dataclass(frozen=True)
class Profile:
    """A mode over several studies, by its best setting in each.

    Attributes:
        ratios: for each study the metric of every run, as a part of the baseline's mean there.
        mean: of the studies' ratios of means, with equal weights; the runs of both are resampled. None
            for the baseline itself.
        improvement: the mean over studies of the probability that a run is better than one of the
            baseline; None for the baseline itself.
    """

    mode: str
    ratios: tuple[np.ndarray, ...]
    mean_ratio: Interval | None
    improvement: Interval | None

    def share_within(self, ratios: np.ndarray, maximize: bool) -> np.ndarray:
        """Return the share of runs that are as good as each of these ratios; studies weigh the same."""
        shares = [
            (own[:, np.newaxis] >= ratios if maximize else own[:, np.newaxis] <= ratios).mean(axis=0)
            for own in self.ratios
        ]
        return np.mean(shares, axis=0)


def profiles(standings: Sequence[Standings], metric: Metric) -> list[Profile]:
    """Return the profiles of the modes that all studies have, the best first.

    Agarwal et al., arXiv 2108.13264, with ratios to the baseline for normalised scores; intervals are
    stratified bootstrap ones. Empty unless the baseline and another mode are in every one of two or more
    studies, and the means of the baseline are positive.
    """
    if len(standings) < 2 or not all(each.has_baseline for each in standings):
        return []
    values = [
        {standing.mode: np.array(standing.row.values) for standing in each.modes} for each in standings
    ]
    means = [float(own[BASELINE].mean()) for own in values]
    if min(means) <= 0:
        return []
    found, sign = [], -1 if metric.maximize else 1
    for mode in values[0]:
        if all(mode in own for own in values):
            ratios = tuple(own[mode] / mean for own, mean in zip(values, means, strict=True))
            mean = better = None
            if mode != BASELINE:
                mean = _mean_ratio([side for own in values for side in (own[mode], own[BASELINE])])
                better = improvement([(sign * own[mode], sign * own[BASELINE]) for own in values])
            found.append(Profile(mode, ratios, mean, better))
    if len(found) < 2:
        return []
    return sorted(found, key=lambda each: metric.cost(each.mean_ratio.value if each.mean_ratio else 1.0))


def _mean_ratio(samples: Sequence[np.ndarray]) -> Interval:
    """The mean over studies of mean / mean of the baseline; the two alternate in `samples`."""

    def statistic(*sides: np.ndarray) -> np.ndarray:
        pairs = zip(sides[::2], sides[1::2], strict=True)
        return np.mean([own.mean(axis=-1) / other.mean(axis=-1) for own, other in pairs], axis=0)

    return bootstrap(statistic, samples)
