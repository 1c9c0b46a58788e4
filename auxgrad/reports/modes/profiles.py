"""Compare modes over several studies by the ratios of their runs to the mean of the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auxgrad.reports.metric import Metric
from auxgrad.reports.modes.resampling import Interval, bootstrap, improvement
from auxgrad.reports.modes.standings import BASELINE, Standings


@dataclass(frozen=True)
class Profile:
    """The results of a mode over several studies, with its best setting in each study.

    Attributes:
        mode: The name of the mode.
        ratios: For each study, the metric of each run divided by the mean of the baseline.
        mean_ratio: The mean over studies of the ratio of the two means. The runs of both modes are
            resampled for its interval. None for the baseline itself.
        improvement: The mean over studies of the probability that a run is better than a run of the
            baseline. None for the baseline itself.
    """

    mode: str
    ratios: tuple[np.ndarray, ...]
    mean_ratio: Interval | None
    improvement: Interval | None

    def share_within(self, ratios: np.ndarray, maximize: bool) -> np.ndarray:
        """Return the share of runs that are at least as good as each ratio.

        Args:
            ratios: The ratios to the mean of the baseline.
            maximize: Whether a higher ratio is better.

        Returns:
            The mean of the shares over studies, with equal weights.
        """
        shares = [
            (own[:, np.newaxis] >= ratios if maximize else own[:, np.newaxis] <= ratios).mean(axis=0)
            for own in self.ratios
        ]
        return np.mean(shares, axis=0)


def obstacle(titles: Sequence[str], standings: Sequence[Standings], metric: Metric) -> str:
    """Return why several studies have no profiles, and what to do about it; empty if they have.

    Args:
        titles: The titles of the studies.
        standings: The standings of each study.
        metric: The metric of the report.
    """
    studies = list(zip(titles, standings, strict=True))
    for title, each in studies:
        if not each.has_baseline:
            return f"{title}: {each.no_baseline}"
    common = set.intersection(*({standing.mode for standing in each.modes} for each in standings))
    if common == {BASELINE}:
        return (
            f"{BASELINE} is the only mode with a setting whose runs all converged in each of the "
            f"{len(studies)} studies; train another mode in all of them, or report on fewer studies"
        )
    for title, each in studies:
        [mean] = [standing.estimate.mean for standing in each.modes if standing.mode == BASELINE]
        if mean <= 0:
            return (
                f"{title}: the mean {metric.title} of {BASELINE} is {mean:g}; a ratio needs one above 0"
            )
    return ""


def profiles(standings: Sequence[Standings], metric: Metric) -> list[Profile]:
    """Return the profiles of the modes that all studies have, the best first.

    The method is that of Agarwal et al., arXiv 2108.13264, with ratios to the baseline in place of
    normalised scores and stratified bootstrap intervals.

    Args:
        standings: The standings of each study.
        metric: The metric of the report.

    Returns:
        The profiles. The list is empty if there are fewer than two studies, or if there is an
        `obstacle`.
    """
    if len(standings) < 2 or obstacle([""] * len(standings), standings, metric):
        return []
    values = [
        {standing.mode: np.array(standing.row.values) for standing in each.modes} for each in standings
    ]
    means = [float(own[BASELINE].mean()) for own in values]
    found, sign = [], -1 if metric.maximize else 1
    for mode in values[0]:
        if all(mode in own for own in values):
            ratios = tuple(own[mode] / mean for own, mean in zip(values, means, strict=True))
            mean = better = None
            if mode != BASELINE:
                mean = _mean_ratio([side for own in values for side in (own[mode], own[BASELINE])])
                better = improvement([(sign * own[mode], sign * own[BASELINE]) for own in values])
            found.append(Profile(mode, ratios, mean, better))
    return sorted(found, key=lambda each: metric.cost(each.mean_ratio.value if each.mean_ratio else 1.0))


def _mean_ratio(samples: Sequence[np.ndarray]) -> Interval:
    """Return the mean ratio to the baseline; samples of the mode and the baseline alternate."""

    def statistic(*sides: np.ndarray) -> np.ndarray:
        pairs = zip(sides[::2], sides[1::2], strict=True)
        return np.mean([own.mean(axis=-1) / other.mean(axis=-1) for own, other in pairs], axis=0)

    return bootstrap(statistic, samples)
