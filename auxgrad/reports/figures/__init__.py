"""Draw the figures of a report."""

from auxgrad.reports.figures.curves import censoring, over_training
from auxgrad.reports.figures.means import over_lam

__all__ = ["censoring", "over_lam", "over_training"]
