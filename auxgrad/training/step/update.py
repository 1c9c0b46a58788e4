"""One optimisation step from gradients on: censoring, the optimizer, decoupled directions."""

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
        auxiliaries: by name.
        mode, overall, start: as for `AuxiliaryModel`.
        lam, alpha, seed: variables of the model.
        variables: the trainable variables of the network when the model is built.
        add_weight: `keras.Model.add_weight` of the model that owns what is kept between steps.
        has_average: whether the reference is a moving average, not the last primary gradient.
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
        # By identity: in a model of a user's own two layers may have one name.
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
        """Make room for what a built optimizer accumulates, if it does and has not been met before."""
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
            optimizer: takes the coupled directions with the primary gradient.
            variables: what is trained now.
            primary: g, times the loss scale of the optimizer.
            auxiliary: u of each coupled auxiliary that has one in this step, times the loss scale.
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
        # Whether the variables are updated in this step; None: always.
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
            gradients = self._accumulators.handed(gradients, is_last)
        if scale is not None:
            gradients = multiplied(gradients, scale)
        if finite is not None:
            finite &= optimizer.check_finite(gradients)  # The optimizer skips the step for these, too.
            updates &= finite
            gradients = [
                None if each is None else tf.where(finite, each, tf.cast(math.nan, each.dtype))
                for each in gradients
            ]
        learning_rate = tf.convert_to_tensor(optimizer.learning_rate)  # A schedule goes on below.
        _apply(optimizer, gradients, variables)
        for name in decays:
            _decay(variables, directions[name], learning_rate * self._factor(name), updates)

    def _factor(self, name: str) -> tf.Tensor:
        weight = self._auxiliaries[name].weight
        return self._lam.read_value() if weight == 1 else weight * self._lam

    def _slots(self, variables: Sequence[keras.Variable]) -> list[int]:
        """Rank of each trainable variable among those that were trainable when the model was built."""
        for variable in variables:
            if id(variable) not in self._slot_of:
                raise ValueError(
                    f"variable {variable.path} has become trainable since the AuxiliaryModel was built: "
                    "make a new AuxiliaryModel of the network"
                )
        return [self._slot_of[id(variable)] for variable in variables]

    def restart(self) -> None:
        """Return to the first step, with all statistics forgotten."""
        self._method.restart()
        self.reset_statistics()

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
    handed = replicas.handed(gradients)
    pairs = [(g, v) for g, v in zip(handed, variables, strict=True) if g is not None]
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
