"""The best settings of all modes on one study, beside the baseline and with an equal budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auxgrad.reports.analysis import Row, by_seed, by_validation
from auxgrad.reports.metric import Metric
from auxgrad.reports.modes.resampling import Interval, expected_best, improvement, mean_difference
from auxgrad.reports.statistics import Estimate

BASELINE = "SingleTask"


@dataclass(frozen=True)
class Standing:
    """A mode, by its best setting.

    Attributes:
        row: the best setting.
        tried: how many settings of the mode have finished runs.
        at_budget: the expected mean metric of the best of `Standings.budget` settings.
        seeds: those that the best setting and the baseline have in common.
        difference: from the baseline over these seeds, pair by pair; None without any.
        improvement: the probability that a run is better than one of the baseline; None without any.
    """

    row: Row
    n_tried: int
    at_budget: float
    n_common_seeds: int = 0
    difference: Interval | None = None
    improvement: Interval | None = None

    @property
    def mode(self) -> str:
        """The name of the mode."""
        return self.row.setting.mode

    @property
    def estimate(self) -> Estimate:
        """The mean metric of the best setting."""
        assert self.row.estimate is not None
        return self.row.estimate


@dataclass(frozen=True)
class Standings:
    """All modes of a study, the best first.

    Attributes:
        left_out: modes without a best setting, as of each some run diverged.
        budget: the smallest number of settings that a mode with knobs has tried.
        validated: whether settings are chosen on the validation set.
    """

    modes: tuple[Standing, ...]
    left_out: tuple[str, ...]
    budget: int
    validated: bool

    @staticmethod
    def of(rows: Sequence[Row], metric: Metric) -> Standings:
        """Return the standings of the modes that have a best setting."""
        validated = by_validation(rows)
        of_mode: dict[str, list[Row]] = {}
        for row in rows:
            if row.converged:
                of_mode.setdefault(row.setting.mode, []).append(row)
        best = {row.setting.mode: row for row in rows if row.best}
        budget = min((len(own) for own in of_mode.values() if own[0].setting.used), default=1)
        baseline = best.get(BASELINE)
        modes = []
        for mode, row in best.items():
            own = of_mode[mode]
            at_budget = _at_budget(own, min(budget, len(own)), metric, validated)
            compared = _against(row, baseline, metric) if baseline and row is not baseline else ()
            modes.append(Standing(row, len(own), at_budget, *compared))
        modes.sort(key=lambda standing: metric.cost(standing.at_budget))
        left_out = tuple(mode for mode in of_mode if mode not in best)
        return Standings(tuple(modes), left_out, budget, validated)

    @property
    def has_baseline(self) -> bool:
        """Whether the baseline is among them."""
        return any(standing.mode == BASELINE for standing in self.modes)


def _at_budget(rows: Sequence[Row], budget: int, metric: Metric, validated: bool) -> float:
    def mean(row: Row) -> float:
        assert row.estimate is not None
        return math.nan if row.n_diverged else row.estimate.mean

    def cost(row: Row) -> float:
        # A setting of which a run diverged is never chosen over another.
        return metric.cost(math.nan if row.n_diverged else row.best_val if validated else mean(row))

    return expected_best([mean(row) for row in sorted(rows, key=cost)], budget)


def _against(row: Row, baseline: Row, metric: Metric) -> tuple[int, Interval | None, Interval]:
    own, other = by_seed(row), by_seed(baseline)
    seeds = sorted(own.keys() & other.keys())
    difference = (
        mean_difference([own[seed] for seed in seeds], [other[seed] for seed in seeds])
        if seeds
        else None
    )
    costs, others = ([metric.cost(value) for value in each.values] for each in (row, baseline))
    return len(seeds), difference, improvement([(costs, others)])
