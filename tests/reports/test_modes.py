"""Comparison of modes: with the baseline, with equal budgets, over several studies."""

from __future__ import annotations

import itertools
import math

import matplotlib as mpl
import numpy as np
import pytest

from auxgrad.config.setting import Setting
from auxgrad.reports import analysis, styles
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.modes import documents, figures
from auxgrad.reports.modes.profiles import obstacle, profiles
from auxgrad.reports.modes.resampling import bootstrap, expected_best, improvement, mean_difference
from auxgrad.reports.modes.standings import Standings
from auxgrad.reports.runs import ReportedRun, RunSet, Study

RNG = np.random.default_rng(0)


def runs(mode, lam, values, val=None, seeds=None):
    setting = Setting.of(mode, False, 1.0, lam)
    return [
        ReportedRun(setting, seed, Study.named("x"), value=value, loss=0.3, best_val=val or value)
        for seed, value in zip(seeds or itertools.count(), values, strict=False)
    ]


def standings(*parts, metric=LOSS):
    return Standings.of(analysis.table(RunSet([run for part in parts for run in part]), metric), metric)


def by_mode(found):
    return {standing.mode: standing for standing in found.modes}


# --- the statistics
# ----------------------------------------------------------------------------------


def test_bootstrap_is_that_of_scipy():
    from scipy.stats import bootstrap as scipys

    x, y = RNG.normal(0, 1, 20), RNG.normal(0.5, 1, 20)
    ours = mean_difference(x, y)
    theirs = scipys((x - y,), np.mean, method="percentile", rng=0).confidence_interval
    assert ours.value == pytest.approx((x - y).mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_intervals_contain_the_true_value_in_nineteen_of_twenty():
    found = [bootstrap(lambda s: s.mean(-1), [RNG.normal(size=30)], 500) for _ in range(400)]
    assert 0.9 < np.mean([each.low <= 0 <= each.high for each in found]) < 0.98
    assert all(math.isnan(end) for end in (lambda i: (i.low, i.high))(mean_difference([1.0], [2.0])))


def test_improvement_counts_pairs_and_averages_studies():
    wins, ties, losses = ([1.0, 1.0], [2.0, 2.0]), ([1.0], [1.0]), ([2.0], [1.0])
    assert [improvement([each]).value for each in (wins, ties, losses)] == [1.0, 0.5, 0.0]
    assert improvement([wins, losses]).value == 0.5
    x, y = RNG.normal(0, 1, 12), RNG.normal(0, 1, 9)
    wanted = np.mean([a < b for a in x for b in y])
    assert improvement([(x, y)]).value == pytest.approx(wanted)


def test_expected_best_is_the_mean_over_all_choices():
    values = [0.5, 0.3, 0.9, 0.4, 0.6]
    for budget in range(1, 6):
        choices = [min(chosen) for chosen in itertools.combinations(range(5), budget)]
        wanted = np.mean([values[rank] for rank in choices])
        assert expected_best(values, budget) == pytest.approx(wanted)


# --- one study
# ---------------------------------------------------------------------------------------


def test_a_mode_gains_nothing_by_more_tries():
    many = [runs("Multitask", lam, [0.2 + lam / 100] * 3) for lam in range(1, 9)]
    few = [runs("Mean", lam, [0.25]) for lam in (1.0, 2.0)]
    found = standings(runs("SingleTask", 0, [0.24] * 3), *many, *few)
    assert found.budget == 2
    multitask = by_mode(found)["Multitask"]
    assert (multitask.n_tried, multitask.estimate.mean) == (8, pytest.approx(0.21))
    pairs = itertools.combinations(range(1, 9), 2)
    assert multitask.at_budget == pytest.approx(np.mean([0.2 + min(pair) / 100 for pair in pairs]))
    # Modes are ordered at the budget; by its best setting, Multitask would be first.
    assert [each.mode for each in found.modes] == ["Multitask", "SingleTask", "Mean"]
    text = documents.standings_md(found, LOSS)
    assert "with a budget of 2" in text
    assert "With fewer than 10 seeds bootstrap intervals are too narrow." in text
    assert "| Multitask | lam=1 | 0.2100 [0.2100, 0.2100] | 8 | 0.2300 | -0.0300 [" in text


def test_settings_are_chosen_by_validation():
    good = runs("Multitask", 1.0, [0.3, 0.3], val=0.1)
    lucky = runs("Multitask", 3.0, [0.2, 0.2], val=0.9)
    [standing] = standings(good, lucky).modes
    assert standing.row.setting.lam == 1.0
    assert standing.at_budget == pytest.approx(0.3)
    assert not standings(good, lucky).has_baseline


def test_a_setting_with_a_diverged_run_is_the_last_choice():
    bad = runs("Multitask", 1.0, [0.1, math.inf])
    good = runs("Multitask", 3.0, [0.2, 0.2])
    [standing] = standings(bad, good).modes
    assert (standing.n_tried, standing.at_budget, standing.row.setting.lam) == (2, 0.2, 3.0)
    left_out = standings(bad, runs("Mean", 1.0, [0.3]))
    assert left_out.left_out == ("Multitask",)
    text = documents.standings_md(left_out, LOSS)
    assert "Left out, because each setting has runs that diverged: Multitask." in text
    assert "Nothing is compared with SingleTask: there are no runs of SingleTask; train it" in text
    found = standings(bad, good, runs("Mean", 1.0, [0.3]))
    assert math.isnan(
        by_mode(found)["Multitask"].at_budget
    )  # One of the two settings has no finite mean.


def test_differences_are_paired_by_seed():
    noise = RNG.normal(0, 0.1, 10)
    single = runs("SingleTask", 0, 0.5 + noise)
    found = standings(single, runs("Multitask", 1.0, 0.49 + noise[2:], seeds=range(2, 12)))
    standing = by_mode(found)["Multitask"]
    assert standing.n_common_seeds == 8
    assert standing.difference.value == pytest.approx(-0.01)
    assert standing.difference.high - standing.difference.low < 1e-9
    assert 0.5 < standing.improvement.value < 0.7
    accuracy = Metric("test_accuracy", maximize=True)
    higher = standings(single, runs("Multitask", 1.0, 0.6 + noise), metric=accuracy)
    assert by_mode(higher)["Multitask"].improvement.value > 0.6
    assert higher.modes[0].mode == "Multitask"


# --- several studies
# ---------------------------------------------------------------------------------


def test_profiles_are_ratios_to_the_baseline_of_each_study():
    one = standings(runs("SingleTask", 0, [1.0, 1.0]), runs("Mean", 1.0, [0.9, 1.1]))
    other = standings(
        runs("SingleTask", 0, [10.0, 10.0]), runs("Mean", 1.0, [5.0] * 4), runs("MGDA", 1.0, [1.0])
    )
    found = {each.mode: each for each in profiles([one, other], LOSS)}
    assert list(found) == ["Mean", "SingleTask"]  # One study has no run of MGDA.
    assert found["SingleTask"].mean_ratio is None
    mean = found["Mean"]
    assert mean.mean_ratio.value == pytest.approx((1.0 + 0.5) / 2)
    assert mean.improvement.value == pytest.approx((0.5 + 1) / 2)
    assert mean.share_within(np.array([0.4, 0.6, 1.0, 1.2]), False).tolist() == [0, 0.5, 0.75, 1]
    assert mean.share_within(np.array([0.4, 0.6, 1.0]), True).tolist() == [1, 0.5, 0.25]
    assert found["SingleTask"].improvement is None
    text = documents.profiles_md(list(found.values()), ["one", "other"], LOSS)
    assert "over 2 studies" in text
    assert "* other\n" in text
    assert profiles([one], LOSS) == []


def test_why_several_studies_have_no_profiles():
    one = standings(runs("SingleTask", 0, [1.0, 1.0]), runs("Mean", 1.0, [0.9, 1.1]))
    mean = runs("Mean", 1.0, [1.0])
    for other, reason in (
        (mean, "b: there are no runs of SingleTask; train it (mode=SingleTask) with the same options"),
        (
            [*mean, *runs("SingleTask", 0, [None])],
            "b: no run of SingleTask has finished; give the command of these runs again",
        ),
        (
            [*mean, *runs("SingleTask", 0, [1.0, math.inf])],
            "b: runs of SingleTask diverged; report on the other seeds (seed=...)",
        ),
        (
            [*runs("MGDA", 1.0, [1.0]), *runs("SingleTask", 0, [1.0])],
            "SingleTask is the only mode with a setting whose runs all converged in each of the 2 "
            "studies; train another mode in all of them, or report on fewer studies",
        ),
        (
            [*mean, *runs("SingleTask", 0, [-2.5])],
            "b: the mean test loss of SingleTask is -2.5; a ratio needs one above 0",
        ),
        ([*mean, *runs("SingleTask", 0, [1.0])], ""),
    ):
        both = [one, standings(other)]
        assert obstacle(["a", "b"], both, LOSS) == reason
        assert bool(profiles(both, LOSS)) == (not reason)


def test_figures_of_all_modes():
    parts = [runs("SingleTask", 0, RNG.normal(0.5, 0.01, 5))]
    modes = [mode for mode in styles.STYLES if mode != "SingleTask"]
    parts += [runs(mode, 1.0, RNG.normal(0.5, 0.01, 5)) for mode in modes]
    found = standings(*parts)
    mode_styles = styles.of_modes(each.mode for each in found.modes)
    [axis] = figures.best_of_modes(found, "title", LOSS, mode_styles).axes
    assert len(axis.get_yticklabels()) == len(modes) + 1
    assert axis.get_yticklabels()[-1].get_text() == found.modes[0].row.setting.name
    figure = figures.profiles(profiles([found, found], LOSS), "title", LOSS, mode_styles)
    assert len(figure.axes[0].get_lines()) == len(modes) + 2
    assert {line.get_marker() for line in figure.axes[0].get_lines()} >= {
        styles.STYLES[mode]["marker"] for mode in modes
    }
    with mpl.rc_context({"savefig.format": "png"}):
        figure.canvas.draw()
