"""Apply a mode with a rule in a training step: censor each auxiliary against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from auxgrad.censoring.mode import Mode
from auxgrad.censoring.pairs import censor_with, per_variable_products
from auxgrad.training.step.counters import CensoringStatistics
from auxgrad.training.step.directions import Directions
from auxgrad.training.step.reference import MovingAverage


class Censoring:
    """Compute a·u + b·v for each auxiliary direction u.

    Args:
        mode: Mode with a rule.
        overall: As for `AuxiliaryModel`.
        alpha: Variable of the model.
        average: Moving average of the primary gradient; None if the reference is the last gradient.
    """

    def __init__(
        self, mode: Mode, overall: bool, alpha: tf.Variable, average: MovingAverage | None
    ) -> None:
        self._mode, self._overall, self._alpha = mode, overall, alpha
        self._average = average

    def __call__(
        self,
        primary: Directions,
        auxiliary: Mapping[str, Directions],
        slots: Sequence[int],
        statistics: Mapping[str, CensoringStatistics],
        updates: tf.Tensor | None,
    ) -> tuple[Directions, dict[str, Directions]]:
        """Return the primary gradient and the censored auxiliary directions.

        Args:
            primary: g, one tensor for each variable.
            auxiliary: u of each auxiliary, by name.
            slots: Indices of the variables among all that the model was built with.
            statistics: Statistics of each auxiliary, by name.
            updates: Whether to update the average and the statistics; None means True.
        """
        assert self._mode.rule is not None
        reference = primary
        if self._average is not None:
            reference = self._average.update(slots, primary, self._alpha.read_value(), updates)
        censored: dict[str, Directions] = {}
        for name, direction in auxiliary.items():
            scalars = per_variable_products(direction, reference)
            statistics[name].add(slots, scalars, updates)
            censored[name] = censor_with(scalars, direction, reference, self._mode.rule, self._overall)
        return primary, censored

    def restart(self) -> None:
        """Reset to the state before the first step."""
        if self._average is not None:
            self._average.reset()
