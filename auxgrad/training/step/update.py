"""One optimisation step from gradients on: censoring, the optimizer, decoupled directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from auxgrad.censoring import Mode, censor_with, per_variable_products
from auxgrad.training.auxiliaries import Auxiliary, WeightDecay
from auxgrad.training.step.counters import CensoringStatistics
from auxgrad.training.step.directions import Directions, add, dense
from auxgrad.training.step.reference import MovingAverage


class CensoredUpdate:
    """The part of a training step that XLA compiles.

    Args:
        auxiliaries: by name.
        mode, overall, start: as for `AuxiliaryModel`.
        lam, alpha: variables of the model.
        variables: the trainable variables of the network when the model is built.
        average_of: `keras.Model.add_weight` of the model that owns the moving average; None: the
            reference is the last primary gradient.
    """

    def __init__(
        self,
        auxiliaries: Mapping[str, Auxiliary],
        mode: Mode,
        overall: bool,
        lam: tf.Variable,
        alpha: tf.Variable,
        variables: Sequence[keras.Variable],
        average_of: Callable[..., Any] | None,
        start: str,
    ) -> None:
        self._auxiliaries, self._mode, self._overall = auxiliaries, mode, overall
        self._lam, self._alpha = lam, alpha
        # By identity: in a model of a user's own two layers may have one name.
        self._slot_of = {id(variable): slot for slot, variable in enumerate(variables)}
        self.average = MovingAverage(variables, average_of, start) if average_of else None
        names = [".".join(variable.path.split("/")[-2:]) for variable in variables]
        several = len(auxiliaries) > 1
        self._statistics = {
            name: CensoringStatistics(names, f"{name}/" if several else "") for name in auxiliaries
        }

    def __call__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
        primary: Directions,
        auxiliary: Mapping[str, Directions],
    ) -> None:
        """Take a step.

        Args:
            optimizer: takes the coupled directions with the primary gradient.
            variables: what is trained now.
            primary: g.
            auxiliary: u of each coupled auxiliary that has one in this step.
        """
        if self._mode.ignores_auxiliary:
            _apply(optimizer, primary, variables)
            return
        slots = self._slots(variables)
        decays = {
            name: dense(each.direction(variables))
            for name, each in self._auxiliaries.items()
            if isinstance(each, WeightDecay)
        }
        reference = primary
        if self.average is not None:
            reference = self.average.update(slots, primary, self._alpha.read_value())
        gradients = primary
        for name, direction in auxiliary.items():
            censored = self._censored(name, direction, reference, slots)
            gradients = add(gradients, self._factor(name), censored)
        decayed = {
            name: self._censored(name, direction, reference, slots) for name, direction in decays.items()
        }
        learning_rate = tf.convert_to_tensor(optimizer.learning_rate)  # A schedule goes on below.
        _apply(optimizer, gradients, variables)
        for name, censored in decayed.items():
            _decay(variables, censored, learning_rate * self._factor(name))

    def _factor(self, name: str) -> tf.Tensor:
        weight = self._auxiliaries[name].weight
        return self._lam.read_value() if weight == 1 else weight * self._lam

    def _censored(
        self, name: str, auxiliary: Directions, reference: Directions, slots: Sequence[int]
    ) -> Directions:
        scalars = per_variable_products(auxiliary, reference)
        rows = [tf.zeros((3,))] * len(self._slot_of)
        for slot, row in zip(slots, tf.unstack(scalars), strict=True):
            rows[slot] = tf.cast(row, tf.float32)
        self._statistics[name].add(rows)
        return censor_with(scalars, auxiliary, reference, self._mode, self._overall)

    def _slots(self, variables: Sequence[keras.Variable]) -> list[int]:
        """Rank of each trainable variable among those that were trainable when the model was built."""
        for variable in variables:
            if id(variable) not in self._slot_of:
                raise ValueError(
                    f"variable {variable.path} has become trainable since the AuxiliaryModel was built: "
                    "make a new AuxiliaryModel of the network"
                )
        return [self._slot_of[id(variable)] for variable in variables]

    def statistics(self) -> dict[str, float]:
        """Return the statistics of all auxiliaries, see `AuxiliaryModel.censoring_statistics`."""
        return {key: value for each in self._statistics.values() for key, value in each.means().items()}

    def reset_statistics(self) -> None:
        """Forget all statistics."""
        for each in self._statistics.values():
            each.reset()


def _apply(
    optimizer: keras.optimizers.Optimizer, gradients: Directions, variables: Sequence[keras.Variable]
) -> None:
    pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    optimizer.apply_gradients(pairs)


def _decay(variables: Sequence[keras.Variable], directions: Directions, rate: tf.Tensor) -> None:
    for variable, direction in zip(variables, directions, strict=True):
        if direction is not None:
            variable.assign_sub(tf.cast(rate, direction.dtype) * direction)
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
