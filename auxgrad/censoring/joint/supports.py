"""Solve quadratic programs with a few non-negative unknowns exactly.

The solution z of min ½·z'Gz − r'z with z ≥ 0 satisfies G_SS·z_S = r_S on its support S and is zero
elsewhere. With n unknowns there are 2ⁿ supports: all are solved at once, and the one with the smallest
violation is taken. There is no iteration; n gradients cost 2ⁿ systems of n rows, for example 8 for a
primary loss with two auxiliaries.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

MOST_GRADIENTS = 10  # 1,024 supports.


def cosines(G: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the matrix of cosines in float64, made positive definite, and the norms.

    The diagonal is 1 plus the relative rounding error of G, or plus 1e-12 if that is larger: where there
    are several solutions, the one of least norm is taken. A zero gradient has norm zero, and cosine zero
    with all others.
    """
    rounding = max(1e-12, 8 * np.finfo(G.dtype.as_numpy_dtype).eps)
    G = tf.cast(G, tf.float64)
    norms = tf.sqrt(tf.maximum(tf.linalg.diag_part(G), 0))
    inverse = tf.math.divide_no_nan(tf.ones_like(norms), norms)
    scaled = inverse[..., :, tf.newaxis] * G * inverse[..., tf.newaxis, :]
    return tf.linalg.set_diag(scaled, (1 + rounding) * tf.ones_like(norms)), norms


def masks(n: int) -> np.ndarray:
    """Return all supports of n unknowns, shape (2ⁿ, n), in the order of `solutions`."""
    if n > MOST_GRADIENTS:
        raise ValueError(f"{n} gradients: this mode takes at most {MOST_GRADIENTS}")
    return (np.arange(2**n)[:, np.newaxis] >> np.arange(n)) % 2 == 1


def solutions(G: tf.Tensor, r: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Solve G_SS·z_S = r_S for every support S.

    Args:
        G: Positive definite matrices, shape (..., n, n).
        r: Right-hand sides, shape (..., n, m).

    Returns:
        z, which is zero outside S, and r − G·z, which is zero in S; each of shape (2ⁿ, ..., n, m).
    """
    n = G.shape[-1]
    support = masks(n)
    tables = tf.concat([G, r], axis=-1)[tf.newaxis]
    for k in range(n):  # Each support with k follows from the one without k.
        tables = tf.concat([tables, _pivoted(tables, k)], axis=0)
    inside = tf.reshape(tf.constant(support), (2**n, *[1] * (len(G.shape) - 2), n, 1))
    right = tables[..., n:]
    zero = tf.zeros_like(right)
    return tf.where(inside, right, zero), tf.where(inside, zero, right)


def solve_nonnegative(G: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
    """Return the z ≥ 0 that minimises ½·z'Gz − r'z, for each column of r; shape (..., n, m)."""
    z, rest = solutions(G, r)
    # The solution satisfies z ≥ 0 and Gz − r ≥ 0.
    return choose(z, tf.reduce_max(tf.maximum(-z, rest), axis=-2))


def choose(z: tf.Tensor, violation: tf.Tensor) -> tf.Tensor:
    """Return, for each column, the z of the support with the least violation, made non-negative.

    Args:
        z: Solutions on all supports, shape (2ⁿ, ..., n, m).
        violation: Violation of the constraints, shape (2ⁿ, ..., m); a support whose violation is not
            finite is never taken.
    """
    comparable = tf.where(tf.math.is_finite(violation), violation, np.inf)
    best = tf.cast(tf.one_hot(tf.argmin(comparable, axis=0), z.shape[0], axis=0), tf.bool)
    taken = tf.where(best[..., tf.newaxis, :], z, tf.zeros_like(z))
    return tf.maximum(tf.reduce_sum(taken, axis=0), 0)


def solve(G: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
    """Return z with G·z = r, for positive definite G, shape (..., n, n), and r, shape (..., n)."""
    n = G.shape[-1]
    table = tf.concat([G, r[..., tf.newaxis]], axis=-1)
    for k in range(n):
        table = _pivoted(table, k)
    return table[..., n]


def _pivoted(table: tf.Tensor, k: int) -> tf.Tensor:
    """Return the table after a Gauss-Jordan step: column k becomes that of the identity."""
    row = table[..., k : k + 1, :] / table[..., k : k + 1, k : k + 1]
    is_k = tf.one_hot(k, table.shape[-2], dtype=tf.float64)[:, tf.newaxis]
    return table - (table[..., k : k + 1] - is_k) * row
