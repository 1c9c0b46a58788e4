"""Composing and checking configs: overrides, and the messages about wrong ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from auxgrad.config import compose
from auxgrad.config.groups import options
from auxgrad.config.messages import check_values
from auxgrad.config.overrides import quote_values
from auxgrad.errors import ConfigError


def test_defaults_are_the_best_published_setting():
    config = compose()
    assert (config.mode, config.lam, config.alpha, config.overall, config.seed) == (
        "Projection",
        100.0,
        0.01,
        False,
        0,
    )
    assert config.problem.hidden == (512, 512)
    assert (config.names.data, config.problem.data.num_words) == ("imdb25k", 10000)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("lam=100", "lam", 100.0),  # There is a file for this value.
        ("lam=42.5", "lam", 42.5),  # There is no file for this one.
        ("lam=1e-3", "lam", 0.001),
        ("lam=0", "lam", 0.0),
        ("lam='30'", "lam", 30.0),
        ("alpha=1", "alpha", 1.0),
        ("alpha=0.05", "alpha", 0.05),
        ("overall=true", "overall", True),
        ("overall=False", "overall", False),
        ("seed=0", "seed", 0),
        ("seed=7", "seed", 7),
        ("mode=Orthogonal", "mode", "Orthogonal"),
    ],
)
def test_presets_and_any_other_value(override, key, value):
    got = getattr(compose([override]), key)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("lam=-1", "lam=-1: must be a finite number >= 0"),
        ("lam=nan", "lam=nan: must be a finite number >= 0"),
        ("lam=inf", "lam=inf: must be a finite number >= 0"),
        ("lam=much", "lam=much: must be a finite number >= 0"),
        ("lam=true", "lam=true: must be a finite number >= 0"),
        ("lam=", "lam=: must be a finite number >= 0"),
        ("lam=null", "lam=null: must be a finite number >= 0"),
        ("lam=1,2", "lam=1,2: several values; add --multirun to sweep over them"),
        ("alpha=0", "alpha=0: must be a number in (0, 1]"),
        ("alpha=1.01", "alpha=1.01: must be a number in (0, 1]"),
        ("alpha=nan", "alpha=nan: must be a number in (0, 1]"),
        ("overall=1", "overall=1: must be true or false"),
        ("overall=maybe", "overall=maybe: must be true or false"),
        ("seed=-1", "seed=-1: must be a whole number >= 0"),
        ("seed=1.5", "seed=1.5: must be a whole number >= 0"),
        ("seed=true", "seed=true: must be a whole number >= 0"),
        ("seed=range(2", "seed=range(2: cannot be read (no viable alternative at input 'range(2')"),
        ("problem.hidden=[8,0]", "problem.hidden=0: must be a list of whole numbers >= 1"),
        ("problem.epochs=0", "problem.epochs=0: must be a whole number >= 1"),
        ("problem.learning_rate=0", "problem.learning_rate=0: must be a number > 0"),
        ("data.num_words=4", "data.num_words=4: must be a whole number from 5 to 65536"),
        (
            "data.path=/tmp",
            "data.path=/tmp: unknown key; must be one of data.num_words, data.cache_dir",
        ),
        (
            "data=imdb50k",
            "data=imdb50k: must be one of aclimdb, imdb, imdb25k (did you mean imdb25k or imdb?)",
        ),
        ("data=aclimdb", "data.path=null: no path given; must be the folder aclImdb/ or its .tar.gz"),
        ("tracking.log_model=2", "tracking.log_model=2: must be true, false or null"),
        ("tracking.experiment=''", "tracking.experiment=: must be a text that is not empty"),
    ],
)
def test_one_line_names_key_value_and_what_is_allowed(override, line):
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert str(caught.value) == line


def test_overrides_are_a_list():
    with pytest.raises(ConfigError) as caught:
        compose("lam=1")
    assert str(caught.value) == "overrides='lam=1': must be a list, such as ['lam=1']"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("problem.task=other", "problem.task=other: must be one of same, similar, unrelated"),
        ("problem.task=null", "problem.task=null: must be one of same, similar, unrelated"),
        ("problem.epochs=true", "problem.epochs=true: must be a whole number >= 1"),
        ("problem.patience=0", "problem.patience=0: must be a whole number >= 1"),
        ("data=imdb", "data=imdb: the problem takes no data"),
    ],
)
def test_options_of_the_synthetic_problem(override, line):
    with pytest.raises(ConfigError) as caught:
        compose(["problem=synthetic", override])
    assert str(caught.value) == line


@pytest.mark.parametrize("override", ["sed=3", "+sed=3", "problem.batchsize=3", "+data.cach_dir=x"])
def test_an_unknown_key_gets_the_nearest(override):
    with pytest.raises(
        ConfigError, match=r"^[^\n]*: unknown key; must be one of .*did you mean"
    ) as caught:
        compose([override])
    near = {"sed": "seed", "problem": "problem.batch_size", "data": "data.cache_dir"}
    assert near[override.lstrip("+").partition(".")[0].partition("=")[0]] in str(caught.value)


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("problem.hiden=8", " (did you mean problem.hidden?)"),
        ("problem.cache=8", ""),  # Not problem.tf32, although half of the letters are equal.
        ("tracking.url=x", " (did you mean tracking.uri?)"),
        ("lamda=1", " (did you mean lam?)"),
        ("batches=1", ""),
    ],
)
def test_only_similar_names_are_suggested(override, near):
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert str(caught.value).partition(" (")[1:] == near.partition(" (")[1:]


def test_an_unknown_mode_gets_the_nearest():
    with pytest.raises(ConfigError) as caught:
        compose(["mode=Projektion"])
    assert str(caught.value) == (
        f"mode=Projektion: must be one of {', '.join(options('mode'))} (did you mean Projection?)"
    )


def test_every_value_of_a_sweep_is_checked():
    for key, values, wrong in (
        ("lam", "1,-2", "lam=-2"),
        ("seed", "0,x", "seed=x"),
        ("alpha", "0,1", "alpha=0"),
    ):
        with pytest.raises(ConfigError, match=f"^{wrong}: must be"):
            check_values(key, values.split(","))
    check_values("lam", ["1", "3.5"])


def test_sweep_values():
    assert quote_values(["lam=glob(*)"]) == ["lam='1','3','10','30','100','300'"]
    assert quote_values(["lam=glob(1*)"]) == ["lam='1','10','100'"]
    assert quote_values(["lam=choice(1,2.50)"]) == ["lam='1','2.5'"]
    assert quote_values(["seed=range(1,4)"]) == ["seed='1','2','3'"]
    untouched = ["lam=interval(1,300)", "hydra.job.num=1,2", "--cfg", "job", "lam='", "~seed"]
    assert quote_values(untouched) == untouched


def test_what_a_mode_does_not_use_is_neutral():
    single = compose(["mode=SingleTask", "lam=30", "alpha=0.5", "overall=true"])
    assert (single.lam, single.alpha, single.overall) == (0.0, 1.0, False)
    multi = compose(["mode=Multitask", "lam=30", "alpha=0.5", "overall=true"])
    assert (multi.lam, multi.alpha, multi.overall) == (30.0, 1.0, False)
    with pytest.raises(ConfigError, match="lam=-1: must be"):  # Unused knobs are checked too.
        compose(["mode=SingleTask", "lam=-1"])


def test_no_tensorflow_no_mlflow_before_the_checks():
    code = (
        "import sys, auxgrad, auxgrad.train, auxgrad.report, auxgrad.ui, auxgrad.sweeps.sweep\n"
        "import hydra_plugins.auxgrad.grid_sweeper, hydra_plugins.auxgrad.launchers\n"
        "import auxgrad.problems.reviews\n"
        "auxgrad.config.compose(['lam=3'])\n"
        "auxgrad.config.compose(['problem=synthetic'])\n"
        "assert not {'tensorflow', 'keras', 'mlflow', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_presets_are_documented_files():
    assert options("lam") == ["1", "3", "10", "30", "100", "300"]
    assert options("alpha") == ["0.01", "1"]
    assert options("seed") == [str(i) for i in range(5)]
