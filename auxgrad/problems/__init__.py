"""Problems to train on: the base classes, and one module or package for each problem that ships."""

from auxgrad.problems.base import DataSource, Problem, Training
from auxgrad.problems.data import Data

__all__ = ["Data", "DataSource", "Problem", "Training"]
