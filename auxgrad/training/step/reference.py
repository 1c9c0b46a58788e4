"""The reference direction: a moving average of the primary gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


class MovingAverage:
    """v_t = (1 − alpha)·v_{t−1} + alpha·g_t, for each variable of a network.

    Args:
        variables: The variables; each has its own average.
        add_weight: `keras.Model.add_weight` of the model that owns the averages.
        start: "zero" for v_0 = 0, "first" for v_1 = g_1.
    """

    def __init__(
        self, variables: Sequence[keras.Variable], add_weight: Callable[..., Any], start: str
    ) -> None:
        self._averages = [
            add_weight(
                shape=variable.shape,
                dtype=variable.dtype,
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
                name=f"average_{i}",
            )
            for i, variable in enumerate(variables)
        ]
        self._steps: Any = None
        if start == "first":
            self._steps = add_weight(
                shape=(),
                dtype="int32",
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
                name="averaged_steps",
            )

    def update(
        self,
        slots: Sequence[int],
        gradients: Sequence[tf.Tensor | None],
        alpha: tf.Tensor,
        counts: tf.Tensor | None = None,
    ) -> list[tf.Tensor | None]:
        """Update the averages and return them.

        Where a gradient is None, the average does not change and None is returned.

        Args:
            slots: Indices of the variables of the gradients.
            gradients: g, one gradient or None for each variable.
            alpha: Share of g in the average.
            counts: Whether to store the new averages; None means True.
        """
        if self._steps is not None:
            alpha = tf.where(self._steps.value == 0, 1.0, alpha)
            self._steps.assign_add(1 if counts is None else tf.cast(counts, tf.int32))
        reference: list[tf.Tensor | None] = []
        for slot, gradient in zip(slots, gradients, strict=True):
            if gradient is None:
                reference.append(None)
                continue
            share = tf.cast(alpha, gradient.dtype)
            last = self._averages[slot].value
            average = (1 - share) * last + share * gradient
            self._averages[slot].assign(average if counts is None else tf.where(counts, average, last))
            reference.append(average)
        return reference

    def reset(self) -> None:
        """Reset all averages."""
        for average in self._averages:
            average.assign(tf.zeros_like(average.value))
        if self._steps is not None:
            self._steps.assign(0)
