"""Write the tables of modes as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from auxgrad.reports.documents import DASH, interval, markdown, number, write_csv
from auxgrad.reports.metric import Metric
from auxgrad.reports.modes.profiles import Profile
from auxgrad.reports.modes.resampling import Interval
from auxgrad.reports.modes.standings import BASELINE, Standings

FEW = 10  # With fewer seeds, bootstrap intervals are too narrow.


def standings_csv(file: Path, standings: Standings, metric: Metric) -> None:
    """Write the standings as CSV, one row for each mode."""
    columns = ["mode", "best", "runs", f"{metric.name}_mean", "low", "high", "settings"]
    columns += ["budget", f"{metric.name}_at_budget", "seeds"]
    columns += [
        f"{name}{end}" for name in ("difference", "improvement") for end in ("", "_low", "_high")
    ]
    write_csv(
        file,
        columns,
        (
            [
                *(each.mode, each.row.setting.name, each.estimate.n),
                *(each.estimate.mean, each.estimate.low, each.estimate.high),
                *(each.n_tried, min(standings.budget, each.n_tried), each.at_budget),
                each.n_common_seeds if each.difference else None,
                *_numbers(each.difference),
                *_numbers(each.improvement),
            ]
            for each in standings.modes
        ),
    )


def _numbers(found: Interval | None) -> tuple[float | None, ...]:
    return (found.value, found.low, found.high) if found else (None, None, None)


def standings_md(standings: Standings, metric: Metric) -> str:
    """Return the standings as Markdown."""
    lines = [
        [
            *(each.mode, each.row.setting.name.removeprefix(each.mode).strip() or DASH),
            f"{number(each.estimate.mean)} {interval(each.estimate.low, each.estimate.high)}",
            *(str(each.n_tried), number(each.at_budget)),
            *(_with_interval(found) for found in (each.difference, each.improvement)),
        ]
        for each in standings.modes
    ]
    columns = ["mode", "best setting", f"{metric.title}, 95 % interval", "settings"]
    columns += [f"with a budget of {standings.budget}", f"minus {BASELINE}", f"better than {BASELINE}"]
    chosen = "validation" if standings.validated else "test"
    words = f"""
The best setting of a mode has the best mean {chosen} {metric.short_name}. It gets better the more
settings are tried. *With a budget of {standings.budget}* is therefore the expected mean
{metric.title} of the best of {standings.budget} settings drawn at random (arXiv 1909.03004). The
budget is the smallest number of settings that a mode with knobs has. The modes are in this order.
"""
    if standings.has_baseline:
        words += f"""
*Minus {BASELINE}* is the mean of the differences over common seeds. *Better than {BASELINE}* is
the probability that a run is better than a run of {BASELINE} (arXiv 2108.13264). Both have 95 %
bootstrap intervals, which are not corrected for the number of modes.
"""
        seeds = [each.n_common_seeds for each in standings.modes if each.mode != BASELINE]
        if min(seeds, default=FEW) < FEW:
            words += f"With fewer than {FEW} seeds bootstrap intervals are too narrow.\n"
    else:
        words += f"\nNothing is compared with {BASELINE}: {standings.no_baseline}.\n"
    if standings.left_out:
        names = ", ".join(standings.left_out)
        words += f"\nLeft out, because each setting has runs that diverged: {names}.\n"
    return markdown(columns, lines) + words


def _with_interval(found: Interval | None) -> str:
    return f"{number(found.value)} {interval(found.low, found.high)}" if found else DASH


def profiles_csv(file: Path, profiles: Sequence[Profile]) -> None:
    """Write the profiles as CSV, one row for each mode."""
    columns = ["mode", "studies"]
    columns += [f"{name}{end}" for name in ("ratio", "improvement") for end in ("", "_low", "_high")]
    write_csv(
        file,
        columns,
        (
            [each.mode, len(each.ratios), *_numbers(each.mean_ratio), *_numbers(each.improvement)]
            for each in profiles
        ),
    )


def profiles_md(profiles: Sequence[Profile], studies: Sequence[str], metric: Metric) -> str:
    """Return the profiles as Markdown.

    Args:
        profiles: The profiles of the modes.
        studies: The titles of the studies.
        metric: The metric of the report.
    """
    lines = [
        [each.mode, *(_with_interval(found) for found in (each.mean_ratio, each.improvement))]
        for each in profiles
    ]
    listed = "".join(f"* {study}\n" for study in studies)
    return (
        f"# {metric.heading} over {len(studies)} studies\n\n{listed}\n"
        + markdown(
            ["mode", f"{metric.title} / {BASELINE}, 95 % interval", f"better than {BASELINE}"], lines
        )
        + f"\nEach mode has its best setting in each study. Values are ratios to the mean of {BASELINE} "
        "in the study, averaged over studies with equal weights; the intervals are stratified bootstrap "
        "intervals (arXiv 2108.13264). "
        "Modes without a best setting in one of the studies are left out.\n\n"
        "![Share of runs within each ratio](profiles.png)\n"
    )
