"""Modes with a rule, in a training step: each auxiliary is censored against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from auxgrad.censoring.mode import Mode
from auxgrad.censoring.pairs import censor_with, per_variable_products
from auxgrad.training.step.counters import CensoringStatistics
from auxgrad.training.step.directions import Directions
from auxgrad.training.step.reference import MovingAverage


class Censoring:
    """Makes a·u + b·v of each auxiliary direction.

    Args:
        mode: has a rule.
        overall, alpha: of the model.
        average: of the primary gradient; None: the reference is the last one.
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
        """Return the primary gradient and the auxiliary directions as they are to be applied.

        Args:
            primary, auxiliary: g, and u of each auxiliary.
            slots: ranks of their variables.
            statistics: of each auxiliary.
            updates: False leaves the average and the statistics as they are; None means True.
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
        """Return to the first step."""
        if self._average is not None:
            self._average.reset()
