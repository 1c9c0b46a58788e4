"""Draw the figures of modes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from auxgrad.reports.metric import Metric
from auxgrad.reports.modes.profiles import Profile
from auxgrad.reports.modes.standings import BASELINE, Standings
from auxgrad.reports.styles import Styles, finish, new_figure, rc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 200  # The number of points of a profile.


def best_of_modes(standings: Standings, title: str, metric: Metric, mode_styles: Styles) -> Figure:
    """Draw the runs of the best setting of each mode, with their mean and its 95 % interval.

    Args:
        standings: The standings of the modes.
        title: The title of the figure.
        metric: The metric of the report.
        mode_styles: The style of each mode.
    """
    with rc():
        figure = new_figure((6.5, 1.2 + 0.27 * len(standings.modes)))
        axis = figure.subplots()
        for place, each in enumerate(reversed(standings.modes)):
            estimate, style = each.estimate, mode_styles[each.mode]
            axis.plot(
                each.row.values,
                [place] * estimate.n,
                marker="|",
                color="0.65",
                linestyle="none",
                markersize=7,
                zorder=1,
            )
            half = 0.0 if math.isnan(estimate.low) else estimate.high - estimate.mean
            axis.errorbar(
                estimate.mean,
                place,
                xerr=half,
                color=style["color"],
                marker=style["marker"] or "o",
                capsize=3,
                zorder=2,
            )
            if each.mode == BASELINE:
                axis.axvline(estimate.mean, color="0.5", linewidth=0.8, zorder=0)
        names = [each.row.setting.name for each in reversed(standings.modes)]
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_xlabel(metric.axis)
        axis.grid(axis="y", visible=False)
        figure.suptitle(title, fontsize=10, wrap=True)
    return figure


def profiles(found: Sequence[Profile], title: str, metric: Metric, mode_styles: Styles) -> Figure:
    """Draw the share of runs of each mode that are at least as good as each ratio to the baseline.

    Args:
        found: The profiles of the modes.
        title: The title of the figure.
        metric: The metric of the report.
        mode_styles: The style of each mode.
    """
    ratios = np.concatenate([own for each in found for own in each.ratios])
    # The worst tenth of the runs is cut off, because it may be far away.
    first, last = np.quantile(ratios, [0.1, 1.0] if metric.maximize else [0.0, 0.9])
    points = np.linspace(first, last, POINTS)
    with rc():
        figure = new_figure((6.5, 4.6 + 0.2 * math.ceil(len(found) / 4)))
        axis = figure.subplots()
        for number, each in enumerate(found):
            shares = each.share_within(points, metric.maximize)
            # Each mode has markers at other points, so that close curves do not hide them.
            every = (number * 3 % 20, 20)
            axis.step(
                points, shares, where="post", label=each.mode, markevery=every, **mode_styles[each.mode]
            )
        axis.axvline(1, color="0.5", linewidth=0.8)
        axis.set_xlabel(f"{metric.title} / mean of {BASELINE}")
        axis.set_ylabel("share of runs at least as good")
        finish(figure, [axis], title)
    return figure
