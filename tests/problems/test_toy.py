"""Points in the plane: check their known end points and their recorded paths."""

from __future__ import annotations

import subprocess
import sys

import mlflow
import numpy as np
import pytest
from conftest import REPOSITORY

import auxgrad
from auxgrad.config import compose
from auxgrad.errors import ConfigError

STARTS = [(-1.5, 0.4), (1.8, -1.5)]
WORDS = ["problem=toy", "problem.starts=[[-1.5,0.4],[1.8,-1.5]]", "lam=0.1", "alpha=1"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("mode", "end"), [("SingleTask", None), ("Multitask", 1.0909), ("Projection", 1.0)]
)
def test_the_points_end_where_they_should(in_tmp, mode, end):
    run_id = auxgrad.run([*WORDS, f"mode={mode}"]).run_id
    client = mlflow.MlflowClient(f"sqlite:///{in_tmp}/mlflow.db")
    for number, start in enumerate(STARTS, start=1):
        curves = [client.get_metric_history(run_id, f"val_point_{number}_{axis}") for axis in "xy"]
        path = np.array([[point.value for point in curve] for curve in curves]).T
        assert path.shape == (150, 2)
        # Adam moves at most 0.01 in a step, and an epoch has ten steps.
        assert np.abs(path[0] - start).max() <= 0.1 + 1e-6
        if end:
            np.testing.assert_allclose(path[-1], (end, 0), atol=1e-2)
        else:  # They move to the circle, not along it.
            assert np.linalg.norm(path[-1]) == pytest.approx(1, abs=1e-3)
            assert np.linalg.norm(path[-1] - (1, 0)) > 0.5


@pytest.mark.long
@pytest.mark.process
def test_the_picture(tmp_path):
    script = REPOSITORY / "examples/toy/paths.py"
    command = [sys.executable, script, "paths.png", "problem.epochs=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("result    test loss") == 6
    assert (tmp_path / "paths.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("starts", ["[]", "[[1]]", "[[1,2,3]]", "[[1,nan]]", "3"])
def test_wrong_starts_get_one_line(starts):
    with pytest.raises(ConfigError, match=r"^problem\.starts=\S*: must be a list of points \[x, y\]$"):
        compose(["problem=toy", f"problem.starts={starts}"])
