"""Gradient accumulation: average directions over several steps, then censor the averages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras
import tensorflow as tf

from auxgrad.training.step.directions import Directions

PRIMARY = "primary gradient"


def accumulation_steps(optimizer: keras.optimizers.Optimizer) -> int:
    """Return the number of steps between two updates of the optimizer."""
    return _inner(optimizer).gradient_accumulation_steps or 1


def check_replicas(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Raise ValueError for an optimizer that accumulates gradients on several replicas."""
    if replicas > 1 and accumulation_steps(optimizer) > 1:
        raise ValueError("optimizer: gradient_accumulation_steps must be None on several replicas")


class Accumulators:
    """Sums of the directions since the last update of an optimizer.

    The sums are variables of the optimizer, so that they are saved with its state.

    Args:
        optimizer: A built optimizer with `gradient_accumulation_steps`.
        variables: The trainable variables.
        names: Names of the auxiliaries that have a direction in every step.
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
        # A private counter, by which Keras decides: the public `iterations` counts updates.
        return (_inner(self.optimizer)._iterations.value + 1) % self.steps == 0

    def add(
        self,
        variables: Sequence[keras.Variable],
        directions: Mapping[str, Directions],
        counts: tf.Tensor | None,
        is_last: tf.Tensor,
    ) -> dict[str, Directions]:
        """Return the means of the directions since the last update, including this step.

        Args:
            variables: Variables of the directions.
            directions: Directions by `PRIMARY` and by names of auxiliaries.
            counts: Whether to change the sums; None means True.
            is_last: Whether to reset the sums after this step.
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

    def for_optimizer(self, directions: Directions, is_last: tf.Tensor) -> Directions:
        """Return the gradients to pass to the optimizer, which averages over the steps again."""
        return [
            None if each is None else tf.where(is_last, self.steps * each, tf.zeros_like(each))
            for each in directions
        ]


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return getattr(optimizer, "inner_optimizer", optimizer)
