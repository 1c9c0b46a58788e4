"""From the values of a sweep to its distinct runs."""

from __future__ import annotations

import itertools

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from auxgrad.config import compose
from auxgrad.errors import ConfigError
from auxgrad.grid import plan
from auxgrad.values import conf_dir, quote_values


@pytest.fixture
def planned():
    composed = []

    def go(*arguments, params=None, grids=None):
        def compose_one(overrides):
            composed.append(overrides)
            return hydra_compose("config", overrides=quote_values(overrides), return_hydra_config=True)

        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            return plan(compose_one, arguments, params, grids)

    go.composed = composed
    return go


def params_of(experiment):
    file = conf_dir() / "experiment" / f"{experiment}.yaml"
    return OmegaConf.to_container(OmegaConf.load(file))["hydra"]["sweeper"]["params"]


def settings(found):
    return list(dict.fromkeys(run.config.setting for run in found.runs))


@pytest.mark.parametrize(("experiment", "count"), [("paper", 55), ("figure7", 19)])
def test_published_grids(planned, experiment, count):
    found = planned(params=params_of(experiment))
    assert len(found.runs) == 50 * count
    assert len(settings(found)) == count
    assert {run.config.seed for run in found.runs} == set(range(50))
    assert len({run.config.key("") for run in found.runs}) == len(found.runs)
    assert len(planned.composed) <= 6  # One for each mode, not one for each run.
    shorter = planned("seed=range(3)", params=params_of(experiment))
    assert len(shorter.runs) == 3 * count


def test_what_a_mode_does_not_use_is_dropped(planned):
    found = planned(
        "mode=SingleTask,Multitask,Projection", "lam=0,1", "alpha=0.1,1", "overall=true,false"
    )
    assert found.combinations == 24
    assert settings(found) == [
        "SingleTask",  # Also Multitask and Projection with lam=0.
        "Multitask lam=1",
        "Projection lam=1 alpha=0.1 overall=true",
        "Projection lam=1 alpha=0.1",
        "Projection lam=1 alpha=1 overall=true",
        "Projection lam=1 alpha=1",
    ]
    assert found.runs[0].overrides == ("mode='SingleTask'",)


def test_each_run_is_what_its_overrides_compose(planned):
    """The numbers put in place afterwards make no other config than Hydra would."""
    found = planned(
        "mode=Multitask,Orthogonal",
        "lam=0,3,1e2,100",
        "alpha=0.5,1",
        "seed=range(2)",
        "problem.batch_size=32,64",
        "problem.hidden=[8],[8,4]",
        "tracking.experiment=x",
    )
    assert found.combinations == 2 * 4 * 2 * 2 * 2 * 2
    # SingleTask; Multitask at 3 and 100; Orthogonal at these with two alphas; times 2 * 2 * 2.
    assert len(found.runs) == (1 + 2 + 4) * 8
    for run in found.runs:
        assert compose(run.overrides) == run.config


def test_several_grids_and_the_command_line_goes_before(planned):
    grids = [{"mode": "SingleTask"}, {"mode": "Projection", "lam": "30,100"}, {"lam": 30, "alpha": 1}]
    found = planned(params={"seed": "range(2)"}, grids=grids)
    assert settings(found) == [
        "SingleTask",
        "Projection lam=30 alpha=0.01",
        "Projection lam=100 alpha=0.01",
        "Projection lam=30 alpha=1",
    ]
    assert len(found.runs) == 8
    assert len(planned("seed=5", params={"seed": "range(2)"}, grids=grids).runs) == 4


def test_runs_of_one_setting_stand_together(planned):
    found = planned("seed=0,1", "lam=1,3", "alpha=0.01,1", "mode=Projection,Orthogonal")
    names = [run.config.setting for run in found.runs]
    assert [name for name, _ in itertools.groupby(names)] == settings(found)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lam=1,-2"], "lam=-2: must be a finite number >= 0"),
        (["mode=SingleTask", "alpha=1,2"], "alpha=2: must be a number in (0, 1]"),
        (["problem.batch_size=32,0"], "problem.batch_size=0: must be a whole number >= 1"),
        (["lam=interval(1,3)"], "lam=interval(1,3): the grid sweeper needs single values"),
        (["experiment=paper,figure7"], "experiment=paper,figure7: only one experiment at a time"),
    ],
)
def test_wrong_values_in_any_place(planned, arguments, line):
    with pytest.raises(ConfigError) as caught:
        planned(*arguments)
    assert str(caught.value).startswith(line)


def test_the_key_holds_all_that_determines_a_result_and_nothing_else():
    def key(*overrides, fingerprint="f"):
        return compose(overrides).key(fingerprint)

    base = key()
    for changed in ("mode=Orthogonal", "lam=3", "alpha=1", "overall=true", "seed=1"):
        assert key(changed) != base
    for changed in ("problem.epochs=3", "problem.hidden=[8]", "data.num_words=99", "data=imdb"):
        assert key(changed) != base
    assert key(fingerprint="g") != base
    for other in ("tracking.uri=sqlite:///x.db", "tracking.experiment=y", "data.cache_dir=/tmp/c"):
        assert key(other, "force=true", "retries=3", "fail_fast=true", "tracking.log_model=true") == base
    assert key("lam=100.0", "alpha=1e-2") == base
    assert key("mode=SingleTask") == key("lam=0") == key("mode=Multitask", "lam=0", "alpha=1")
    assert compose(["seed=1"]).key("f", with_seed=False) == compose().key("f", with_seed=False)
