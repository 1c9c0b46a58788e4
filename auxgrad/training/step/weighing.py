"""Apply a joint mode in a training step: weigh all directions together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from auxgrad.censoring.mode import Mode
from auxgrad.censoring.weights import Weights, gram_matrices, groups_of, weigh, weighted
from auxgrad.training.step.counters import CensoringStatistics
from auxgrad.training.step.directions import Directions


class Weighing:
    """Compute w_0·g and w_i·u_i from the primary gradient g and the auxiliary directions u_i.

    Args:
        mode: Mode with `weigh`.
        overall: As for `AuxiliaryModel`.
        lam: Variable of the model.
        alpha: Variable of the model.
        seed: Variable of the model.
        weights: Weights of all auxiliaries, by name.
        size: Number of variables.
        add_weight: `keras.Model.add_weight` of the model that owns the state between steps.
    """

    def __init__(
        self,
        mode: Mode,
        overall: bool,
        lam: tf.Variable,
        alpha: tf.Variable,
        seed: tf.Variable,
        weights: Mapping[str, float],
        size: int,
        add_weight: Callable[..., Any],
    ) -> None:
        self._mode, self._overall = mode, overall
        self._lam, self._alpha, self._seed, self._weights = lam, alpha, seed, weights
        n = 1 + len(weights)
        kept = {"initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        self._step = self._memory = None
        if mode.takes("seed"):
            self._step = add_weight(shape=(), dtype="int32", name="weighed_steps", **kept)
        if mode.takes("memory"):
            rows = 1 if overall else size
            self._memory = add_weight(shape=(rows, n, n), dtype="float32", name="memory", **kept)

    def __call__(
        self,
        primary: Directions,
        auxiliary: Mapping[str, Directions],
        slots: Sequence[int],
        statistics: Mapping[str, CensoringStatistics],
        updates: tf.Tensor | None,
    ) -> tuple[Directions, dict[str, Directions]]:
        """Return the weighted primary gradient and the weighted auxiliary directions.

        Args:
            primary: g, one tensor for each variable.
            auxiliary: u of each auxiliary, by name.
            slots: Indices of the variables among all that the model was built with.
            statistics: Statistics of each auxiliary, by name.
            updates: Whether to update the memory and the statistics; None means True.
        """
        assert self._mode.weigh is not None
        names = list(auxiliary)
        rows = [primary, *(auxiliary[name] for name in names)]
        grams = gram_matrices(rows)
        for i, name in enumerate(names, 1):
            reached = [g is not None and u is not None for g, u in zip(primary, rows[i], strict=True)]
            scalars = tf.stack([grams[:, 0, i], grams[:, i, i], grams[:, 0, 0]], axis=1)
            both = tf.constant(reached, scalars.dtype)[:, tf.newaxis]
            statistics[name].add(slots, both * scalars, updates)
        lam = self._lam.read_value()
        scales = tf.stack([tf.ones_like(lam), *(lam * self._weights[name] for name in names)])
        weights = self._weights_of(rows, grams, scales, slots, names, updates)
        first, *others = (
            # With lam = 0 only the primary gradient counts.
            weighted(row, [None if w[i] is None else tf.where(lam > 0, w[i], alone) for w in weights])
            for i, (row, alone) in enumerate(zip(rows, [1.0] + [0.0] * len(names), strict=True))
        )
        return first, dict(zip(names, others, strict=True))

    def _weights_of(
        self,
        rows: Sequence[Directions],
        grams: tf.Tensor,
        scales: tf.Tensor,
        slots: Sequence[int],
        names: Sequence[str],
        updates: tf.Tensor | None,
    ) -> Weights:
        further = {}
        if self._mode.takes("alpha"):
            further["alpha"] = self._alpha.read_value()
        if self._step is not None:
            step = self._step.value
            further["seed"] = tf.stack([self._seed.read_value(), tf.cast(step, tf.int64)])
            self._step.assign(step + (1 if updates is None else tf.cast(updates, tf.int32)))
        # An auxiliary with weight zero is counted in the statistics, but not weighed.
        counts = [True, *(self._weights[name] != 0 for name in names)]
        weighed = [row if each else [None] * len(row) for row, each in zip(rows, counts, strict=True)]
        groups = groups_of(weighed, self._overall)
        if self._memory is None:
            return weigh(grams, scales, groups, self._mode, **further)[0]
        order = list(self._weights)
        places = [0, *(1 + order.index(name) for name in names)]
        block = np.ix_([0] if self._overall else slots, places, places)
        index = np.stack(np.broadcast_arrays(*block), axis=-1)
        last = tf.convert_to_tensor(self._memory.value)
        own = tf.gather_nd(last, index)
        weights, own = weigh(grams, scales, groups, self._mode, own, **further)
        memory = tf.tensor_scatter_nd_update(last, index, own)
        self._memory.assign(memory if updates is None else tf.where(updates, memory, last))
        return weights

    def restart(self) -> None:
        """Reset to the state before the first step."""
        for kept in (self._step, self._memory):
            if kept is not None:
                kept.assign(tf.zeros_like(kept.value))
