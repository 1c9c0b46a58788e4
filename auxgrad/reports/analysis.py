"""What finished runs say: a table, the best setting of each mode, comparisons, tests, gaps."""

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
    """A setting with all that its runs say.

    Attributes:
        runs: the finished ones, by seed.
        missing_seeds: seeds that other settings have.
        best: whether it is the best setting of its mode.
    """

    setting: Setting
    runs: tuple[ReportedRun, ...]
    unfinished: tuple[ReportedRun, ...]
    missing_seeds: tuple[int, ...]
    best: bool

    @cached_property
    def converged(self) -> list[ReportedRun]:
        """Runs with a finite value and test loss."""
        return [run for run in self.runs if not run.has_diverged]

    @property
    def values(self) -> list[float]:
        """The metric of the runs that converged, by seed."""
        return [run.value for run in self.converged if run.value is not None]

    @property
    def n_diverged(self) -> int:
        """How many runs ended with a value or a test loss that is not a finite number."""
        return len(self.runs) - len(self.converged)

    @cached_property
    def estimate(self) -> Estimate | None:
        """The estimate of the mean value, None without any finite one."""
        return Estimate.of(self.values) if self.converged else None

    @cached_property
    def best_val(self) -> float:
        """The mean of the metric on the validation set, at the best epochs; NaN unless all have it."""
        values = [run.best_val for run in self.converged]
        return float(np.mean(np.array(values, np.float64))) if values else math.nan


def table(found: RunSet, metric: Metric = LOSS) -> list[Row]:
    """Return one row for each setting; the best of each mode is marked, see `by_validation`.

    A seed is missing from a setting if any other has it; SingleTask counts like the rest.
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
    """Return whether the best setting of a mode is chosen on the validation set: if all runs allow it.

    Chosen on the test set the best one would look better than it is.
    """
    return all(run.best_val is not None for row in rows for run in row.converged)


def best_of_families(rows: Sequence[Row], metric: Metric = LOSS) -> list[Setting]:
    """Return the best lam of each mode, alpha and overall."""
    validated = by_validation(rows)
    families: dict[tuple[str, bool, float], list[Row]] = {}
    for row in rows:
        families.setdefault(row.setting.family, []).append(row)
    best = [_best(own, metric, validated) for own in families.values()]
    return [setting for setting in best if setting]


def _best(rows: Iterable[Row], metric: Metric, validated: bool) -> Setting | None:
    candidates = [row for row in rows if row.converged and not row.n_diverged]

    def score(row: Row) -> float:
        assert row.estimate is not None
        return metric.cost(row.best_val if validated else row.estimate.mean)

    return min(candidates, key=score).setting if candidates else None


@dataclass(frozen=True)
class Comparison:
    """A setting here and in published results."""

    setting: Setting
    here: Estimate
    published: Estimate
    difference: Difference


def compare(rows: Sequence[Row], published: Mapping[Setting, Estimate]) -> list[Comparison]:
    """Return a comparison for every setting that is in both."""
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
    """A permutation test of two settings' means; `p_holm` is corrected for all tests."""

    a: Setting
    b: Setting
    paired: bool
    sizes: tuple[int, int]
    difference: Difference
    p: float
    p_holm: float
    __test__ = False  # Not one of pytest's.


def significance(rows: Sequence[Row]) -> list[Test]:
    """Test the best settings of all modes against one another.

    Two settings are paired over their common seeds if these are at least half of the seeds of both, and
    two or more; else all their runs are taken as independent. Settings with one run are left out.
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
    """Return the metric of the runs that converged and whose seed is known."""
    pairs = ((run.seed, run.value) for run in row.converged)
    return {seed: value for seed, value in pairs if seed is not None and value is not None}


def missing_settings(rows: Sequence[Row]) -> list[Setting]:
    """Return settings without any run: of each mode all its lam with all its alpha and overall."""
    there = {row.setting for row in rows}
    found = []
    for mode in dict.fromkeys(row.setting.mode for row in rows):
        own = [setting for setting in there if setting.mode == mode]
        families = {setting.family for setting in own}
        lams = {setting.lam for setting in own}
        found += [Setting(*family, lam, own[0].uses) for family in families for lam in lams]
    return sorted((setting for setting in found if setting not in there), key=lambda s: s.order)
