"""Runs whose results cannot differ have the same curves to the last bit: pytest -m faults -n 0."""

from __future__ import annotations

import subprocess
import sys

import pytest

from auxgrad.config.schema import TrackingConfig
from auxgrad.record.opening import open_store

pytestmark = pytest.mark.faults


def test_sums_of_several_losses_do_not_depend_on_the_timing_of_threads(tmp_path):
    """The seed has no effect on the points of `toy`, which have one primary loss each."""
    command = [sys.executable, "-m", "auxgrad.train", "--multirun", "problem=toy", "mode=SingleTask"]
    subprocess.run([*command, "seed=range(40)"], cwd=tmp_path, check=True, capture_output=True)
    store = open_store(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"))
    run_ids = [run.run_id for run in store.runs("FINISHED")]
    assert len(run_ids) == 40
    for name in ("train_loss", "val_loss"):
        curves = store.histories(run_ids, name)
        assert all(curves[each] == curves[run_ids[0]] for each in run_ids)
