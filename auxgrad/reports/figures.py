"""The figures of a report. A mode has the same colour, marker and dashes in all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from auxgrad.config.setting import BASELINES, Setting
from auxgrad.config.values import format_value
from auxgrad.reports.analysis import Comparison, Row
from auxgrad.reports.statistics import Estimate, MeanCurve

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers and dashes are for print
# without colours.
STYLES: dict[str, dict[str, Any]] = {
    "SingleTask": {"color": "#000000", "marker": "", "linestyle": "-"},
    "Multitask": {"color": "#D55E00", "marker": "s", "linestyle": (0, (5, 2))},
    "Projection": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "UnweightedCosine": {"color": "#009E73", "marker": "^", "linestyle": (0, (1, 1.5))},
    "WeightedCosine": {"color": "#CC79A7", "marker": "D", "linestyle": (0, (3, 1.5, 1, 1.5))},
    "Orthogonal": {"color": "#E69F00", "marker": "v", "linestyle": (0, (8, 2, 1, 2))},
}
# For modes of other origin.
FURTHER = ("#56B4E9", "#6F4E37", "#7F7F7F", "#9ACD32")
DASHED = (0, (3, 1))
BAND = 0.18  # Opacity.
MARGIN = 0.05  # Between data and frame, as a part of the data's range.
RC = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "savefig.dpi": 150,
    "svg.hashsalt": "auxgrad",  # Or equal figures would differ.
}
FAR, NEAR = 1.3, 1.1  # Times the lowest mean.
LOSS = "test loss (cross-entropy, nats)"

Family = tuple[str, bool, float]


def style(mode: str) -> dict[str, Any]:
    """Return colour, marker and dashes of a mode."""
    if mode in STYLES:
        return STYLES[mode]
    return {"color": FURTHER[sum(mode.encode()) % len(FURTHER)], "marker": "P", "linestyle": "--"}


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and SVG; equal figures are equal files."""
    with _look():
        figure.savefig(folder / f"{name}.png")
        figure.set_layout_engine(None)  # It has done its work, which takes as long as the drawing.
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def test_loss(rows: Sequence[Row], comparisons: Sequence[Comparison], title: str) -> Figure:
    """Draw the mean test loss over lam with 95 % bands: a column for each alpha, a row for each overall.

    Multitask, which has neither, and SingleTask as a level line are in all of them. Published means are
    hollow, with 95 % bars. Where the losses lie far apart, each row is drawn again around the lowest.
    """
    known = [row for row in rows if row.estimate is not None]
    censoring = {row.setting.family for row in known if row.setting.mode not in BASELINES}
    alphas = sorted({alpha for _, _, alpha in censoring}, reverse=True) or [1.0]
    overalls = sorted({overall for _, overall, _ in censoring}) or [False]
    published = {comparison.setting: comparison.published for comparison in comparisons}
    estimates = [row.estimate for row in known if row.estimate]
    lowest = min(estimate.mean for estimate in estimates)
    zooms = [False, True] if max(estimate.mean for estimate in estimates) > FAR * lowest else [False]
    lines = [(overall, zoom) for overall in overalls for zoom in zooms]
    with _look():
        figure = _figure((1.5 + 3.6 * len(alphas), 1.0 + 2.7 * len(lines)))
        axes = figure.subplots(len(lines), len(alphas), squeeze=False, sharex=True, sharey="row")
        for line, (overall, zoom) in zip(axes, lines, strict=True):
            for axis, alpha in zip(line, alphas, strict=True):
                _test_loss_panel(axis, known, published, overall, alpha)
                what = f"alpha={format_value(alpha)}" if censoring else "no censoring"
                axis.set_title(f"{what}{' overall=true' * overall}{', the lowest' * zoom}")
            line[0].set_ylabel(LOSS)
            if zoom:
                shown = [*estimates, *published.values()]
                near = [estimate for estimate in shown if estimate.mean < NEAR * lowest]
                ends = [end for estimate in near for end in (estimate.low, estimate.high, estimate.mean)]
                line[0].set_ylim(0.995 * np.nanmin(ends), 1.005 * np.nanmax(ends))
        for axis in axes[-1]:
            axis.set_xlabel("lam, weight of the auxiliary direction (log scale)")
        _finish(figure, axes.flat, title)
    return figure


def _test_loss_panel(
    axis: Axes, rows: Sequence[Row], published: Mapping[Setting, Estimate], overall: bool, alpha: float
) -> None:
    lams = sorted({row.setting.lam for row in rows if row.setting.lam > 0}) or [1.0]
    for row in rows:
        if row.setting.mode == "SingleTask":
            _level(axis, row, published.get(row.setting), lams)
    families: dict[Family, list[Row]] = {}
    for row in rows:
        if row.setting.lam > 0:
            families.setdefault(row.setting.family, []).append(row)
    for (mode, *knobs), own in families.items():
        if mode == "Multitask" or knobs == [overall, alpha]:
            _over_lam(axis, mode, own, published)
    axis.set_xscale("log")
    axis.set_xticks(lams, [format_value(lam) for lam in lams])
    axis.minorticks_off()


def _level(axis: Axes, row: Row, published: Estimate | None, lams: Sequence[float]) -> None:
    estimate, look = row.estimate, style("SingleTask")
    assert estimate is not None
    axis.axhline(estimate.mean, color=look["color"], label="SingleTask")
    if estimate.n > 1:
        axis.axhspan(estimate.low, estimate.high, color=look["color"], alpha=BAND / 2, linewidth=0)
    if published:
        axis.axhline(
            published.mean, color=look["color"], linestyle=(0, (1, 3)), label="SingleTask, published"
        )


def _over_lam(axis: Axes, mode: str, rows: list[Row], published: Mapping[Setting, Estimate]) -> None:
    look = style(mode)
    rows = sorted(rows, key=lambda row: row.setting.lam)
    estimates = [row.estimate for row in rows if row.estimate is not None]
    lams = [row.setting.lam for row in rows]
    axis.plot(lams, [estimate.mean for estimate in estimates], label=mode, **look)
    axis.fill_between(
        lams,
        [estimate.low for estimate in estimates],
        [estimate.high for estimate in estimates],
        color=look["color"],
        alpha=BAND,
        linewidth=0,
    )
    others = [(row.setting.lam, published[row.setting]) for row in rows if row.setting in published]
    if others:
        axis.errorbar(
            [lam * 1.06 for lam, _ in others],  # Beside ours, or neither could be seen.
            [estimate.mean for _, estimate in others],
            [0 if math.isnan(estimate.low) else estimate.mean - estimate.low for _, estimate in others],
            color=look["color"],
            marker=look["marker"],
            markerfacecolor="white",
            linestyle="none",
            capsize=2,
            linewidth=1,
            label=f"{mode}, published",
        )


def losses(curves: Mapping[Setting, Mapping[str, MeanCurve]], title: str) -> Figure:
    """Draw training and validation loss of each setting over training: mean and 95 % band over seeds.

    A row for each mode, alpha and overall, a column for each lam; SingleTask's validation loss is in
    all of them.
    """
    from matplotlib.lines import Line2D

    families: dict[Family, list[Setting]] = {}
    for setting in sorted(curves, key=lambda setting: setting.order):
        families.setdefault(setting.family, []).append(setting)
    lams = sorted({setting.lam for setting in curves if setting.lam > 0}) or [0.0]
    with _look():
        figure = _figure((2.2 + 1.9 * len(lams), 1.0 + 1.6 * len(families)))
        # Not shared: Matplotlib would compare each of the axes with all others, again and again.
        axes = figure.subplots(len(families), len(lams), squeeze=False)
        baseline = next((curves[setting] for setting in curves if setting.mode == "SingleTask"), {})
        for line, (family, own) in zip(axes, families.items(), strict=True):
            by_lam = {setting.lam: setting for setting in own}
            if family[0] == "SingleTask":
                by_lam = {lams[0]: own[0]}
            for axis, lam in zip(line, lams, strict=True):
                if lam in by_lam:
                    _losses_panel(axis, by_lam[lam], curves[by_lam[lam]], baseline)
                else:
                    axis.set_axis_off()
            line[0].set_ylabel("loss (nats)")
        _same_limits(axes.flat)
        for axis in axes[:-1].flat:
            axis.tick_params(labelbottom=False)
        for axis in axes[-1]:
            axis.set_xlabel("optimisation steps")
        look: dict[str, dict[str, Any]] = {
            "validation loss": {"color": "0"},
            "training loss": {"color": "0", "linestyle": DASHED},
        }
        look["validation loss of SingleTask"] = {"color": "0.5", "linewidth": 1}
        _finish(
            figure, axes.flat, title, {label: Line2D([], [], **each) for label, each in look.items()}
        )
    return figure


def _losses_panel(
    axis: Axes, setting: Setting, curves: Mapping[str, MeanCurve], baseline: Mapping[str, MeanCurve]
) -> None:
    if "val_loss" in baseline and setting.mode != "SingleTask":
        curve = baseline["val_loss"]
        axis.plot(curve.steps, curve.mean, color="0.5", linewidth=1)
    color = style(setting.mode)["color"]
    for name, dashes in (("val_loss", "-"), ("train_loss", DASHED)):
        if name in curves:
            _curve(axis, curves[name], color=color, linestyle=dashes)
    axis.set_title(setting.name.replace(" alpha", "\nalpha"), fontsize=7)
    axis.tick_params(labelsize=7)


def _same_limits(axes: Iterable[Axes]) -> None:
    """Show the same part of the plane, all data and a margin, in all axes."""
    axes = list(axes)
    corners = np.array([axis.dataLim.get_points() for axis in axes])
    corners[~np.isfinite(corners)] = np.nan  # Nothing is drawn there.
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


def censoring(curves: Mapping[Setting, Mapping[str, MeanCurve]], title: str) -> Figure:
    """Draw the cosine of auxiliary and reference direction, and how often it is negative.

    Over training, at the best lam of each mode, alpha and overall: mean and 95 % band over seeds.
    """
    alphas = sorted({setting.alpha for setting in curves}, reverse=True)
    with _look():
        figure = _figure((1.5 + 3.6 * len(alphas), 5.4))
        axes = figure.subplots(2, len(alphas), squeeze=False, sharex=True, sharey="row")
        for column, alpha in zip(axes.T, alphas, strict=True):
            column[0].set_title(f"reference with alpha={format_value(alpha)}")
            column[0].axhline(0, color="0.5", linewidth=0.8)
            for setting in sorted(curves, key=lambda setting: setting.order):
                if setting.alpha == alpha:
                    for axis, name in zip(column, ("cosine/overall", "conflict/overall"), strict=True):
                        if name in curves[setting]:
                            look = dict(style(setting.mode))
                            _curve(axis, curves[setting][name], label=setting.name, **look)
            column[1].set_xlabel("optimisation steps")
        axes[0, 0].set_ylabel("cosine of auxiliary\nand reference direction")
        axes[1, 0].set_ylabel("share of steps in conflict\n(cosine < 0)")
        _finish(figure, axes.flat, title)
    return figure


def _curve(axis: Axes, curve: MeanCurve, **look: Any) -> None:
    axis.plot(curve.steps, curve.mean, **look)
    axis.fill_between(curve.steps, curve.low, curve.high, color=look["color"], alpha=BAND, linewidth=0)


def _look() -> AbstractContextManager[None]:
    import matplotlib as mpl

    return mpl.rc_context(RC)


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _finish(
    figure: Figure, axes: Iterable[Axes], title: str, handles: Mapping[str, Any] | None = None
) -> None:
    """Add a title above and one legend below all data, made of the labels in the axes unless given."""
    figure.suptitle(title, fontsize=10)
    if handles is None:
        handles = {
            label: handle
            for axis in axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False
    )
