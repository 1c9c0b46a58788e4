"""What the figures show, and how."""

from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pytest

from auxgrad.config.setting import Setting
from auxgrad.reports import analysis, figures
from auxgrad.reports.csv_files import read_published
from auxgrad.reports.runs import ReportedRun, RunSet, Study
from auxgrad.reports.statistics import MeanCurve


@pytest.fixture
def drawn():
    """The figure of test losses of two censoring modes, and the rows that it is drawn of."""
    chance = np.random.default_rng(0)
    runs = [
        ReportedRun(
            Setting.of(mode, False, alpha, lam),
            seed,
            Study.named("imdb25k"),
            loss=chance.normal(0.3, 0.01) + lam / 500,
        )
        for mode in ("SingleTask", "Multitask", "Projection", "Orthogonal")
        for alpha in (0.01, 1.0)
        for lam in (1.0, 10.0, 100.0)
        for seed in range(4)
    ]
    rows = analysis.table(RunSet(list({(run.setting, run.seed): run for run in runs}.values())))
    comparisons = analysis.compare(rows, read_published("figure7"))
    return rows, figures.test_loss(rows, comparisons, "title")


def test_the_figure_shows_every_mean(drawn):
    rows, figure = drawn
    assert [axis.get_title() for axis in figure.axes] == [
        *("alpha=1", "alpha=0.01", "alpha=1, the lowest", "alpha=0.01, the lowest")
    ]
    for axis, alpha in zip(figure.axes[:2], (1.0, 0.01), strict=True):
        assert axis.get_xscale() == "log"
        assert "lam" in figure.axes[2].get_xlabel()
        assert "nats" in axis.get_ylabel() or alpha == 0.01
        lines = {line.get_label(): line for line in axis.get_lines()}
        for mode in ("Multitask", "Projection", "Orthogonal"):
            expected = [
                (row.setting.lam, row.estimate.mean)
                for row in rows
                if row.setting.mode == mode
                and row.setting.alpha in (alpha, *([1.0] * (mode == "Multitask")))
            ]
            assert lines[mode].get_xydata().tolist() == [list(pair) for pair in expected]
        [single] = [row.estimate.mean for row in rows if row.setting.mode == "SingleTask"]
        assert set(lines["SingleTask"].get_ydata()) == {single}


def test_modes_can_be_told_apart_without_colours(drawn):
    looks = {(repr(look["marker"]), repr(look["linestyle"])) for look in figures.STYLES.values()}
    assert len(looks) == len({look["color"] for look in figures.STYLES.values()}) == 6
    _, figure = drawn
    for axis in figure.axes:
        for line in axis.get_lines():
            mode = str(line.get_label()).partition(",")[0]
            if mode in figures.STYLES:
                assert line.get_color() == figures.STYLES[mode]["color"]


def test_the_legend_covers_no_data(drawn):
    _, figure = drawn
    figure.canvas.draw()
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes)
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == len(set(labels)) == 4 + 3  # Orthogonal is not in figure 7.


def test_drawing_leaves_matplotlib_as_it_was(drawn, tmp_path):
    before = dict(mpl.rcParams)
    figures.save(drawn[1], tmp_path, "figure")
    assert dict(mpl.rcParams) == before


def test_all_loss_curves_have_the_same_limits():
    curves = {
        Setting.of(mode, False, 1.0, lam): {
            "val_loss": MeanCurve.of([{10: 0.5, 20: top}, {10: 0.4, 20: 0.3}]),
            "train_loss": MeanCurve.of([{10: 0.6, 20: 0.4}] * 2),
        }
        for mode, lam, top in (
            *(("SingleTask", 0.0, 0.4), ("Multitask", 1.0, 0.4), ("Multitask", 3.0, 0.9)),
            ("Projection", 3.0, 0.4),
        )
    }
    figure = figures.losses(curves, "title")
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) == 4
    assert len({(axis.get_xlim(), axis.get_ylim()) for axis in shown}) == 1
    for axis in shown:
        for line in axis.get_lines():
            x, y = line.get_xydata().T
            assert axis.get_xlim()[0] < x.min() < x.max() < axis.get_xlim()[1]
            assert axis.get_ylim()[0] < y.min() < y.max() < axis.get_ylim()[1]


@pytest.mark.parametrize("value", [0.3, np.nan])
def test_curves_of_one_point_and_of_none(value, tmp_path):
    curves = {Setting.of("Multitask", False, 1.0, 3.0): {"val_loss": MeanCurve.of([{10: value}])}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save(figures.losses(curves, "title"), tmp_path, "losses")
