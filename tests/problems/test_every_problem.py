"""What all problems of the package have in common."""

from __future__ import annotations

import pytest

from auxgrad.config import compose
from auxgrad.config.groups import options


@pytest.mark.parametrize("name", options("problem"))
def test_variables_have_the_same_names_in_every_run(name, small):
    """TensorFlow keeps 35 KiB for each name of a variable until the process ends."""
    words = small[:4] if name == "reviews" else ()
    problem = compose([f"problem={name}", *words]).problem
    data = problem.load()

    def names(seed):
        built = problem.build(data, seed)
        return [variable.path for variable in (*built.network.variables, *built.optimizer.variables)]

    assert not problem.uses_global_state
    assert names(0) == names(1)
