"""Draw the means of all settings over lam."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from auxgrad.config.setting import Setting
from auxgrad.config.values import format_value
from auxgrad.reports.analysis import Comparison, Row
from auxgrad.reports.metric import Metric
from auxgrad.reports.statistics import Estimate
from auxgrad.reports.styles import BAND, LABEL, Styles, finish, new_figure, rc, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR, NEAR = 0.3, 0.1  # Distances from the best mean, as parts of it.
MOST_BANDS = 3  # More bands cover each other.
# Factors in lam by which markers are moved that would cover each other: those of modes if there is only
# one lam, and those of published means beside the means of this study.
APART, BESIDE = 1.12, 1.06
SPREAD = 0.5  # The part of the distance between two lams over which the markers of modes are spread.


def over_lam(
    rows: Sequence[Row],
    comparisons: Sequence[Comparison],
    title: str,
    metric: Metric,
    mode_styles: Styles,
) -> Figure:
    """Draw the mean over lam with 95 % bands: a column for each alpha, a row for each overall.

    Modes that do not use alpha (or overall) are in all columns (or rows). Modes without lam are
    horizontal lines. Modes with a single lam have 95 % bars, and so have all modes with lam if there
    are more than `MOST_BANDS` of them; their markers are then side by side, as they are if there is
    only one lam. Published means are hollow markers with 95 % bars. If the means are far apart, each
    row is drawn again around the best mean.

    Args:
        rows: The rows of the table.
        comparisons: The comparisons with published results.
        title: The title of the figure.
        metric: The metric of the report.
        mode_styles: The style of each mode.
    """
    known = [row for row in rows if row.estimate is not None]
    alphas = sorted({row.setting.alpha for row in known if "alpha" in row.setting.used}, reverse=True)
    overalls = sorted({row.setting.overall for row in known if "overall" in row.setting.used})
    published = {comparison.setting: comparison.published for comparison in comparisons}
    estimates = [row.estimate for row in known if row.estimate]
    limits = _around_the_best(estimates, published.values(), metric)
    zooms = [False, True] if limits else [False]
    lines = [(overall, zoom) for overall in overalls or [False] for zoom in zooms]
    with rc():
        figure = new_figure((1.5 + 3.6 * max(1, len(alphas)), 1.0 + 2.7 * len(lines)))
        axes = figure.subplots(len(lines), max(1, len(alphas)), squeeze=False, sharex=True, sharey="row")
        for line, (overall, zoom) in zip(axes, lines, strict=True):
            for axis, alpha in zip(line, alphas or [1.0], strict=True):
                shown = [row for row in known if _belongs(row.setting, alpha, overall)]
                _panel_over_lam(axis, shown, published, mode_styles)
                words = [f"alpha={format_value(alpha)}"] * bool(alphas) + ["overall=true"] * overall
                parts = [" ".join(words), f"the {metric.best}" * zoom]
                axis.set_title(", ".join(part for part in parts if part))
            line[0].set_ylabel(wrapped(metric.axis, LABEL))
            if zoom:
                line[0].set_ylim(limits)
        for axis in axes[-1]:
            axis.set_xlabel("lam, weight of the auxiliary direction (log scale)")
        finish(figure, axes.flat, title)
    return figure


def _belongs(setting: Setting, alpha: float, overall: bool) -> bool:
    """Return whether a setting is in the panel of this alpha and overall."""
    return setting.used.get("alpha", alpha) == alpha and setting.used.get("overall", overall) == overall


def _around_the_best(
    estimates: Sequence[Estimate], published: Iterable[Estimate], metric: Metric
) -> tuple[float, float] | None:
    """Return limits that show the means near the best one, or None if all means are near it."""
    best = min(metric.cost(estimate.mean) for estimate in estimates)

    def is_within(part: float, estimate: Estimate) -> bool:
        return metric.cost(estimate.mean) - best <= part * abs(best)

    if best == 0 or all(is_within(FAR, estimate) for estimate in estimates):
        return None  # A best mean of zero gives no scale.
    near = [estimate for estimate in (*estimates, *published) if is_within(NEAR, estimate)]
    ends = [end for estimate in near for end in (estimate.low, estimate.high, estimate.mean)]
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    return low - 0.005 * abs(low), high + 0.005 * abs(high)


def _panel_over_lam(
    axis: Axes, rows: Sequence[Row], published: Mapping[Setting, Estimate], mode_styles: Styles
) -> None:
    lams = sorted({row.setting.lam for row in rows if "lam" in row.setting.used}) or [1.0]
    by_mode: dict[str, list[Row]] = {}
    for row in rows:
        if "lam" in row.setting.used:
            by_mode.setdefault(row.setting.mode, []).append(row)
        else:
            _level(axis, row, published.get(row.setting), mode_styles[row.setting.mode])
    has_bands = len(by_mode) <= MOST_BANDS
    step = _step(lams, len(by_mode)) if len(lams) == 1 or not has_bands else 1.0
    for place, (mode, own) in enumerate(by_mode.items()):
        factor = step ** (place - (len(by_mode) - 1) / 2)
        beside = factor * (math.sqrt(step) if step > 1 else BESIDE)
        _over_lam(axis, mode, own, published, mode_styles[mode], (factor, beside), has_bands)
    if len(lams) == 1 and by_mode:
        axis.margins(x=0.2)
    axis.set_xscale("log")
    axis.set_xticks(lams, [format_value(lam) for lam in lams])
    axis.minorticks_off()


def _step(lams: Sequence[float], n_modes: int) -> float:
    """Return the factor in lam between the markers of two modes that are side by side."""
    ratios = [after / before for before, after in itertools.pairwise(lams)]
    return min(ratios) ** (SPREAD / n_modes) if ratios else APART


def _level(axis: Axes, row: Row, published: Estimate | None, style: Mapping[str, Any]) -> None:
    estimate, mode = row.estimate, row.setting.mode
    assert estimate is not None
    axis.axhline(estimate.mean, label=mode, **style)
    if estimate.n > 1:
        axis.axhspan(estimate.low, estimate.high, color=style["color"], alpha=BAND / 2, linewidth=0)
    if published:
        axis.axhline(
            published.mean, color=style["color"], linestyle=(0, (1, 3)), label=f"{mode}, published"
        )


def _over_lam(
    axis: Axes,
    mode: str,
    rows: list[Row],
    published: Mapping[Setting, Estimate],
    style: Mapping[str, Any],
    factors: tuple[float, float],
    has_band: bool,
) -> None:
    factor, beside = factors  # Those of the means of this study, and of published ones.
    rows = sorted(rows, key=lambda row: row.setting.lam)
    estimates = [row.estimate for row in rows if row.estimate is not None]
    lams = [row.setting.lam * factor for row in rows]
    axis.plot(lams, [estimate.mean for estimate in estimates], label=mode, **style)
    ends = [estimate.low for estimate in estimates], [estimate.high for estimate in estimates]
    if has_band and len(lams) > 1:
        axis.fill_between(lams, *ends, color=style["color"], alpha=BAND, linewidth=0)
    elif any(estimate.n > 1 for estimate in estimates):
        axis.vlines(lams, *ends, color=style["color"])
    others = [(row.setting.lam, published[row.setting]) for row in rows if row.setting in published]
    if others:
        axis.errorbar(
            [lam * beside for lam, _ in others],
            [estimate.mean for _, estimate in others],
            [0 if math.isnan(estimate.low) else estimate.mean - estimate.low for _, estimate in others],
            color=style["color"],
            marker=style["marker"],
            markerfacecolor="white",
            linestyle="none",
            capsize=2,
            linewidth=1,
            label=f"{mode}, published",
        )
