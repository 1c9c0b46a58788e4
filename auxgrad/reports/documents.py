"""Write the tables of a report as CSV and Markdown."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from auxgrad.config.setting import KNOBS, Setting
from auxgrad.config.values import format_value
from auxgrad.reports import analysis
from auxgrad.reports.analysis import Comparison, Row, Test, by_validation, missing_settings
from auxgrad.reports.csv_files import published_columns
from auxgrad.reports.metric import Metric
from auxgrad.reports.runs import ReportedRun, RunSet
from auxgrad.reports.statistics import Estimate

DASH = "–"
FEW = 3  # More settings are abbreviated.


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, with empty cells for None and NaN."""
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(columns)
        table.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else format_value(value)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def number(value: float, digits: int = 4) -> str:
    """Return a number with this number of decimals, or a dash for NaN."""
    return DASH if math.isnan(value) else f"{value:.{digits}f}"


def note(row: Row) -> str:
    """Return a note on unfinished, diverged or missing runs of a setting, or an empty text."""
    words = []
    if not row.runs:
        words.append("no finished run")
    statuses = Counter(left.status for left in row.unfinished)
    words += [f"{statuses[status]} {status}" for status in sorted(statuses)]
    if row.n_diverged:
        words.append(f"{row.n_diverged} diverged, left out")
    if row.runs and row.missing_seeds:
        words.append(f"{len(row.missing_seeds)} seed{'s' * (len(row.missing_seeds) > 1)} missing")
    if len(row.converged) == 1:
        words.append("one run: no interval")
    return ", ".join(words)


def table_csv(file: Path, rows: Sequence[Row], metric: Metric) -> None:
    """Write the table as CSV. The first columns are such that `--compare` can read the file."""
    columns = (*published_columns(metric), "low", "high", f"{metric.validation}_mean")
    columns += ("best", "diverged", "note")
    write_csv(file, columns, ([*_knobs(row.setting), *_numbers(row), note(row)] for row in rows))


def _knobs(setting: Setting) -> tuple[object, ...]:
    return setting.mode, setting.overall, setting.alpha, setting.lam


def _numbers(row: Row) -> list[object]:
    estimate = row.estimate
    means: list[object] = [None, None, 0, None, None]
    if estimate:
        means = [estimate.mean, estimate.std, estimate.n, estimate.low, estimate.high]
    return [*means, row.best_val, row.best, row.n_diverged]


def table_md(rows: Sequence[Row], metric: Metric) -> str:
    """Return the table as Markdown, with dashes for knobs that a mode does not use."""
    lowest: dict[str, float] = {}
    for row in rows:
        if row.estimate:
            mode = row.setting.mode
            lowest[mode] = min(lowest.get(mode, math.inf), metric.cost(row.estimate.mean))
    lines = []
    for row in rows:
        used = row.setting.used
        knobs = [format_value(used[key]) if key in used else DASH for key in reversed(KNOBS)]
        figures = [DASH] * 3
        if estimate := row.estimate:
            mean = number(estimate.mean)
            mean = f"**{mean}**" if metric.cost(estimate.mean) == lowest[row.setting.mode] else mean
            figures = [mean, number(estimate.std), interval(estimate.low, estimate.high)]
        figures += [str(len(row.converged)), number(row.best_val), "best" if row.best else ""]
        lines.append([row.setting.mode, *knobs, *figures, note(row)])
    columns = ["mode", "overall", "alpha", "lam", metric.title, "std", "95 % interval", "runs"]
    columns += [f"validation {metric.short_name}", "", "note"]
    if by_validation(rows):
        value = f"mean validation {metric.short_name}"
        by = (
            f"{value} at the epoch with the lowest validation loss, so that the choice does not flatter "
            f"its {metric.title}"
        )
    else:
        by = f"mean {metric.title}, since not all runs have a validation {metric.short_name}"
    return (
        markdown(columns, lines)
        + f"\n{metric.heading}: mean over runs with different seeds; std: their standard deviation "
        + "(n − 1); interval of the mean by Student's t. The best setting of a mode is chosen "
        + f"by its {by}; its {metric.best} {metric.title} is bold.\n"
        + "".join(f"\n{sentence}\n" for sentence in ties(rows, metric))
    )


def ties(rows: Sequence[Row], metric: Metric) -> list[str]:
    """Return a sentence for each mode in which several settings share the best value."""
    part = "validation" if by_validation(rows) else "test"
    sentences = []
    for best, *others in analysis.ties(rows, metric):
        names = ", ".join(setting.name for setting in others[:FEW])
        more = f" and {len(others) - FEW} more" if len(others) > FEW else ""
        sentences.append(
            f"{best.name}: tied with {names}{more} by mean {part} {metric.short_name}; the first in the "
            "table is taken as the best."
        )
    return sentences


def interval(low: float, high: float) -> str:
    """Return [low, high], or a dash for NaN."""
    return DASH if math.isnan(low) else f"[{number(low)}, {number(high)}]"


def significance_csv(file: Path, tests: Sequence[Test]) -> None:
    """Write the tests as CSV, one row for each."""
    columns = ("a", "b", "difference", "low", "high", "paired", "n_a", "n_b", "p", "p_holm")
    write_csv(
        file,
        columns,
        (
            [test.a.name, test.b.name, *_difference(test), test.paired, *test.sizes, test.p, test.p_holm]
            for test in tests
        ),
    )


def _difference(test: Test) -> tuple[float, float, float]:
    return test.difference.mean, test.difference.low, test.difference.high


def significance_md(tests: Sequence[Test], metric: Metric) -> str:
    """Return the tests as Markdown, or a sentence if there are none."""
    if not tests:
        return "Nothing to test: a test needs two modes with two finished runs each.\n"
    lines = [
        [
            *(test.a.name, test.b.name, number(test.difference.mean)),
            interval(test.difference.low, test.difference.high),
            f"paired, {test.sizes[0]} seeds"
            if test.paired
            else "unpaired, {} and {} runs".format(*test.sizes),
            *(f"{test.p:.2g}", f"{test.p_holm:.2g}", "yes" if test.p_holm < 0.05 else "no"),
        ]
        for test in tests
    ]
    columns = ("a", "b", "a − b", "95 % interval", "test", "p", "p (Holm)", "p (Holm) < 0.05")
    words = (
        f"\nPermutation tests of the mean {metric.title}, two-sided, between the best settings of the "
        f"modes, corrected for {len(tests)} by Holm's method; the intervals are Student's and not "
        "corrected.\n"
    )
    smallest = min(test.sizes[0] for test in tests)
    if any(test.paired for test in tests) and 2.0 ** (1 - smallest) * len(tests) > 0.05:
        words += f"With {smallest} paired seeds p cannot be below {2.0 ** (1 - smallest):.2g}.\n"
    return markdown(columns, lines) + words


def comparison_csv(file: Path, comparisons: Sequence[Comparison]) -> None:
    """Write the comparisons as CSV, one row for each."""
    columns = ["mode", "overall", "alpha", "lam", "here", "here_std", "here_runs"]
    columns += ["published", "published_std", "published_runs"]
    columns += ["difference", "standard_error", "low", "high", "agrees"]
    write_csv(
        file,
        columns,
        (
            [
                *_knobs(each.setting),
                *(each.here.mean, each.here.std, each.here.n),
                *(each.published.mean, each.published.std, each.published.n),
                *(each.difference.mean, each.difference.standard_error),
                *(each.difference.low, each.difference.high, each.difference.agrees),
            ]
            for each in comparisons
        ),
    )


def comparison_md(
    comparisons: Sequence[Comparison], name: str, only: Sequence[str], metric: Metric
) -> str:
    """Return the comparisons as Markdown.

    Args:
        comparisons: The comparisons.
        name: The name of the published results.
        only: Sentences on settings that only this study or only the published results have.
        metric: The metric of the report.
    """

    def mean(estimate: Estimate) -> str:
        return f"{number(estimate.mean)} ± {number(estimate.std)} ({estimate.n})"

    lines = [
        [
            *(each.setting.name, mean(each.here), mean(each.published)),
            *(number(each.difference.mean), number(each.difference.standard_error)),
            interval(each.difference.low, each.difference.high),
            {True: "yes", False: "**no**", None: "unknown: one run"}[each.difference.agrees],
        ]
        for each in comparisons
    ]
    columns = ("setting", "here", name, "difference", "standard error", "95 % interval", "agree")
    words = (
        f"\n{agreement(comparisons)} {metric.heading} as mean ± standard deviation (runs); "
        "interval of the difference by Welch's t. If all settings agree, one in twenty is still "
        "expected outside its interval.\n"
    )
    return markdown(columns, lines) + words + "".join(f"\n{sentence}\n" for sentence in only)


def agreement(comparisons: Sequence[Comparison]) -> str:
    """Return a sentence that says how many settings agree."""
    if not comparisons:
        return "It has no setting of this study."
    known = [each for each in comparisons if each.difference.agrees is not None]
    agree = sum(bool(each.difference.agrees) for each in known)
    rest = len(comparisons) - len(known)
    return f"{agree} of {len(known)} settings agree within 95 %." + (
        f" {rest} cannot be compared, because there is only one run." if rest else ""
    )


def coverage(found: RunSet, rows: Sequence[Row]) -> list[str]:
    """Return sentences on runs that are missing or were left out.

    Args:
        found: The runs of one study.
        rows: The rows of its table.
    """
    sentences = []
    most = max((len(row.runs) for row in rows), default=0)
    for row in rows:
        waiting = {left.seed for left in row.unfinished}
        never = [seed for seed in row.missing_seeds if seed not in waiting]
        for status in sorted({left.status for left in row.unfinished}):
            seeds = _seeds(left for left in row.unfinished if left.status == status)
            sentences.append(f"{row.setting.name}: {status}, seed {_ranges(seeds)}.")
        if never:
            sentences.append(f"{row.setting.name}: no run with seed {_ranges(never)}.")
        elif len(row.runs) < most and not row.missing_seeds:
            sentences.append(f"{row.setting.name}: {len(row.runs)} runs; others have {most}.")
        if row.n_diverged:
            seeds = _seeds(run for run in row.runs if run.has_diverged)
            which = f", seed {_ranges(seeds)}" if seeds else ""
            sentences.append(
                f"{row.setting.name}: {row.n_diverged} diverged{which}; left out of the mean."
            )
    if any(run.seed is None for run in found.finished):
        sentences.append("Some runs have no recorded seed and cannot be paired.")
    sentences += [f"{setting.name}: no run at all." for setting in missing_settings(rows)]
    return sentences + found.notes


def _seeds(runs: Iterable[ReportedRun]) -> list[int]:
    return sorted(run.seed for run in runs if run.seed is not None)


def _ranges(seeds: Sequence[int]) -> str:
    """Return sorted numbers as text, with consecutive numbers as ranges.

    >>> _ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
