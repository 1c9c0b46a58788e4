"""Sweeps on Ray, in an environment with the extra ray: pytest -m ray."""

from __future__ import annotations

import pytest
from conftest import script
from test_sweep import HERE, losses, statuses

from auxgrad.sweeps.ray import RayExecutor

pytestmark = pytest.mark.ray
GRID = ("mode=SingleTask,Projection", "lam=1,10", "alpha=0.01", "seed=range(2)")


def test_the_same_numbers_resume_and_failures(sweep, tmp_path, small, failing):
    done = sweep("hydra/launcher=ray", *GRID, *small, **failing)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 combinations, 6 distinct: 0 finished, 6 to run" in done.stdout
    assert done.stdout.count("\ndone ") == 6
    assert sweep(*GRID, HERE, "tracking.experiment=local", *small).returncode == 0
    assert losses(tmp_path) == losses(tmp_path, "local")

    more = sweep("hydra/launcher=ray", "mode=Projection", "lam=10,666", "alpha=0.01", *small, **failing)
    assert more.returncode == 1
    assert "2 distinct: 1 finished, 1 to run" in more.stdout
    assert more.stderr.endswith("auxgrad: 1 of 1 runs failed\n")
    assert "RuntimeError: the disk is full" in more.stdout
    assert statuses(tmp_path) == {"FINISHED": 6, "FAILED": 2}


def test_a_cluster_of_this_machine_alone_may_use_a_file():
    quiet = {"include_dashboard": False, "log_to_driver": False, "object_store_memory": 80_000_000}
    assert not RayExecutor({"address": None, "num_cpus": 1, **quiet}, {}).spans_machines


@pytest.mark.long
def test_a_study_of_the_users_own(study):
    """The actors find the modules of the study in the working directory."""
    words = [
        "--config-dir",
        "conf",
        "--multirun",
        "hydra/launcher=ray",
        "problem=digits",
        "mode=Halfway",
    ]
    done = script("train", *words, "lam=1", "seed=range(2)", "problem.epochs=2", cwd=study)
    assert "2 done, 0 failed, 0 left" in done.stdout, done.stdout + done.stderr
