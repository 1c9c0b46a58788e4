"""Gradient accumulation: directions are averaged over several steps, and then censored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras
import tensorflow as tf

from auxgrad.training.step.directions import Directions

PRIMARY = "primary gradient"


def accumulation_steps(optimizer: keras.optimizers.Optimizer) -> int:
    """Return the steps between two updates of the optimizer."""
    return _inner(optimizer).gradient_accumulation_steps or 1


def check_replicas(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Raise ValueError for an optimizer that accumulates gradients on several replicas."""
    if replicas > 1 and accumulation_steps(optimizer) > 1:
        raise ValueError("optimizer: gradient_accumulation_steps must be None on several replicas")


class Accumulators:
    """Sums of the directions since the last update of an optimizer.

    They are variables of the optimizer, so that they are saved with its state.

    Args:
        optimizer: has `gradient_accumulation_steps` and is built.
        variables: the trainable variables.
        names: of the auxiliaries with a direction in every step.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
        names: Iterable[str],
    ) -> None:
        self.optimizer = optimizer
        self.steps = accumulation_steps(optimizer)
        self._sums = {
            name: {
                id(variable): _inner(optimizer).add_variable_from_reference(variable, f"sum of {name}")
                for variable in variables
            }
            for name in (PRIMARY, *names)
        }

    def is_last_step(self) -> tf.Tensor:
        """Return whether the optimizer updates the variables in this step."""
        # Private, but what Keras decides by: `iterations` counts updates.
        return (_inner(self.optimizer)._iterations.value + 1) % self.steps == 0

    def add(
        self,
        variables: Sequence[keras.Variable],
        directions: Mapping[str, Directions],
        counts: tf.Tensor | None,
        is_last: tf.Tensor,
    ) -> dict[str, Directions]:
        """Return the means of the directions since the last update, this step's included.

        Args:
            variables: of the directions.
            directions: by `PRIMARY` and names of auxiliaries.
            counts: False leaves everything as it is; None means True.
            is_last: whether the sums start anew after this step.
        """
        return {
            name: [
                None
                if each is None
                else self._mean(self._sums[name][id(variable)], each, counts, is_last)
                for variable, each in zip(variables, parts, strict=True)
            ]
            for name, parts in directions.items()
        }

    def _mean(
        self, own: keras.Variable, direction: tf.Tensor, counts: tf.Tensor | None, is_last: tf.Tensor
    ) -> tf.Tensor:
        total = own.value + direction
        left = tf.where(is_last, tf.zeros_like(total), total)
        own.assign(left if counts is None else tf.where(counts, left, own.value))
        return total / self.steps

    def handed(self, directions: Directions, is_last: tf.Tensor) -> Directions:
        """Return what the optimizer, which sums and averages too, takes for these directions."""
        return [
            None if each is None else tf.where(is_last, self.steps * each, tf.zeros_like(each))
            for each in directions
        ]


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return getattr(optimizer, "inner_optimizer", optimizer)
