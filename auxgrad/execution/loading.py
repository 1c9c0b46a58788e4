"""Load the data of a problem."""

from __future__ import annotations

import sys

from auxgrad.errors import DataError
from auxgrad.problems.base import Problem
from auxgrad.problems.data import Data
from auxgrad.process.quiet import quiet_stderr
from auxgrad.training import devices


def load_data(problem: Problem) -> Data:
    """Return the data of a problem.

    Args:
        problem: The problem, whose `load` is called.

    Raises:
        DataError: `load` returned something other than `auxgrad.Data`.
    """
    if "tensorflow" in sys.modules:  # The user's module imported it, and `load` may use it.
        with quiet_stderr():
            devices.configure(problem.tf32)
    data = problem.load()
    if not isinstance(data, Data):
        kind = type(problem).__name__
        raise DataError(f"{kind}.load: returned {type(data).__name__}; must return auxgrad.Data")
    return data
