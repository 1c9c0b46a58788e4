"""The reference direction: a moving average of the primary gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


class MovingAverage:
    """v_t = (1 − alpha)·v_{t−1} + alpha·g_t, for each variable of a network.

    Args:
        variables: the variables, one average each.
        add_weight: `keras.Model.add_weight` of the model that is to own the averages.
        start: "zero" begins at v_0 = 0, "first" at v_1 = g_1.
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
        """Take a step and return the averages.

        Where the gradient is None, the average stays as it is and None is returned.

        Args:
            slots: ranks of the gradients' variables.
            gradients: g.
            alpha: share of g in the average.
            counts: False leaves all averages as they are; None means True.
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
        """Go back to the start."""
        for average in self._averages:
            average.assign(tf.zeros_like(average.value))
        if self._steps is not None:
            self._steps.assign(0)
