"""What can be trained: the base class, and a package for each problem that ships."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from auxgrad.problems.base import Data, Problem, Training

if TYPE_CHECKING:
    from auxgrad.config.schema import Config

__all__ = ["Data", "Problem", "Training", "problem_of"]


def problem_of(config: Config) -> Problem:
    """Return the problem that `config.problem.name` names: `create(config)` of its package."""
    package = importlib.import_module(f"auxgrad.problems.{config.problem.name}")
    problem: Problem = package.create(config)
    return problem
