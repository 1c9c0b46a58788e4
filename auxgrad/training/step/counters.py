"""Counters of a model on the device, so that no training step waits for the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from auxgrad.censoring.pairs import is_usable
from auxgrad.training.step.replicas import SAME

LOSSES_KEPT = 1024


class BatchLosses:
    """The primary losses of the last training steps, and the number of steps.

    Args:
        at_once: Steps in one call of TensorFlow; losses can be read only between calls. `LOSSES_KEPT`
            losses are kept, or those of two calls if these are more.
    """

    def __init__(self, at_once: int = 1) -> None:
        self.kept = max(LOSSES_KEPT, 2 * at_once)
        # Plain tf.Variables are not weights of the Keras model: they are neither saved nor restored.
        self._losses = tf.Variable(
            tf.zeros((self.kept,)), trainable=False, name="losses", aggregation=SAME
        )
        self._steps = tf.Variable(0, trainable=False, name="steps", dtype=tf.int64, aggregation=SAME)

    @property
    def steps(self) -> int:
        """The number of steps since the start or the last reset."""
        return int(self._steps.numpy())

    @property
    def counter(self) -> tf.Variable:
        """The variable with the number of steps."""
        return self._steps

    def append(self, loss: tf.Tensor) -> None:
        """Add the loss of a step."""
        position = tf.IndexedSlices(tf.cast(loss, tf.float32), self._steps % self.kept)
        self._losses.scatter_update(position)
        self._steps.assign_add(1)

    def since(self, step: int) -> np.ndarray:
        """Return the losses since a step, which is counted from 0.

        Raises:
            ValueError: The first of these losses is no longer kept.
        """
        steps = self.steps
        if steps - step > self.kept:
            raise ValueError(f"since={step}: only the last {self.kept} of {steps} losses are kept")
        return np.take(self._losses.numpy(), np.arange(step, steps), mode="wrap")

    def reset(self) -> None:
        """Reset to step 0."""
        self._steps.assign(0)


class CensoringStatistics:
    """Mean cosine and share of conflicts, for each variable and for all variables together."""

    def __init__(self, names: Sequence[str], prefix: str = "") -> None:
        self._names = tuple(prefix + name for name in (*names, "overall"))
        # One row for each name: sum of the cosines, steps with a conflict, steps counted.
        self._sums = tf.Variable(tf.zeros((len(self._names), 3)), trainable=False, aggregation=SAME)

    def add(self, slots: Sequence[int], scalars: tf.Tensor, counts: tf.Tensor | None = None) -> None:
        """Count a step.

        Args:
            slots: Indices of the variables.
            scalars: ⟨u, v⟩, ‖u‖² and ‖v‖² of each variable, shape (len(slots), 3).
            counts: Whether the step counts; None means True.
        """
        rows = [tf.zeros((3,))] * (len(self._names) - 1)
        for slot, row in zip(slots, tf.unstack(scalars), strict=True):
            rows[slot] = tf.cast(row, tf.float32)
        total = tf.reduce_sum(tf.stack(rows), axis=0)
        d, U, V = tf.unstack(tf.stack([*rows, total]), axis=1)
        usable = is_usable(U) & is_usable(V)
        if counts is not None:
            usable &= counts
        norms = tf.where(usable, tf.sqrt(U) * tf.sqrt(V), 1.0)
        cosine = tf.where(usable, d / norms, 0.0)
        conflict = tf.cast(usable & (d < 0), tf.float32)
        self._sums.assign_add(tf.stack([cosine, conflict, tf.cast(usable, tf.float32)], axis=1))

    def means(self) -> dict[str, float]:
        """Return the means over the steps in which neither direction was zero, if there are any."""
        means: dict[str, float] = {}
        for name, (cosine, conflict, steps) in zip(self._names, self._sums.numpy(), strict=True):
            if steps:
                means[f"cosine/{name}"] = float(cosine / steps)
                means[f"conflict/{name}"] = float(conflict / steps)
        return means

    def reset(self) -> None:
        """Forget all steps."""
        self._sums.assign(tf.zeros_like(self._sums))
