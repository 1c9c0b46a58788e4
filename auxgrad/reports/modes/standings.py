"""Compare the best settings of all modes on one study, with the baseline and with equal budgets."""

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
    """The result of a mode, with its best setting.

    Attributes:
        row: The row of the best setting.
        n_tried: The number of settings of the mode that have converged runs.
        at_budget: The expected mean metric of the best of `Standings.budget` settings.
        n_common_seeds: The number of seeds that the best setting and the baseline have in common.
        difference: The mean difference from the baseline over the common seeds; None if there are
            none.
        improvement: The probability that a run is better than a run of the baseline; None without a
            baseline.
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
    """The results of all modes of a study.

    Attributes:
        modes: The results of the modes, the best at the budget first.
        left_out: The modes without a best setting, because each of their settings has diverged
            runs.
        budget: The smallest number of settings that a mode with knobs has tried.
        validated: Whether settings are chosen by their validation metric.
        no_baseline: Why the baseline is not among the modes, and what to do; empty if it is.
    """

    modes: tuple[Standing, ...]
    left_out: tuple[str, ...]
    budget: int
    validated: bool
    no_baseline: str = ""

    @staticmethod
    def of(rows: Sequence[Row], metric: Metric) -> Standings:
        """Return the standings of the modes that have a best setting.

        Args:
            rows: The rows of the table.
            metric: The metric of the report.
        """
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
        no_baseline = "" if baseline else _no_baseline(rows)
        return Standings(tuple(modes), left_out, budget, validated, no_baseline)

    @property
    def has_baseline(self) -> bool:
        """Whether the baseline is among the modes."""
        return not self.no_baseline


def _no_baseline(rows: Sequence[Row]) -> str:
    """Return why the baseline has no best setting, and what to do about it."""
    own = [row for row in rows if row.setting.mode == BASELINE]
    if any(row.runs for row in own):
        return f"runs of {BASELINE} diverged; report on the other seeds (seed=...)"
    if own:
        return f"no run of {BASELINE} has finished; give the command of these runs again"
    return f"there are no runs of {BASELINE}; train it (mode={BASELINE}) with the same options"


def _at_budget(rows: Sequence[Row], budget: int, metric: Metric, validated: bool) -> float:
    def mean(row: Row) -> float:
        assert row.estimate is not None
        return math.nan if row.n_diverged else row.estimate.mean

    def cost(row: Row) -> float:
        # A setting with a diverged run is chosen last.
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
