"""What finished runs say: estimates, the best setting of each mode, tests, what is missing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from auxgrad.errors import ReportError
from auxgrad.results import Cells, Results, Run, Setting, Unfinished, read_runs, rows_of

CONFIDENCE = 0.95
RESAMPLES = 99_999
PUBLISHED = Path(__file__).parent / "published"
PUBLISHED_COLUMNS = ("mode", "overall", "alpha", "lam", "test_loss_mean", "test_loss_std", "runs")


@dataclass(frozen=True)
class Estimate:
    """Mean, standard deviation (n − 1) and 95 % interval of the mean, by Student's t; n values."""

    mean: float
    std: float
    n: int

    @staticmethod
    def of(values: Iterable[float]) -> Estimate:
        """With one value standard deviation and interval are NaN.

        >>> estimate = Estimate.of([0.30, 0.32, 0.34])
        >>> print(f"{estimate.mean:.3f} {estimate.std:.3f} {estimate.low:.3f} {estimate.high:.3f}")
        0.320 0.020 0.270 0.370
        """
        sample = np.asarray(list(values), np.float64)
        std = float(np.std(sample, ddof=1)) if len(sample) > 1 else math.nan
        return Estimate(float(np.mean(sample)), std, len(sample))

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self._half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self._half

    @property
    def _half(self) -> float:
        return _t_quantile(self.n - 1) * self.std / math.sqrt(self.n) if self.n > 1 else math.nan


@dataclass(frozen=True)
class Difference:
    """A difference of two means with its standard error and 95 % interval."""

    mean: float
    error: float
    low: float
    high: float

    @staticmethod
    def unpaired(a: Estimate, b: Estimate) -> Difference:
        """a − b for independent samples of unequal variance (Welch); NaN if one has a single value.

        >>> of = Difference.unpaired(Estimate(0.31, 0.02, 10), Estimate(0.30, 0.01, 50))
        >>> print(f"{of.mean:.3f} {of.error:.4f} {of.low:.4f} {of.high:.4f}")
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
        """Mean of a − b, value by value; the interval is Student's."""
        estimate = Estimate.of(x - y for x, y in zip(a, b, strict=True))
        error = estimate.std / math.sqrt(estimate.n)
        return Difference(estimate.mean, error, estimate.low, estimate.high)

    @property
    def agrees(self) -> bool | None:
        """Whether the interval holds zero; None if there is no interval."""
        return None if math.isnan(self.error) else self.low <= 0 <= self.high


def _t_quantile(freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Row:
    """A setting with all that its runs say. `estimate` is over finite test losses, None without any."""

    setting: Setting
    runs: tuple[Run, ...]
    unfinished: tuple[Unfinished, ...]
    missing_seeds: tuple[int, ...]
    best: bool

    @property
    def converged(self) -> list[Run]:
        """Runs with a finite test loss."""
        return [run for run in self.runs if not run.diverged]

    @property
    def diverged(self) -> int:
        """How many runs ended with a test loss that is no finite number."""
        return len(self.runs) - len(self.converged)

    @property
    def estimate(self) -> Estimate | None:
        """Of the test loss."""
        return Estimate.of(run.loss for run in self.converged) if self.converged else None

    @property
    def best_val_loss(self) -> float:
        """Mean of the lowest validation losses; NaN unless all runs have one."""
        values = [run.best_val_loss for run in self.converged]
        return float(np.mean(np.array(values, np.float64))) if values else math.nan


def table(results: Results) -> list[Row]:
    """One row for each setting; the best of each mode is marked, see `selection`.

    A seed is missing from a setting if any other has it; SingleTask counts like the rest.
    """
    runs: dict[Setting, list[Run]] = {}
    for run in results.runs:
        runs.setdefault(run.setting, []).append(run)
    unfinished: dict[Setting, list[Unfinished]] = {}
    for left in results.unfinished:
        unfinished.setdefault(left.setting, []).append(left)
    seeds = {run.seed for run in results.runs if run.seed is not None}
    seeds |= {left.seed for left in results.unfinished}
    rows = []
    for setting in sorted(runs.keys() | unfinished.keys(), key=lambda setting: setting.order):
        own = runs.get(setting, [])
        own.sort(key=lambda run: -1 if run.seed is None else run.seed)
        known = all(run.seed is not None for run in own)
        missing = sorted(seeds - {run.seed for run in own}) if known else []
        rows.append(Row(setting, tuple(own), tuple(unfinished.get(setting, [])), tuple(missing), False))
    by_mode: dict[str, list[Row]] = {}
    for row in rows:
        by_mode.setdefault(row.setting.mode, []).append(row)
    best = {_best(own, selection(rows)) for own in by_mode.values()}
    return [replace(row, best=row.setting in best) for row in rows]


def selection(rows: Sequence[Row]) -> str:
    """What the best setting of a mode is chosen by: best_val_loss where all runs have it, or test_loss.

    Chosen by the test loss the best one would look better than it is.
    """
    runs = [run for row in rows for run in row.converged]
    return "best_val_loss" if all(run.best_val_loss is not None for run in runs) else "test_loss"


def best_of_families(rows: Sequence[Row]) -> list[Setting]:
    """The best lam of each mode, alpha and overall."""
    families: dict[tuple[str, bool, float], list[Row]] = {}
    for row in rows:
        families.setdefault(row.setting.family, []).append(row)
    best = [_best(own, selection(rows)) for own in families.values()]
    return [setting for setting in best if setting]


def _best(rows: Iterable[Row], by: str) -> Setting | None:
    candidates = [row for row in rows if row.converged and not row.diverged]

    def score(row: Row) -> float:
        assert row.estimate is not None
        return row.best_val_loss if by == "best_val_loss" else row.estimate.mean

    return min(candidates, key=score).setting if candidates else None


@dataclass(frozen=True)
class Comparison:
    """A setting here and in published figures."""

    setting: Setting
    here: Estimate
    published: Estimate
    difference: Difference


def read_published(name: str) -> dict[Setting, Estimate]:
    """Means, standard deviations and numbers of runs of settings.

    Args:
        name: one of the files that come with the package (`figure7`), or a path to a CSV file with the
            columns of `table.csv` or of `runs.csv`, which is averaged.

    Raises:
        ReportError: there is no such file, or a column or a value is missing or wrong.
    """
    file = PUBLISHED / f"{name}.csv"
    if not file.is_file():
        file = Path(name).expanduser()
        if not file.is_file():
            ours = ", ".join(sorted(each.stem for each in PUBLISHED.glob("*.csv")))
            raise ReportError(f"--compare={name}: no such file; must be a CSV file, or one of {ours}")
    if "loss" in _header(file):
        runs: dict[Setting, list[float]] = {}
        for run in read_runs(file):
            runs.setdefault(run.setting, []).append(run.loss)
        return {setting: Estimate.of(losses) for setting, losses in runs.items()}
    published: dict[Setting, Estimate] = {}
    for line, row in rows_of(file, PUBLISHED_COLUMNS):
        cell = Cells(file, line, row)
        setting = cell.setting()
        if setting in published:
            cell.fail("lam", f"of {setting.name} is there twice")
        if not row["test_loss_mean"]:
            continue  # A setting without finished runs, in a table of ours.
        n = cell.optional("runs", int) or 0
        std = math.nan if n == 1 else cell.number("test_loss_std", least=0)
        if n < 1:
            cell.fail("runs", "must be a whole number >= 1")
        published[setting] = Estimate(cell.number("test_loss_mean"), std, n)
    return published


def _header(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as text:
        return text.readline().strip().split(",")


def compare(rows: Sequence[Row], published: Mapping[Setting, Estimate]) -> list[Comparison]:
    """Every setting that is in both."""
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
    """A permutation test of two settings' mean test losses; `p_holm` is corrected for all tests."""

    a: Setting
    b: Setting
    paired: bool
    sizes: tuple[int, int]
    difference: Difference
    p: float
    p_holm: float
    __test__ = False  # Not one of pytest's.


def significance(rows: Sequence[Row]) -> list[Test]:
    """The best settings of all modes against one another.

    Two settings are paired over their common seeds if these are at least half of the seeds of both, and
    two or more; else all their runs are taken as independent. Settings with one run are left out.
    """
    best = [row for row in rows if row.best and len(row.converged) > 1]
    tests = []
    for a, b in itertools.combinations(best, 2):
        of_a, of_b = _by_seed(a), _by_seed(b)
        common = sorted(of_a.keys() & of_b.keys())
        paired = len(common) >= max(2, len(a.converged) / 2, len(b.converged) / 2)
        if paired:
            x, y = [of_a[seed] for seed in common], [of_b[seed] for seed in common]
            difference = Difference.paired(x, y)
        else:
            x, y = [run.loss for run in a.converged], [run.loss for run in b.converged]
            difference = Difference.unpaired(Estimate.of(x), Estimate.of(y))
        tests.append(
            (a.setting, b.setting, paired, (len(x), len(y)), difference, _p_value(x, y, paired))
        )
    corrected = holm([test[-1] for test in tests])
    return [Test(*test, p_holm) for test, p_holm in zip(tests, corrected, strict=True)]


def _by_seed(row: Row) -> dict[int, float]:
    return {run.seed: run.loss for run in row.converged if run.seed is not None}


def _p_value(x: Sequence[float], y: Sequence[float], paired: bool) -> float:
    """Two-sided; exact with no more than `RESAMPLES` permutations, else from the same ones each time."""
    from scipy.stats import permutation_test

    def statistic(x: Any, y: Any, axis: int) -> Any:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    result = permutation_test(
        (x, y),
        statistic,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=10_000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: Holm (1979), step-down Bonferroni.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def holes(rows: Sequence[Row]) -> list[Setting]:
    """Settings without any run: of each mode all its lam with all its alpha and overall."""
    there = {row.setting for row in rows}
    found = []
    for mode in dict.fromkeys(row.setting.mode for row in rows):
        own = [setting for setting in there if setting.mode == mode]
        families = {setting.family for setting in own}
        lams = {setting.lam for setting in own}
        found += [Setting(*family, lam) for family in families for lam in lams]
    return sorted((setting for setting in found if setting not in there), key=lambda s: s.order)


@dataclass(frozen=True)
class MeanCurve:
    """Mean of several curves and its 95 % interval at each step, as far as all of them went."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(curves: Sequence[Mapping[int, float]]) -> MeanCurve:
        """A mean over fewer and fewer curves would bend. Of one curve the interval is NaN."""
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        values = np.array([[curve[step] for step in steps] for curve in curves])
        n, mean = len(curves), values.mean(axis=0)
        half = np.full_like(mean, math.nan)
        if n > 1:
            half = _t_quantile(n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
        return MeanCurve(np.array(steps), mean, mean - half, mean + half)


def epoch_means(curve: Mapping[int, float], ends: Iterable[int]) -> dict[int, float]:
    """Means of a curve over epochs that end at these steps; at their ends.

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
