"""What can be trained: the base classes, and modules for each problem that ships."""

from auxgrad.problems.base import DataSource, Problem, Training
from auxgrad.problems.data import Data

__all__ = ["Data", "DataSource", "Problem", "Training"]
