"""Features of Hydra work, or are refused in one line before anything is written."""

from __future__ import annotations

import functools

import pytest


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a study, with an apostrophe in its name."""
    folder = tmp_path / "it's mine"
    files = {
        "study.yaml": ("defaults: [config, override lam: '42.5', _self_]\nproblem: {hidden: [7]}\n"),
        "stubborn.yaml": "defaults: [config, _self_]\nlam: 42.5\n",
        "path.yaml": "defaults: [config, override lam: few, _self_]\nhydra: {searchpath: ['file://more']}\n",
        "experiment/fast.yaml": (
            "# @package _global_\n"
            "defaults: [override /hydra/sweeper: basic, override /hydra/launcher: basic]\n"
            "tracking: {experiment: quick}\n"
            "retries: 5\n"
        ),
        "experiment/lists.yaml": (
            "# @package _global_\n"
            "tracking: {experiment: lists}\n"
            "hydra: {sweeper: {params: {lam: [1, 2.5], seed: range(3), mode: [Multitask]}}}\n"
        ),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (tmp_path / "more/lam").mkdir(parents=True)
    (tmp_path / "more/lam/few.yaml").write_text("# @package _global_\nlam: 0.25\n")
    return folder


@pytest.fixture
def study(folder, forked_train):
    """Return a function that runs the command in the study."""
    return functools.partial(forked_train, "--config-dir", str(folder))


def shown(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_custom_primary_config(study):
    lines = shown(study("-cn", "study", "--cfg", "job", "alpha=0.3"))
    assert {"lam: 42.5", "alpha: 0.3", "mode: Projection", "  - 7"} <= set(lines)
    lines = shown(study("-cn", "study", "--cfg", "hydra", "-p", "hydra.sweeper"))
    assert "_target_: hydra_plugins.auxgrad.grid_sweeper.GridSweeper" in lines


def test_a_search_path_keeps_the_value_groups(study):
    words = ("--cfg", "job", "hydra.searchpath=['file://more']", "alpha=0.07")
    assert {"lam: 42.5", "alpha: 0.07"} <= set(shown(study(*words, "lam=42.5")))
    assert "lam: 0.25" in shown(study(*words, "lam=few"))
    assert {"lam: 0.25", "seed: 7"} <= set(shown(study("-cn", "path", "--cfg", "job", "seed=7")))


def test_an_experiment_takes_precedence_over_the_defaults(study):
    lines = shown(study("experiment=fast", "--cfg", "all"))
    assert {"  experiment: quick", "retries: 5"} <= set(lines)
    targets = "\n".join(lines)
    assert "_target_: hydra._internal.core_plugins.basic_sweeper.BasicSweeper" in targets
    assert "_target_: hydra_plugins.auxgrad.launchers.SerialLauncher" in targets
    # The command line takes precedence over the experiment.
    lines = shown(study("experiment=fast", "retries=2", "hydra/sweeper=grid", "--cfg", "all"))
    assert "retries: 2" in lines
    assert "_target_: hydra_plugins.auxgrad.grid_sweeper.GridSweeper" in "\n".join(lines)


def test_yaml_lists_are_the_values_of_a_sweep(study, small):
    done = study("--multirun", "experiment=lists", "dry_run=true", *small)
    assert "plan      6 combinations, 6 distinct: 0 finished, 6 to run" in shown(done)
    assert "experiment lists" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["+hydra.sweeper.params.lam=3"], "hydra.sweeper.params: is a sweep; add --multirun"),
        (["hydra.job.chdir=true"], "hydra.job.chdir=true: runs stay in the working directory"),
        (["-m", "hydra.job.chdir=true"], "hydra.job.chdir=true: runs stay in the working directory"),
        (
            ["-m", "hydra.sweep.dir=x"],
            "hydra.sweep.dir=x: hydra/sweeper=grid has one folder for all sweeps; set hydra.sweeper.dir",
        ),
        (["-m", "hydra.sweep.subdir=x"], "hydra.sweep.subdir: hydra/sweeper=grid names folders by"),
        (
            ["-m", "+hydra.callbacks.log._target_=hydra.experimental.callbacks.LogJobReturnCallback"],
            "hydra.callbacks.log: auxgrad's launchers do not support callbacks at the start or end of a "
            "job",
        ),
        (["-m", "hydra/sweeper=basic", "lam=1,-2"], "lam=-2: must be a finite number >= 0"),
        (["dry_run=true"], "dry_run=true: shows the plan of a sweep; add --multirun"),
        (
            ["-m", "hydra/sweeper=basic", "dry_run=true"],
            "dry_run=true: only hydra/sweeper=grid supports it",
        ),
        (["-m", "lam=glob(x*)"], "lam=glob(x*): matches none of 1, 3, 10"),
        (["--config-path", "."], "--config-path=.: would hide auxgrad's own config groups"),
        (["hydra.searchpath=3"], "hydra.searchpath=3: must be a list of texts"),
        (
            ["-cn", "stubborn", "lam=3"],
            "lam=3: a YAML file sets lam: 42.5 itself; let its defaults list",
        ),
        (["-cn", "stubborn", "-m", "lam=3,4"], "lam=3: a YAML file sets lam: 42.5 itself"),
        (["-cn", "nothing"], "Cannot find primary config 'nothing'"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(study, tmp_path, words, line):
    before = sorted(tmp_path.iterdir())
    done = study(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"auxgrad: {line}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_another_backend_of_keras(folder, train, tmp_path):
    study = functools.partial(train, "--config-dir", str(folder))
    done = study(KERAS_BACKEND="jax")
    assert (done.returncode, done.stderr) == (
        1,
        "auxgrad: KERAS_BACKEND=jax: must be tensorflow\n",
    )
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    done = study("-m", "seed=1,2", KERAS_HOME=str(tmp_path))
    assert done.stderr == f"auxgrad: backend in {tmp_path}/keras.json=torch: must be tensorflow\n"
