"""Analyse finished runs: table, best setting of each mode, comparisons, tests, missing runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from auxgrad.config.setting import Setting
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.runs import ReportedRun, RunSet
from auxgrad.reports.statistics import Difference, Estimate, holm, p_value


@dataclass(frozen=True)
class Row:
    """A row of the table: a setting with its runs.

    Attributes:
        setting: The setting.
        runs: The finished runs, in the order of their seeds.
        unfinished: The runs that have no finished attempt.
        missing_seeds: The seeds that other settings have but this one has not.
        best: Whether the setting is the best of its mode.
    """

    setting: Setting
    runs: tuple[ReportedRun, ...]
    unfinished: tuple[ReportedRun, ...]
    missing_seeds: tuple[int, ...]
    best: bool

    @cached_property
    def converged(self) -> list[ReportedRun]:
        """The finished runs with a finite value and test loss."""
        return [run for run in self.runs if not run.has_diverged]

    @property
    def values(self) -> list[float]:
        """The metric of the runs that converged, in the order of their seeds."""
        return [run.value for run in self.converged if run.value is not None]

    @property
    def n_diverged(self) -> int:
        """The number of finished runs with a value or a test loss that is not finite."""
        return len(self.runs) - len(self.converged)

    @cached_property
    def estimate(self) -> Estimate | None:
        """The estimate of the mean metric; None if no run converged."""
        return Estimate.of(self.values) if self.converged else None

    @cached_property
    def best_val(self) -> float:
        """The mean validation metric at the best epochs; NaN unless all converged runs have it."""
        values = [run.best_val for run in self.converged]
        return float(np.mean(np.array(values, np.float64))) if values else math.nan


def table(found: RunSet, metric: Metric = LOSS) -> list[Row]:
    """Return the table: one row for each setting, with the best setting of each mode marked.

    The best setting is chosen as `by_validation` says, the first one of several that share the best
    value. A seed is missing from a setting if any other setting has it. SingleTask counts like the
    other modes.

    Args:
        found: The runs of one study.
        metric: The metric of the report.
    """
    finished: dict[Setting, list[ReportedRun]] = {}
    unfinished: dict[Setting, list[ReportedRun]] = {}
    for run in found.runs:
        (finished if run.is_finished else unfinished).setdefault(run.setting, []).append(run)
    seeds = {run.seed for run in found.runs if run.seed is not None}
    rows = []
    for setting in sorted(finished.keys() | unfinished.keys(), key=lambda setting: setting.order):
        own = finished.get(setting, [])
        own.sort(key=lambda run: -1 if run.seed is None else run.seed)
        known = all(run.seed is not None for run in own)
        missing = sorted(seeds - {run.seed for run in own}) if known else []
        rows.append(Row(setting, tuple(own), tuple(unfinished.get(setting, [])), tuple(missing), False))
    validated = by_validation(rows)
    by_mode: dict[str, list[Row]] = {}
    for row in rows:
        by_mode.setdefault(row.setting.mode, []).append(row)
    best = {_best(own, metric, validated) for own in by_mode.values()}
    return [replace(row, best=row.setting in best) for row in rows]


def by_validation(rows: Sequence[Row]) -> bool:
    """Return whether the best setting of a mode is chosen by its validation metric.

    This needs a validation metric in all converged runs; otherwise the test metric decides. A
    setting that is chosen by its test metric looks better than it is.
    """
    return all(run.best_val is not None for row in rows for run in row.converged)


def best_of_families(rows: Sequence[Row], metric: Metric = LOSS) -> list[Setting]:
    """Return the setting with the best lam for each combination of mode, alpha and overall."""
    validated = by_validation(rows)
    families: dict[tuple[str, bool, float], list[Row]] = {}
    for row in rows:
        families.setdefault(row.setting.family, []).append(row)
    best = [_best(own, metric, validated) for own in families.values()]
    return [setting for setting in best if setting]


def _best(rows: Iterable[Row], metric: Metric, validated: bool) -> Setting | None:
    return next(iter(_all_best(rows, metric, validated)), None)


def _all_best(rows: Iterable[Row], metric: Metric, validated: bool) -> list[Setting]:
    """Return the settings that share the best value, in the order of the rows."""
    costs: dict[Setting, float] = {}
    for row in rows:
        if row.estimate is not None and not row.n_diverged:
            costs[row.setting] = metric.cost(row.best_val if validated else row.estimate.mean)
    least = min(costs.values(), default=math.inf)
    if least == math.inf:  # No setting has a value.
        return list(costs)[:1]
    # Equal values in another order may have means that differ by rounding.
    return [setting for setting, cost in costs.items() if math.isclose(cost, least, rel_tol=1e-12)]


def ties(rows: Sequence[Row], metric: Metric = LOSS) -> list[list[Setting]]:
    """Return the settings that share the best value, for each mode with several of them.

    The first one of each is the best setting of the mode.

    Args:
        rows: The rows of the table.
        metric: The metric of the report.
    """
    validated = by_validation(rows)
    modes = dict.fromkeys(row.setting.mode for row in rows)
    found = [
        _all_best((row for row in rows if row.setting.mode == mode), metric, validated) for mode in modes
    ]
    return [settings for settings in found if len(settings) > 1]


@dataclass(frozen=True)
class Comparison:
    """The results of a setting in this study and in published results.

    Attributes:
        setting: The setting.
        here: The estimate of the mean in this study.
        published: The published estimate.
        difference: The difference of the two means.
    """

    setting: Setting
    here: Estimate
    published: Estimate
    difference: Difference


def compare(rows: Sequence[Row], published: Mapping[Setting, Estimate]) -> list[Comparison]:
    """Return a comparison for each setting that has results in this study and published ones."""
    return [
        Comparison(
            row.setting,
            row.estimate,
            published[row.setting],
            Difference.unpaired(row.estimate, published[row.setting]),
        )
        for row in rows
        if row.estimate is not None and row.setting in published
    ]


@dataclass(frozen=True)
class Test:
    """A permutation test of the difference of two settings' means.

    Attributes:
        a: The first setting.
        b: The second setting.
        paired: Whether runs are paired by their seeds.
        sizes: The numbers of runs of the two settings in the test.
        difference: The difference of the means, a − b.
        p: The p-value.
        p_holm: The p-value, corrected for the number of tests by Holm's method.
    """

    a: Setting
    b: Setting
    paired: bool
    sizes: tuple[int, int]
    difference: Difference
    p: float
    p_holm: float
    __test__ = False  # Keeps pytest from collecting the class.


def significance(rows: Sequence[Row]) -> list[Test]:
    """Test the differences between the best settings of all modes.

    Two settings are paired over their common seeds if these are two or more, and at least half of
    the seeds of each setting. Otherwise all their runs are treated as independent. Settings with
    only one run are left out.

    Args:
        rows: The rows of the table.

    Returns:
        A test for each pair of settings.
    """
    best = [row for row in rows if row.best and len(row.converged) > 1]
    tests = []
    for a, b in itertools.combinations(best, 2):
        of_a, of_b = by_seed(a), by_seed(b)
        common = sorted(of_a.keys() & of_b.keys())
        paired = len(common) >= max(2, len(a.converged) / 2, len(b.converged) / 2)
        if paired:
            x, y = [of_a[seed] for seed in common], [of_b[seed] for seed in common]
            difference = Difference.paired(x, y)
        else:
            x, y = a.values, b.values
            difference = Difference.unpaired(Estimate.of(x), Estimate.of(y))
        sizes = len(x), len(y)
        tests.append((a.setting, b.setting, paired, sizes, difference, p_value(x, y, paired)))
    corrected = holm([test[-1] for test in tests])
    return [Test(*test, p_holm) for test, p_holm in zip(tests, corrected, strict=True)]


def by_seed(row: Row) -> dict[int, float]:
    """Return the metric by seed, for the runs that converged and have a known seed."""
    pairs = ((run.seed, run.value) for run in row.converged)
    return {seed: value for seed, value in pairs if seed is not None and value is not None}


def missing_settings(rows: Sequence[Row]) -> list[Setting]:
    """Return the settings without any run.

    For each mode, these are the missing combinations of its lams with its pairs of alpha and
    overall.
    """
    there = {row.setting for row in rows}
    found = []
    for mode in dict.fromkeys(row.setting.mode for row in rows):
        own = [setting for setting in there if setting.mode == mode]
        families = {setting.family for setting in own}
        lams = {setting.lam for setting in own}
        found += [Setting(*family, lam, own[0].uses) for family in families for lam in lams]
    return sorted((setting for setting in found if setting not in there), key=lambda s: s.order)
