"""The figures show all values, with distinct styles."""

from __future__ import annotations

import itertools
import warnings
from operator import attrgetter

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection

from auxgrad.config.groups import options
from auxgrad.config.setting import Setting
from auxgrad.reports import analysis, figures, styles
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.published import read_published
from auxgrad.reports.runs import ReportedRun, RunSet, Study
from auxgrad.reports.statistics import MeanCurve

LABELLED = Metric(loss_label="cross-entropy, nats")
SEVERAL = [Setting.of("Orthogonal", False, 1.0, lam) for lam in (1.0, 3.0)]
LOSSES = {"val_loss": "validation loss", "train_loss": "training loss"}


def rows_of(values, metric=LOSS):
    """Return rows of four runs each, around these means."""
    chance = np.random.default_rng(0)
    runs = [
        ReportedRun(setting, seed, Study.named("x"), value=mean + chance.normal(0, 0.01), loss=0.3)
        for setting, mean in values.items()
        for seed in range(4)
    ]
    return analysis.table(RunSet(runs), metric)


def over_lam(rows, comparisons=(), metric=LABELLED):
    mode_styles = styles.of_modes(row.setting.mode for row in rows)
    return figures.over_lam(rows, comparisons, "title", metric, mode_styles)


@pytest.fixture
def drawn():
    """Return rows of several modes, and the figure of their test losses."""
    rows = rows_of(
        {
            Setting.of(mode, False, alpha, lam): 0.3 + lam / 500
            for mode in ("SingleTask", "Multitask", "Projection", "Orthogonal")
            for alpha in (0.01, 1.0)
            for lam in (1.0, 10.0, 100.0)
        }
    )
    return rows, over_lam(
        rows, analysis.compare(rows, read_published("figure7").of(Study.named("reviews")))
    )


def test_the_figure_shows_every_mean(drawn):
    rows, figure = drawn
    assert [axis.get_title() for axis in figure.axes] == [
        *("alpha=1", "alpha=0.01", "alpha=1, the lowest", "alpha=0.01, the lowest")
    ]
    assert figure.axes[0].get_ylabel() == "test loss (cross-entropy, nats)"
    for axis, alpha in zip(figure.axes[:2], (1.0, 0.01), strict=True):
        assert axis.get_xscale() == "log"
        assert "lam" in figure.axes[2].get_xlabel()
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


def test_a_custom_mode_is_drawn_by_the_knobs_that_it_uses():
    free, level = Setting("Free", False, 1.0, 3.0, ("lam",)), Setting("Level", False, 1.0, 0.0, ())
    bound, slow = (Setting("Bound", False, alpha, 3.0, ("lam", "alpha")) for alpha in (1.0, 0.5))
    figure = over_lam(rows_of(dict.fromkeys((free, level, bound, slow), 0.3)), metric=LOSS)
    assert [axis.get_title() for axis in figure.axes] == ["alpha=1", "alpha=0.5"]
    assert figure.axes[0].get_ylabel() == "test loss"
    for axis in figure.axes:
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert lines.keys() == {"Free", "Level", "Bound"}
        assert len(set(lines["Level"].get_ydata())) == 1
        assert lines["Level"].get_xdata() == [0, 1]  # The line has the full width.
    assert [axis.get_title() for axis in over_lam(rows_of({free: 0.3})).axes] == [""]


@pytest.mark.parametrize(
    ("means", "maximize", "seen"),
    [
        ((0.30, 0.32, 0.50), False, (0.30, 0.32)),
        ((0.90, 0.85, 0.50), True, (0.90, 0.85)),
        ((-9.0, -8.5, -2.0), False, (-9.0, -8.5)),
        ((-2.0, -2.1, -9.0), True, (-2.0, -2.1)),
        ((0.30, 0.32, 0.38), False, None),
        ((0.90, 0.85, 0.70), True, None),
    ],
)
def test_means_far_from_the_best_are_drawn_again_without_them(means, maximize, seen):
    metric = Metric("test_x", maximize)
    settings = [Setting.of("Multitask", False, 1.0, lam) for lam in (1.0, 3.0, 10.0)]
    figure = over_lam(rows_of(dict(zip(settings, means, strict=True)), metric), metric=metric)
    assert [axis.get_title() for axis in figure.axes[1:]] == [f"the {metric.best}"] * (seen is not None)
    assert figure.axes[0].get_ylabel() == "test x"
    if seen:
        low, high = figure.axes[1].get_ylim()
        assert low < min(seen) < max(seen) < high
        assert all(mean in seen or not low < mean < high for mean in means)


def test_a_best_of_zero_has_no_scale():
    settings = [Setting.of("Multitask", False, 1.0, lam) for lam in (1.0, 3.0)]
    runs = [
        ReportedRun(setting, 0, Study.named("x"), value=value, loss=0.3)
        for setting, value in zip(settings, (0.0, 0.5), strict=True)
    ]
    assert len(over_lam(analysis.table(RunSet(runs))).axes) == 1


def test_modes_can_be_told_apart_without_colours(drawn):
    assert set(styles.STYLES) == set(options("mode"))
    assert len({style["marker"] for style in styles.STYLES.values()}) == len(styles.STYLES)
    _, figure = drawn
    for axis in figure.axes:
        for line in axis.get_lines():
            mode = str(line.get_label()).partition(",")[0]
            if mode in styles.STYLES:
                assert line.get_color() == styles.STYLES[mode]["color"]


def test_no_two_modes_look_alike():
    modes = [f"Own{number}" for number in range(130)] + list(styles.STYLES)
    mode_styles = styles.of_modes(modes)
    assert len({tuple(map(repr, style.values())) for style in mode_styles.values()}) == len(modes)
    assert all(mode_styles[mode] == style for mode, style in styles.STYLES.items())
    # Names with two letters swapped once had the same style.
    settings = [Setting(mode, False, 1.0, 3.0, ("lam",)) for mode in ("ab", "ba")]
    [axis] = over_lam(rows_of(dict.fromkeys(settings, 0.3))).axes
    first, second = axis.get_lines()
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()


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
    styles.save(drawn[1], tmp_path, "figure")
    assert dict(mpl.rcParams) == before


def over_training(curves, names=LOSSES):
    mode_styles = styles.of_modes(setting.mode for setting in curves)
    return figures.over_training(curves, "title", mode_styles, names, LABELLED.loss_axis)


def test_the_curve_of_the_setting_without_knobs_is_behind_all():
    curve, own = MeanCurve.of([{10: 0.5, 20: 0.4}]), Setting("Level", False, 1.0, 0.0, ())
    curves = {own: {"val_x": curve}, Setting.of("Multitask", False, 1.0, 3.0): {"val_x": curve}}
    figure = over_training(curves, {"val_x": "validation x"})
    assert [len(axis.get_lines()) for axis in figure.axes] == [1, 2]
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["validation x", "validation x of Level"]
    del curves[own]
    [legend] = over_training(curves, {"val_x": "validation x"}).legends
    assert [text.get_text() for text in legend.get_texts()] == ["validation x"]


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
    figure = over_training(curves)
    assert figure.get_supylabel() == "loss (nats)"
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) == 4
    assert len({(axis.get_xlim(), axis.get_ylim()) for axis in shown}) == 1
    for axis in shown:
        for line in axis.get_lines():
            x, y = line.get_xydata().T
            assert axis.get_xlim()[0] < x.min() < x.max() < axis.get_xlim()[1]
            assert axis.get_ylim()[0] < y.min() < y.max() < axis.get_ylim()[1]


def test_a_single_lam_has_intervals():
    rows = rows_of({Setting.of(mode, False, 1.0, 3.0): 0.3 for mode in ("Multitask", "Orthogonal")})
    [axis] = over_lam(rows).axes
    bars = [each.get_segments()[0] for each in axis.collections if isinstance(each, LineCollection)]
    drawn = {bar[0][0]: bar for bar in bars}
    assert len(drawn) == 2  # The modes are side by side.
    for row, line in zip(rows, axis.get_lines(), strict=True):
        [x], [y] = line.get_xdata(), line.get_ydata()
        assert (x, y) == (pytest.approx(3, rel=0.1), row.estimate.mean)
        assert drawn[x].tolist() == [[x, row.estimate.low], [x, row.estimate.high]]
    # A mode that has one lam among others is at this lam.
    rows = rows_of({Setting.of("Multitask", False, 1.0, 3.0): 0.3, **dict.fromkeys(SEVERAL, 0.3)})
    [axis] = over_lam(rows).axes
    assert [line.get_xdata().tolist() for line in axis.get_lines()] == [[3], [1, 3]]
    # One run has no interval.
    runs = [ReportedRun(SEVERAL[0], 0, Study.named("x"), value=0.3, loss=0.3)]
    [axis] = over_lam(analysis.table(RunSet(runs))).axes
    assert not axis.collections


def test_the_intervals_of_many_modes_do_not_cover_each_other():
    modes = ("Multitask", "PCGrad", "MGDA", "UPGrad", "Mean")
    lams = (1.0, 3.0, 30.0)

    def drawn(n):
        settings = [Setting.of(mode, False, 1.0, lam) for mode in modes[:n] for lam in lams]
        [axis] = over_lam(rows_of(dict.fromkeys(settings, 0.3))).axes
        kinds = [
            [each for each in axis.collections if isinstance(each, kind)]
            for kind in (PolyCollection, LineCollection)
        ]
        return axis, *kinds

    axis, bands, bars = drawn(3)
    assert (len(bands), len(bars)) == (3, 0)
    assert {x for line in axis.get_lines() for x in line.get_xdata()} == set(lams)
    axis, bands, bars = drawn(5)
    assert (len(bands), len(bars)) == (0, 5)
    places = np.array([line.get_xdata() for line in axis.get_lines()])
    assert (np.diff(np.sort(places.T.flatten())) > 0).all()  # No two markers are at one place.
    assert places == pytest.approx(np.tile(lams, (5, 1)), rel=0.3)  # Each is at its lam.
    for x, each in zip(places, bars, strict=True):
        assert [segment[0][0] for segment in each.get_segments()] == x.tolist()


def test_each_of_several_auxiliaries_has_its_cosine_and_its_conflicts():
    setting, mode_styles = Setting.of("Projection", False, 1.0, 3.0), styles.of_modes(["Projection"])

    def of(*names):
        kinds = [(kind, name) for name in names for kind in ("cosine", "conflict")]
        curves = {f"{kind}/{name}": MeanCurve.of([{10: 0.5, 20: 0.25}]) for kind, name in kinds}
        return figures.censoring({setting: curves}, "title", mode_styles)

    figure = of("overall")
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "cosine of auxiliary\nand reference direction",
        "share of steps in conflict\n(cosine < 0)",
    ]
    several = of("large/overall", "odd/overall")
    assert [axis.get_ylabel() for axis in several.axes] == [
        *(
            "cosine of large\nand reference direction",
            "share of steps in conflict\n(cosine of large < 0)",
        ),
        *("cosine of odd\nand reference direction", "share of steps in conflict\n(cosine of odd < 0)"),
    ]
    assert several.get_size_inches()[1] > 1.5 * figure.get_size_inches()[1]
    for axis in several.axes:
        assert axis.get_lines()[-1].get_ydata().tolist() == [0.5, 0.25]


def test_modes_that_do_not_use_alpha_make_no_panel_of_cosines():
    both, slow = Setting.of("Multitask", False, 1.0, 3.0), Setting.of("Projection", False, 0.01, 3.0)
    extreme = {
        f"{kind}/overall": MeanCurve.of([{10: 0.0}, {10: 1.0}]) for kind in ("cosine", "conflict")
    }

    def axes_of(*settings):
        mode_styles = styles.of_modes(setting.mode for setting in settings)
        return figures.censoring(dict.fromkeys(settings, extreme), "title", mode_styles).axes

    assert [axis.get_title() for axis in axes_of(both)] == ["", ""]
    cosine, conflict = axes_of(both, slow)
    assert cosine.get_title() == "alpha=0.01"
    assert [line.get_label() for line in conflict.get_lines()] == [both.name, slow.name]
    fast = Setting.of("Projection", False, 1.0, 3.0)
    labels = [[line.get_label() for line in axis.get_lines()] for axis in axes_of(both, slow, fast)[2:]]
    assert labels == [[both.name, fast.name], [both.name, slow.name]]
    # Student's intervals of two runs are wider than the range of cosines and shares.
    for axis, low in ((cosine, -1), (conflict, 0)):
        for band in axis.collections:
            [path] = band.get_paths()
            assert (path.vertices[:, 1].min(), path.vertices[:, 1].max()) == (low, 1)


LONG = "cultivar_balanced_categorical_accuracy_of_the_last_year"


@pytest.mark.parametrize("n_modes", [1, 5])
def test_long_names_fit_in_the_figures(n_modes):
    modes = ["Multitask", "Projection", "Orthogonal", "UnweightedCosine", "WeightedCosine"][:n_modes]
    settings = [Setting.of(mode, False, 0.01, lam) for mode in modes for lam in (0.03, 100.0)]
    settings += [Setting("AnOwnModeWithALongName", True, 0.01, 0.03, ("lam", "alpha", "overall"))]
    mode_styles = styles.of_modes(setting.mode for setting in settings)
    names = ("val_x", f"cosine/{LONG}/overall", f"conflict/{LONG}/overall")
    own = {name: MeanCurve.of([{10: 0.5, 20: 0.25}]) for name in names}
    curves = dict.fromkeys(settings, own)
    label = f"validation {LONG}"
    for figure in (
        figures.over_training(curves, "title", mode_styles, {"val_x": label}, label),
        figures.censoring(curves, "title", mode_styles),
        over_lam(rows_of(dict.fromkeys(settings, 0.3)), metric=Metric(f"test_{LONG}")),
    ):
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        for kind in ("yaxis.label", "title"):
            texts = [attrgetter(kind)(axis) for axis in figure.axes if axis.axison]
            texts += [each for each in figure.texts if LONG[:8] in each.get_text()]
            boxes = [each.get_window_extent(renderer) for each in texts if each.get_text()]
            for box in boxes:
                assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
                assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
            assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("value", [0.3, np.nan])
def test_curves_of_one_point_and_of_none(value, tmp_path):
    curves = {Setting.of("Multitask", False, 1.0, 3.0): {"val_loss": MeanCurve.of([{10: value}])}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        styles.save(over_training(curves), tmp_path, "losses")


def test_a_long_title_stays_inside_a_narrow_figure():
    figure = styles.new_figure((4.2, 3.0))
    styles.finish(figure, [figure.subplots()], "problem=optdigits problem.train_size=50 " * 3)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    [title] = [each for each in figure.texts if "optdigits" in each.get_text()]
    extent = title.get_window_extent(renderer)
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.x1
