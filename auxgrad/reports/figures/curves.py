"""Draw curves over training: losses and other metrics, cosines and conflicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from auxgrad.config.setting import Setting
from auxgrad.config.values import format_value
from auxgrad.reports.statistics import MeanCurve
from auxgrad.reports.styles import BAND, FONT, LABEL, Styles, finish, new_figure, rc, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHED = (0, (3, 1))
MARGIN = 0.05  # The margin between data and frame, as a part of the range of the data.
BASELINE: dict[str, Any] = {"color": "0.5", "linewidth": 1}
COSINE, CONFLICT, OVERALL = "cosine/", "conflict/", "overall"
LIMITS = {COSINE: (-1, 1), CONFLICT: (0, 1)}  # The possible values.
WIDTH, HEIGHT = 1.9, 1.6  # The size of a panel of `over_training` with its title, in inches.

Family = tuple[str, bool, float]
Curves = Mapping[Setting, Mapping[str, MeanCurve]]


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
        label: The common label of the vertical axes.
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
        figure = new_figure((2.2 + WIDTH * len(lams), 1.0 + HEIGHT * len(families)))
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
        figure.supylabel(wrapped(label, HEIGHT * len(families)), fontsize=FONT)
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
    axis.set_title(wrapped(setting.name.replace(" alpha", "\nalpha"), WIDTH, 7), fontsize=7)
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

    Both are drawn over training, as mean and 95 % band over seeds. There is a column for each alpha;
    modes that do not use alpha are in all columns. Several auxiliaries have two rows of panels each.

    Args:
        curves: The curves of each setting that is drawn, by the name of the metric.
        title: The title of the figure.
        mode_styles: The style of each mode.
    """
    alphas = sorted({setting.alpha for setting in curves if "alpha" in setting.used}, reverse=True)
    names = dict.fromkeys(
        name.removeprefix(COSINE) for own in curves.values() for name in own if name.startswith(COSINE)
    )
    kinds = [(kind, name) for name in names for kind in (COSINE, CONFLICT)]
    with rc():
        figure = new_figure((1.5 + 3.6 * max(1, len(alphas)), 2.7 * len(kinds)))
        shape = len(kinds), max(1, len(alphas))
        axes = figure.subplots(*shape, squeeze=False, sharex=True, sharey="row")
        for column, alpha in zip(axes.T, alphas or [1.0], strict=True):
            column[0].set_title(f"alpha={format_value(alpha)}" * bool(alphas))
            for axis, (kind, name) in zip(column, kinds, strict=True):
                if kind == COSINE:
                    axis.axhline(0, color="0.5", linewidth=0.8)
                for setting in sorted(curves, key=lambda setting: setting.order):
                    is_here = setting.used.get("alpha", alpha) == alpha
                    if is_here and kind + name in curves[setting]:
                        curve, style = curves[setting][kind + name], mode_styles[setting.mode]
                        every = max(1, len(curve.steps) // 8)
                        words = {"label": setting.name, "markevery": every}
                        _curve(axis, curve, LIMITS[kind], **words, **style)
            column[-1].set_xlabel("optimisation steps")
        for axis, (kind, name) in zip(axes[:, 0], kinds, strict=True):
            auxiliary = name.removesuffix(OVERALL).rstrip("/")
            if kind == COSINE:
                label = f"cosine of {auxiliary or 'auxiliary'}\nand reference direction"
            else:
                of = f" of {auxiliary}" if auxiliary else ""
                label = f"share of steps in conflict\n(cosine{of} < 0)"
            axis.set_ylabel(wrapped(label, LABEL))
        finish(figure, axes.flat, title)
    return figure


def _curve(
    axis: Axes,
    curve: MeanCurve,
    limits: tuple[float, float] = (-math.inf, math.inf),
    **style: Any,
) -> None:
    axis.plot(curve.steps, curve.mean, **style)
    # Student's interval may extend beyond the possible values.
    low, high = np.clip(curve.low, *limits), np.clip(curve.high, *limits)
    axis.fill_between(curve.steps, low, high, color=style["color"], alpha=BAND, linewidth=0)
