"""Weigh all gradients together, by their Gram matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from auxgrad.censoring.gradients import Gradients, compute_type, inner
from auxgrad.censoring.mode import Mode

# For each variable the weight of each gradient; None means one.
Weights = Sequence[Sequence[tf.Tensor | None]]


@dataclass(frozen=True)
class Group:
    """Variables on which the same gradients are weighed together.

    Attributes:
        variables: Indices of the variables.
        gradients: Indices of the gradients that are weighed.
        whole: Whether all variables share one Gram matrix and one row of the memory.
    """

    variables: tuple[int, ...]
    gradients: tuple[int, ...]
    whole: bool = False


def groups_of(rows: Sequence[Gradients], overall: bool) -> list[Group]:
    """Return the groups of variables and gradients that are weighed together.

    A variable that fewer than two gradients reach is in no group.

    Args:
        rows: For each loss, one gradient or None for each variable.
        overall: Whether all shared variables form one group, in which a missing gradient counts as zero.
            Otherwise each variable is weighed by itself, with the gradients that reach it.
    """
    reached = np.array([[gradient is not None for gradient in row] for row in rows]).T
    shared = np.flatnonzero(reached.sum(axis=1) >= 2)
    if not len(shared):
        return []
    if overall:
        gradients = np.flatnonzero(reached[shared].any(axis=0))
        return [Group(tuple(shared.tolist()), tuple(gradients.tolist()), whole=True)]
    alike: dict[tuple[int, ...], list[int]] = {}
    for variable in shared.tolist():
        alike.setdefault(tuple(np.flatnonzero(reached[variable]).tolist()), []).append(variable)
    return [Group(tuple(variables), gradients) for gradients, variables in alike.items()]


def gram_matrices(rows: Sequence[Gradients]) -> tf.Tensor:
    """Return the Gram matrix of the gradients of each variable, shape (variables, n, n).

    None counts as zero. The type is float64 if one of the gradients is float64, else float32.
    """
    dtype = compute_type(*(gradient for row in rows for gradient in row))
    n = len(rows)
    matrices = []
    for column in zip(*rows, strict=True):
        entries: dict[tuple[int, int], Any] = {}
        for i in range(n):
            for j in range(i, n):
                left, right = column[i], column[j]
                known = left is not None and right is not None
                entries[i, j] = tf.cast(inner(left, right), dtype) if known else tf.zeros((), dtype)
                entries[j, i] = entries[i, j]
        matrices.append(tf.stack([entries[i, j] for i in range(n) for j in range(n)]))
    return tf.reshape(tf.stack(matrices), (-1, n, n))


def weigh(
    grams: tf.Tensor,
    scales: tf.Tensor,
    groups: Sequence[Group],
    mode: Mode,
    memory: tf.Tensor | None = None,
    **further: tf.Tensor,
) -> tuple[Weights, tf.Tensor | None]:
    """Return the weights of the scaled gradients, and the memory of the mode after this step.

    Args:
        grams: Result of `gram_matrices`.
        scales: Factors of the gradients, shape (n,).
        groups: Result of `groups_of`.
        mode: Mode with `weigh`.
        memory: Memory of the mode, shape (rows, n, n), if it takes one.
        **further: seed and alpha, if the mode takes them.

    Raises:
        ValueError: The function of the mode returns something else than documented in `Mode`.
    """
    assert mode.weigh is not None
    n = grams.shape[-1]
    weights: list[list[tf.Tensor | None]] = [[None] * n for _ in range(grams.shape[0])]
    for number, group in enumerate(groups):
        own = list(group.gradients)
        block = np.ix_(group.variables, own, own)
        G = tf.gather_nd(grams, np.stack(np.broadcast_arrays(*block), axis=-1))
        if group.whole:
            G = tf.reduce_sum(G, axis=0, keepdims=True)
        factors = tf.cast(tf.gather(scales, own), G.dtype)
        G = factors[:, tf.newaxis] * G * factors
        given: Mapping[str, tf.Tensor] = further
        if "seed" in further:  # Each group draws different numbers.
            given = {
                **further,
                "seed": further["seed"] + tf.constant([1_000_003 * number, 0], further["seed"].dtype),
            }
        if memory is None:
            w = mode.weigh(G, **given)
        else:
            rows = (0,) if group.whole else group.variables
            places = np.stack(np.broadcast_arrays(*np.ix_(rows, own, own)), axis=-1)
            returned = mode.weigh(G, memory=tf.gather_nd(memory, places), **given)
            if not isinstance(returned, tuple) or len(returned) != 2:
                raise ValueError(f"mode {mode.name!r}: weigh takes memory: must return (w, memory)")
            w, new = returned
            new = tf.cast(new, memory.dtype)
            memory = tf.tensor_scatter_nd_update(memory, places, new)
        w = tf.convert_to_tensor(w)
        if w.shape != G.shape[:-1]:
            raise ValueError(
                f"mode {mode.name!r}: weigh returned shape {w.shape} for G of shape {G.shape}; "
                f"must be {G.shape[:-1]}"
            )
        for position, variable in enumerate(group.variables):
            row = tf.unstack(w[0 if group.whole else position])
            for gradient, weight in zip(own, row, strict=True):
                weights[variable][gradient] = weight
    return weights, memory


def weighted(row: Gradients, weights: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """Return the gradients of a loss times their weights; each gradient keeps its type."""
    return [
        gradient if gradient is None or weight is None else _times(gradient, weight)
        for gradient, weight in zip(row, weights, strict=True)
    ]


def _times(gradient: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    dtype = compute_type(gradient)
    return tf.cast(tf.cast(weight, dtype) * tf.cast(gradient, dtype), gradient.dtype)
