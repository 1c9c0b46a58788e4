"""The plan of a sweep has its distinct configs."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from auxgrad.config import compose
from auxgrad.config.composing import with_value_source
from auxgrad.config.groups import conf_dir, options
from auxgrad.config.overrides import quote_values
from auxgrad.errors import ConfigError
from auxgrad.reports.published import read_published
from auxgrad.reports.runs import Study
from auxgrad.sweeps.plan import plan


@pytest.fixture
def planned():
    composed = []

    def go(*arguments, params=None, grids=None):
        def compose_one(overrides):
            composed.append(overrides)
            words = with_value_source(quote_values(overrides))
            return hydra_compose("config", overrides=words, return_hydra_config=True)

        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            return plan(compose_one, arguments, params, grids)

    go.composed = composed
    return go


def sweeper_of(experiment):
    file = conf_dir() / "experiment" / f"{experiment}.yaml"
    return OmegaConf.to_container(OmegaConf.load(file))["hydra"]["sweeper"]


def params_of(experiment):
    return sweeper_of(experiment)["params"]


def settings(found):
    return list(dict.fromkeys(config.identity().setting_name for config in found.configs))


@pytest.mark.parametrize(("experiment", "count"), [("paper", 55), ("figure7", 19)])
def test_published_grids(planned, experiment, count):
    found = planned(params=params_of(experiment))
    assert len(found.configs) == 50 * count
    assert len(settings(found)) == count
    assert {config.seed for config in found.configs} == set(range(50))
    assert len({config.identity().key for config in found.configs}) == len(found.configs)
    assert len(planned.composed) <= 6  # One for each mode, not one for each run.
    shorter = planned("seed=range(3)", params=params_of(experiment))
    assert len(shorter.configs) == 3 * count


@pytest.mark.parametrize(
    ("experiment", "count"),
    [pytest.param("synthetic", 376, marks=pytest.mark.process), ("figure5", 61)],
)
def test_published_grids_of_three_tasks(planned, experiment, count):
    found = planned("problem=synthetic", **sweeper_of(experiment))
    assert len(found.configs) == 20 * count
    assert len(settings(found)) == count
    assert len({config.identity().key for config in found.configs}) == len(found.configs)
    tasks = Counter((config.mode == "SingleTask", config.problem.task) for config in found.configs)
    each = 20 * (count - 1) // 3
    assert tasks == {
        (True, "same"): 20,
        **{(False, task): each for task in ("same", "similar", "unrelated")},
    }
    assert len(planned.composed) <= 16  # One for each mode and task.


@pytest.mark.process
def test_all_modes_have_the_same_number_of_settings(planned):
    found = planned("seed=0", **sweeper_of("methods"))
    assert len(found.configs) == 245
    tried = Counter((config.identity().study_key, config.mode) for config in found.configs)
    assert len(tried) == 5 * (len(options("mode")) - 1)
    assert {count for (_, mode), count in tried.items() if mode != "SingleTask"} == {3}


def test_figure5_is_what_was_published(planned):
    found = planned("problem=synthetic", "seed=0", **sweeper_of("figure5"))
    published = read_published("figure5")
    for task in ("same", "similar", "unrelated"):
        run = {config.identity().setting for config in found.configs if config.problem.task == task}
        missing = published.of(Study.named("synthetic", "", f"problem.task={task}")).keys() - run
        assert {setting.mode for setting in missing} == (set() if task == "same" else {"SingleTask"})


def test_what_a_mode_does_not_use_is_dropped(planned):
    found = planned(
        "mode=SingleTask,Multitask,Projection", "lam=0,1", "alpha=0.1,1", "overall=true,false"
    )
    assert found.n_combinations == 24
    assert settings(found) == [
        "SingleTask",  # Also Multitask and Projection with lam=0.
        "Multitask lam=1",
        "Projection lam=1 alpha=0.1 overall=true",
        "Projection lam=1 alpha=0.1",
        "Projection lam=1 alpha=1 overall=true",
        "Projection lam=1 alpha=1",
    ]


@pytest.mark.parametrize(
    ("alphas", "sizes"), [((0.5,), (32,)), pytest.param((0.5, 1), (32, 64), marks=pytest.mark.process)]
)
def test_each_config_is_what_hydra_would_compose(planned, alphas, sizes):
    """Configs with numbers put in afterwards equal those that Hydra composes."""
    found = planned(
        "mode=Multitask,Orthogonal",
        "lam=0,3,1e2,100",
        f"alpha={','.join(map(str, alphas))}",
        "seed=range(2)",
        f"problem.batch_size={','.join(map(str, sizes))}",
        "problem.hidden=[8],[8,4]",
        "tracking.experiment=x",
    )
    others = 2 * len(sizes) * 2
    assert found.n_combinations == 2 * 4 * len(alphas) * others
    # SingleTask; Multitask at 3 and 100; Orthogonal at these with each alpha; all times the others.
    assert len(found.configs) == (1 + 2 + 2 * len(alphas)) * others
    distinct = [
        ("mode=Orthogonal", "lam=0"),
        *(("mode=Multitask", f"lam={lam}") for lam in (3, 100)),
        *(("mode=Orthogonal", f"lam={lam}", f"alpha={alpha}") for lam in (3, 100) for alpha in alphas),
    ]
    composed = {
        compose([*setting, *words, "tracking.experiment=x"])
        for setting, *words in itertools.product(
            distinct,
            ["seed=0", "seed=1"],
            [f"problem.batch_size={size}" for size in sizes],
            ["problem.hidden=[8]", "problem.hidden=[8,4]"],
        )
    }
    assert set(found.configs) == composed


def test_the_command_line_takes_precedence_over_several_grids(planned):
    grids = [{"mode": "SingleTask"}, {"mode": "Projection", "lam": "30,100"}, {"lam": 30, "alpha": 1}]
    found = planned(params={"seed": "range(2)"}, grids=grids)
    assert settings(found) == [
        "SingleTask",
        "Projection lam=30 alpha=0.01",
        "Projection lam=100 alpha=0.01",
        "Projection lam=30 alpha=1",
    ]
    assert len(found.configs) == 8
    assert len(planned("seed=5", params={"seed": "range(2)"}, grids=grids).configs) == 4


def test_runs_of_one_setting_are_adjacent(planned):
    found = planned("seed=0,1", "lam=1,3", "alpha=0.01,1", "mode=Projection,Orthogonal")
    names = [config.identity().setting_name for config in found.configs]
    assert [name for name, _ in itertools.groupby(names)] == settings(found)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lam=1,-2"], "lam=-2: must be a finite number >= 0"),
        (["mode=SingleTask", "alpha=1,2"], "alpha=2: must be a number in (0, 1]"),
        (["problem.batch_size=32,0"], "problem.batch_size=0: must be a whole number >= 1"),
        (["lam=interval(1,3)"], "lam=interval(1,3): the grid sweeper needs single values"),
        (["seed=range(0)"], "seed=range(0): has no value"),
        (["experiment=paper,figure7"], "experiment=paper,figure7: only one experiment at a time"),
    ],
)
def test_wrong_values_in_any_place(planned, arguments, line):
    with pytest.raises(ConfigError) as caught:
        planned(*arguments)
    assert str(caught.value).startswith(line)


def test_lists_in_yaml_are_values(planned):
    found = planned(params={"lam": [1, 3.5], "seed": [0, 1], "problem.hidden": [[8], [8, 4]]})
    assert found.n_combinations == 8
    assert {(config.lam, config.problem.hidden) for config in found.configs} == {
        (lam, hidden) for lam in (1.0, 3.5) for hidden in ((8,), (8, 4))
    }


def test_a_file_that_sets_more_than_its_own_key(tmp_path):
    (tmp_path / "lam").mkdir()
    (tmp_path / "lam/42.yaml").write_text("# @package _global_\nlam: 42\nproblem: {epochs: 7}\n")

    def compose_one(overrides):
        words = [*quote_values(overrides), f"hydra.searchpath=['file://{tmp_path}',value://]"]
        return hydra_compose("config", overrides=words, return_hydra_config=True)

    def files(group):
        return [*options(group), "42"] if group == "lam" else options(group)

    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        for lams in ("42,100", "100,42"):
            found = plan(compose_one, ["mode=Multitask", f"lam={lams}", "seed=1,2"], files=files)
            each = {(config.lam, config.problem.epochs) for config in found.configs}
            assert each == {(42.0, 7), (100.0, 200)}
            assert len(found.configs) == 4


def test_values_made_from_others_follow_them(planned):
    found = planned("seed=1,2", "problem.batch_size=32,64", "problem.patience='${seed}'")
    assert {
        (config.seed, config.problem.batch_size, config.problem.patience) for config in found.configs
    } == {
        (1, 32, 1),
        (1, 64, 1),
        (2, 32, 2),
        (2, 64, 2),
    }
