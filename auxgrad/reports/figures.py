"""Draw the figures of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from auxgrad.config.setting import Setting
from auxgrad.config.values import format_value
from auxgrad.reports.analysis import Comparison, Row
from auxgrad.reports.metric import Metric
from auxgrad.reports.statistics import Estimate, MeanCurve
from auxgrad.reports.styles import Styles, finish, new_figure, rc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHED = (0, (3, 1))
BAND = 0.18  # Opacity.
MARGIN = 0.05  # The margin between data and frame, as a part of the range of the data.
FAR, NEAR = 0.3, 0.1  # Distances from the best mean, as parts of it.
BASELINE: dict[str, Any] = {"color": "0.5", "linewidth": 1}

Family = tuple[str, bool, float]
Curves = Mapping[Setting, Mapping[str, MeanCurve]]


def over_lam(
    rows: Sequence[Row],
    comparisons: Sequence[Comparison],
    title: str,
    metric: Metric,
    mode_styles: Styles,
) -> Figure:
    """Draw the mean over lam with 95 % bands: a column for each alpha, a row for each overall.

    Modes that do not use alpha (or overall) are in all columns (or rows). Modes without lam are
    horizontal lines. Published means are hollow markers with 95 % bars. If the means are far apart,
    each row is drawn again around the best mean.

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
            line[0].set_ylabel(metric.axis)
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
    for mode, own in by_mode.items():
        _over_lam(axis, mode, own, published, mode_styles[mode])
    axis.set_xscale("log")
    axis.set_xticks(lams, [format_value(lam) for lam in lams])
    axis.minorticks_off()


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
) -> None:
    rows = sorted(rows, key=lambda row: row.setting.lam)
    estimates = [row.estimate for row in rows if row.estimate is not None]
    lams = [row.setting.lam for row in rows]
    axis.plot(lams, [estimate.mean for estimate in estimates], label=mode, **style)
    axis.fill_between(
        lams,
        [estimate.low for estimate in estimates],
        [estimate.high for estimate in estimates],
        color=style["color"],
        alpha=BAND,
        linewidth=0,
    )
    others = [(row.setting.lam, published[row.setting]) for row in rows if row.setting in published]
    if others:
        axis.errorbar(
            # Published means are beside the markers of this study, so that both can be seen.
            [lam * 1.06 for lam, _ in others],
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


def over_training(
    curves: Curves, title: str, mode_styles: Styles, names: Mapping[str, str], label: str
) -> Figure:
    """Draw curves of each setting over training: mean and 95 % band over seeds.

    There is a row for each mode, alpha and overall, and a column for each lam. The first curve of
    SingleTask, which uses no knob, is in all panels.

    Args:
        curves: The curves of each setting, by the name of the metric.
        title: The title of the figure.
        mode_styles: The style of each mode.
        names: The label of each metric in the legend, by its name. The first metric is solid, the
            others are dashed.
        label: The label of the vertical axes.
    """
    from matplotlib.lines import Line2D

    families: dict[Family, list[Setting]] = {}
    for setting in sorted(curves, key=lambda setting: setting.order):
        families.setdefault(setting.family, []).append(setting)
    lams = sorted({setting.lam for setting in curves if "lam" in setting.used}) or [0.0]
    first, *others = names
    baseline = next((own[0] for own in families.values() if not own[0].used), None)
    behind = curves[baseline].get(first) if baseline else None
    with rc():
        figure = new_figure((2.2 + 1.9 * len(lams), 1.0 + 1.6 * len(families)))
        # The axes are not shared, because Matplotlib would compare each of them with all others.
        axes = figure.subplots(len(families), len(lams), squeeze=False)
        for line, own in zip(axes, families.values(), strict=True):
            by_lam = {each.lam if "lam" in each.used else lams[0]: each for each in own}
            for axis, lam in zip(line, lams, strict=True):
                shown = by_lam.get(lam)
                if shown:
                    if behind and shown != baseline:
                        axis.plot(behind.steps, behind.mean, **BASELINE)
                    _panel_over_training(axis, shown, curves[shown], names, mode_styles)
                else:
                    axis.set_axis_off()
            line[0].set_ylabel(label)
        _same_limits(axes.flat)
        for axis in axes[:-1].flat:
            axis.tick_params(labelbottom=False)
        for axis in axes[-1]:
            axis.set_xlabel("optimisation steps")
        handles: dict[str, dict[str, Any]] = {names[first]: {"color": "0"}}
        handles |= {names[name]: {"color": "0", "linestyle": DASHED} for name in others}
        if baseline and behind:
            handles[f"{names[first]} of {baseline.mode}"] = BASELINE
        legend = {words: Line2D([], [], **each) for words, each in handles.items()}
        finish(figure, axes.flat, title, legend)
    return figure


def _panel_over_training(
    axis: Axes,
    setting: Setting,
    curves: Mapping[str, MeanCurve],
    names: Iterable[str],
    mode_styles: Styles,
) -> None:
    for number, name in enumerate(names):
        if name in curves:
            color = mode_styles[setting.mode]["color"]
            _curve(axis, curves[name], color=color, linestyle=DASHED if number else "-")
    axis.set_title(setting.name.replace(" alpha", "\nalpha"), fontsize=7)
    axis.tick_params(labelsize=7)


def _same_limits(axes: Iterable[Axes]) -> None:
    """Set the same limits, all data and a margin, in all axes."""
    axes = list(axes)
    corners = np.array([axis.dataLim.get_points() for axis in axes])
    corners[~np.isfinite(corners)] = np.nan  # Axes without data.
    if np.isnan(corners).all():
        return
    ranges = []
    for kind, low, high in zip(
        (axes[0].xaxis, axes[0].yaxis),
        np.nanmin(corners[:, 0], axis=0),
        np.nanmax(corners[:, 1], axis=0),
        strict=True,
    ):
        low, high = kind.get_major_locator().nonsingular(low, high)
        ranges.append((low - MARGIN * (high - low), high + MARGIN * (high - low)))
    for axis in axes:
        axis.set(xlim=ranges[0], ylim=ranges[1])


def censoring(curves: Curves, title: str, mode_styles: Styles) -> Figure:
    """Draw the cosine of auxiliary and reference direction, and how often it is negative.

    Both are drawn over training, as mean and 95 % band over seeds.

    Args:
        curves: The curves of each setting that is drawn, by the name of the metric.
        title: The title of the figure.
        mode_styles: The style of each mode.
    """
    alphas = sorted({setting.alpha for setting in curves}, reverse=True)
    with rc():
        figure = new_figure((1.5 + 3.6 * len(alphas), 5.4))
        axes = figure.subplots(2, len(alphas), squeeze=False, sharex=True, sharey="row")
        for column, alpha in zip(axes.T, alphas, strict=True):
            column[0].set_title(f"alpha={format_value(alpha)}")
            column[0].axhline(0, color="0.5", linewidth=0.8)
            for setting in sorted(curves, key=lambda setting: setting.order):
                if setting.alpha == alpha:
                    for axis, name in zip(column, ("cosine/overall", "conflict/overall"), strict=True):
                        if name in curves[setting]:
                            curve, style = curves[setting][name], mode_styles[setting.mode]
                            every = max(1, len(curve.steps) // 8)
                            _curve(axis, curve, label=setting.name, markevery=every, **style)
            column[1].set_xlabel("optimisation steps")
        # A band may extend beyond the possible values.
        for axis, (low, high) in zip(axes[:, 0], ((-1, 1), (0, 1)), strict=True):
            bottom, top = axis.get_ylim()
            axis.set_ylim(max(bottom, low - MARGIN), min(top, high + MARGIN))
        axes[0, 0].set_ylabel("cosine of auxiliary\nand reference direction")
        axes[1, 0].set_ylabel("share of steps in conflict\n(cosine < 0)")
        finish(figure, axes.flat, title)
    return figure


def _curve(axis: Axes, curve: MeanCurve, **style: Any) -> None:
    axis.plot(curve.steps, curve.mean, **style)
    axis.fill_between(curve.steps, curve.low, curve.high, color=style["color"], alpha=BAND, linewidth=0)
