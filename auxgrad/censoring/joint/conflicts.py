"""Methods that change each gradient by its conflicts with all others, one after another.

Row i of the matrix C holds the changed gradient i as a combination of the given gradients:
g_i' = Σ_j C_ij·g_j. Its inner product with gradient j is (C·G)_ij. w is the sum of the rows of C.
"""

from __future__ import annotations

import tensorflow as tf


def pcgrad(G: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the weights of the sum of all gradients, each without its conflicts with the others.

        g_i' ← g_i' − min(⟨g_i', g_j⟩, 0) / ‖g_j‖² · g_j     for all j ≠ i, in random order

    Source: Yu et al., *Gradient surgery for multi-task learning*, arXiv 2001.06782, algorithm 1. With
    two gradients there is only one order. A zero gradient conflicts with none.

    Examples:
        >>> pcgrad(tf.constant([[1.0, -1.0], [-1.0, 2.0]]), tf.constant([0, 0])).numpy().tolist()
        [2.0, 1.5]
    """
    G = tf.cast(G, tf.float64)
    C = _identity(G)
    for j in _order(G, seed):
        products, squares = _inner(C, j @ G), _inner(j @ G, j)
        conflicts = (products < 0) & ~_is_own(j)
        step = tf.where(conflicts, tf.math.divide_no_nan(products, squares), 0)
        C -= step[..., tf.newaxis] * j
    return tf.reduce_sum(C, axis=-2)


def gradvac(
    G: tf.Tensor, seed: tf.Tensor, memory: tf.Tensor, alpha: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the weights of the sum of all gradients, with each cosine raised to its moving average.

    φ is the cosine of g_i' and g_j, and φ̂ its moving average, zero at first. For all j ≠ i, in random
    order, if φ < φ̂:

        g_i' ← g_i' + ‖g_i'‖·(φ̂·√(1 − φ²) − φ·√(1 − φ̂²)) / (‖g_j‖·√(1 − φ̂²)) · g_j

    In any case φ̂ ← (1 − alpha)·φ̂ + alpha·φ.

    Source: Wang et al., *Gradient vaccine*, arXiv 2010.05874, algorithm 1; alpha is their β. A pair with
    a zero gradient changes neither gradient nor φ̂. TorchJD adds 1e-8 to the denominators instead, which
    matters for norms that small.

    Args:
        G: Gram matrix, shape (..., n, n).
        seed: Two integers, different at each step, that fix the order.
        memory: φ̂ of the last step, shape (..., n, n).
        alpha: Share of the newest cosine in φ̂, in (0, 1].

    Returns:
        The weights, shape (..., n), and the new φ̂.
    """
    G = tf.cast(G, tf.float64)
    C = _identity(G)
    average, share = tf.cast(memory, tf.float64), tf.cast(alpha, tf.float64)
    for j in _order(G, seed):
        products, squares = _inner(C, j @ G), _inner(j @ G, j)
        norm = tf.sqrt(tf.maximum(_inner(C @ G, C), 0))
        other = tf.sqrt(tf.maximum(squares, 0))
        usable = (norm * other > 0) & ~_is_own(j)
        cosine = tf.math.divide_no_nan(products, norm * other)
        wanted = _inner(average, j)
        sine, wanted_sine = (tf.sqrt(tf.maximum(1 - each**2, 0)) for each in (cosine, wanted))
        raises = usable & (cosine < wanted) & (wanted_sine > 0)
        rise = norm * (wanted * sine - cosine * wanted_sine)
        step = tf.where(raises, tf.math.divide_no_nan(rise, other * wanted_sine), 0)
        C += step[..., tf.newaxis] * j
        average += tf.where(usable, share * (cosine - wanted), 0)[..., tf.newaxis] * j
    return tf.reduce_sum(C, axis=-2), tf.cast(average, memory.dtype)


def _order(G: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
    """Return n matrices; row i of matrix t has a one at the gradient that gradient i meets t-th.

    Each gradient meets itself once; the caller must skip that.
    """
    n = G.shape[-1]
    if n == 2:  # There is only one order.
        return [tf.eye(2, dtype=tf.float64)[::-1] + tf.zeros_like(G)]
    drawn = tf.argsort(tf.random.stateless_uniform(tf.shape(G), seed, alg="philox"))
    return tf.unstack(tf.one_hot(drawn, n, dtype=tf.float64), axis=-2)


def _identity(G: tf.Tensor) -> tf.Tensor:
    return tf.eye(G.shape[-1], dtype=tf.float64) + tf.zeros_like(G)


def _inner(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return the inner products of the rows."""
    return tf.reduce_sum(left * right, axis=-1)


def _is_own(j: tf.Tensor) -> tf.Tensor:
    return tf.linalg.diag_part(j) > 0
