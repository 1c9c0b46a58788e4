"""An optimisation step after the gradients: censoring, optimizer, decoupled directions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from auxgrad.censoring.gradients import add
from auxgrad.censoring.mode import Mode
from auxgrad.training.auxiliaries import Auxiliary, WeightDecay
from auxgrad.training.step import replicas
from auxgrad.training.step.accumulation import PRIMARY, Accumulators, accumulation_steps
from auxgrad.training.step.censoring import Censoring
from auxgrad.training.step.counters import CensoringStatistics
from auxgrad.training.step.directions import Directions, dense
from auxgrad.training.step.reference import MovingAverage
from auxgrad.training.step.scaling import divided, loss_scale, multiplied, skips_steps
from auxgrad.training.step.weighing import Weighing


class CensoredUpdate:
    """The part of a training step that XLA compiles.

    Args:
        auxiliaries: The auxiliaries by name.
        mode: The mode of the model.
        overall: As for `AuxiliaryModel`.
        lam: Variable of the model.
        alpha: Variable of the model.
        seed: Variable of the model.
        variables: The trainable variables of the network when the model is built.
        add_weight: `keras.Model.add_weight` of the model that owns the state between steps.
        has_average: Whether the reference is a moving average, not the last primary gradient.
        start: As for `AuxiliaryModel`.
    """

    def __init__(
        self,
        auxiliaries: Mapping[str, Auxiliary],
        mode: Mode,
        overall: bool,
        lam: tf.Variable,
        alpha: tf.Variable,
        seed: tf.Variable,
        variables: Sequence[keras.Variable],
        add_weight: Callable[..., Any],
        has_average: bool,
        start: str,
    ) -> None:
        self._auxiliaries, self._ignores, self._lam = auxiliaries, mode.ignores_auxiliary, lam
        self.has_average = has_average
        self._method: Censoring | Weighing
        if mode.rule is not None:
            average = MovingAverage(variables, add_weight, start) if has_average else None
            self._method = Censoring(mode, overall, alpha, average)
        else:
            weights = {name: each.weight for name, each in auxiliaries.items()}
            size = len(variables)
            self._method = Weighing(mode, overall, lam, alpha, seed, weights, size, add_weight)
        # Look variables up by identity: in a user's model two layers may have the same name.
        self._slot_of = {id(variable): slot for slot, variable in enumerate(variables)}
        self._accumulators: Accumulators | None = None
        names = [".".join(variable.path.split("/")[-2:]) for variable in variables]
        several = len(auxiliaries) > 1
        self._statistics = {
            name: CensoringStatistics(names, f"{name}/" if several else "") for name in auxiliaries
        }

    def accumulate_for(
        self, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
    ) -> None:
        """Create the accumulators of a built optimizer, if it accumulates gradients and has none yet."""
        if self._ignores or accumulation_steps(optimizer) == 1:
            self._accumulators = None
        elif self._accumulators is None or self._accumulators.optimizer is not optimizer:
            coupled = [name for name, each in self._auxiliaries.items() if each.coupled]
            self._accumulators = Accumulators(optimizer, variables, coupled)

    def __call__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
        primary: Directions,
        auxiliary: Mapping[str, Directions],
    ) -> None:
        """Take a step.

        Args:
            optimizer: Optimizer for the primary gradient and the coupled directions.
            variables: The variables that are trainable now.
            primary: g, times the loss scale of the optimizer.
            auxiliary: u of each coupled auxiliary with data in this step, times the loss scale.
        """
        if self._ignores:
            _apply(optimizer, primary, variables)
            return
        slots = self._slots(variables)
        decays = {
            name: dense(each.direction(variables))
            for name, each in self._auxiliaries.items()
            if isinstance(each, WeightDecay)
        }
        # Whether this step updates the variables; None means it always does.
        updates = finite = None
        scale = loss_scale(optimizer)
        if scale is not None:
            primary = divided(primary, scale)
            auxiliary = {name: divided(each, scale) for name, each in auxiliary.items()}
            if skips_steps(optimizer):
                all_of_them = [*primary, *itertools.chain(*auxiliary.values())]
                updates = finite = optimizer.check_finite(all_of_them)
        if self._accumulators is not None:
            is_last = self._accumulators.is_last_step()
            means = self._accumulators.add(variables, {PRIMARY: primary, **auxiliary}, finite, is_last)
            primary, auxiliary = means.pop(PRIMARY), means
            updates = is_last if finite is None else is_last & finite
        gradients, directions = self._method(
            primary, {**auxiliary, **decays}, slots, self._statistics, updates
        )
        for name in auxiliary:
            gradients = add(gradients, self._factor(name), directions[name])
        if self._accumulators is not None:
            gradients = self._accumulators.for_optimizer(gradients, is_last)
        if scale is not None:
            gradients = multiplied(gradients, scale)
        if finite is not None:
            finite &= optimizer.check_finite(gradients)  # The optimizer skips such a step, too.
            updates &= finite
            gradients = [
                None if each is None else tf.where(finite, each, tf.cast(math.nan, each.dtype))
                for each in gradients
            ]
        learning_rate = tf.convert_to_tensor(optimizer.learning_rate)  # Applying advances a schedule.
        _apply(optimizer, gradients, variables)
        for name in decays:
            _decay(variables, directions[name], learning_rate * self._factor(name), updates)

    def _factor(self, name: str) -> tf.Tensor:
        weight = self._auxiliaries[name].weight
        return self._lam.read_value() if weight == 1 else weight * self._lam

    def _slots(self, variables: Sequence[keras.Variable]) -> list[int]:
        """Return the index of each variable among those that were trainable when the model was built."""
        for variable in variables:
            if id(variable) not in self._slot_of:
                raise ValueError(
                    f"variable {variable.path} has become trainable since the AuxiliaryModel was built: "
                    "make a new AuxiliaryModel of the network"
                )
        return [self._slot_of[id(variable)] for variable in variables]

    def restart(self) -> None:
        """Reset to the state before the first step, including all statistics."""
        self._method.restart()
        self.reset_statistics()

    def statistics(self) -> dict[str, float]:
        """Return the statistics of all auxiliaries; see `AuxiliaryModel.censoring_statistics`."""
        return {key: value for each in self._statistics.values() for key, value in each.means().items()}

    def reset_statistics(self) -> None:
        """Reset all statistics."""
        for each in self._statistics.values():
            each.reset()


def _apply(
    optimizer: keras.optimizers.Optimizer, gradients: Directions, variables: Sequence[keras.Variable]
) -> None:
    own = replicas.for_optimizer(gradients)
    pairs = [(g, v) for g, v in zip(own, variables, strict=True) if g is not None]
    if not pairs:
        raise ValueError("no variable has a gradient: the loss does not depend on the network")
    optimizer.apply_gradients(pairs)


def _decay(
    variables: Sequence[keras.Variable],
    directions: Directions,
    rate: tf.Tensor,
    updates: tf.Tensor | None,
) -> None:
    for variable, direction in zip(variables, directions, strict=True):
        if direction is None:
            continue
        step = tf.cast(rate, direction.dtype) * direction
        if updates is not None:
            step = tf.where(updates, step, tf.zeros_like(step))
        replicas.assign_sub(variable, step)
        if variable.constraint is not None:
            replicas.assign(variable, variable.constraint(variable))
