"""Methods that need the eigenvalues of the Gram matrix, or its inverse."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from auxgrad.censoring.joint.eigen import eigh


def imtl_g(G: tf.Tensor) -> tf.Tensor:
    """Return the weights of the vector whose projections on all gradients are equal.

        w = G⁺·d / Σ G⁺·d     with d_i = ‖g_i‖, G⁺ the pseudo-inverse

    Source: Liu et al., *Towards impartial multi-task learning*, ICLR 2021; for linearly dependent
    gradients as in Quinton and Rey, arXiv 2406.16232. Weights may be negative. All weights are zero if
    Σ G⁺·d is zero, up to 1e-12 of the sum of the absolute values.

    Examples:
        >>> imtl_g(tf.constant([[1.0, 0.0], [0.0, 4.0]], tf.float64)).numpy().round(6).tolist()
        [0.666667, 0.333333]
    """
    values, vectors, is_positive = _eigen(G)
    d = tf.sqrt(tf.maximum(tf.linalg.diag_part(tf.cast(G, tf.float64)), 0))
    inverse = tf.where(is_positive, 1 / values, tf.zeros_like(values))
    w = tf.linalg.matvec(vectors, inverse * tf.linalg.matvec(vectors, d, transpose_a=True))
    total = tf.reduce_sum(w, axis=-1, keepdims=True)
    vanishes = tf.abs(total) <= 1e-12 * tf.reduce_sum(tf.abs(w), axis=-1, keepdims=True)
    return tf.where(vanishes, tf.zeros_like(w), w / total)


def aligned_mtl(G: tf.Tensor) -> tf.Tensor:
    """Return the weights of the mean gradient after all are made orthogonal and equally long.

        w = √λ_min·V·Λ^(−1/2)·V'·(1/n, …, 1/n)     with G = V·Λ·V', without zero eigenvalues

    Source: Senushkin et al., *Independent component alignment for multi-task learning*, arXiv
    2305.19000, algorithm 1. If all gradients are zero, the weights are 1/n.
    """
    n = G.shape[-1]
    values, vectors, is_positive = _eigen(G)
    least = tf.reduce_min(tf.where(is_positive, values, values.dtype.max), axis=-1, keepdims=True)
    factors = tf.where(is_positive, tf.sqrt(least / values), tf.zeros_like(values))
    sums = tf.reduce_sum(vectors, axis=-2) / n  # V'·(1/n, …, 1/n)
    w = tf.linalg.matvec(vectors, factors * sums)
    return tf.where(tf.reduce_any(is_positive, axis=-1, keepdims=True), w, tf.ones_like(w) / n)


def _eigen(G: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return eigenvalues, eigenvectors in columns, and which eigenvalues exceed the rounding of G."""
    rounding = G.shape[-1] * np.finfo(G.dtype.as_numpy_dtype).eps
    values, vectors = eigh(tf.cast(G, tf.float64))
    largest = tf.reduce_max(values, axis=-1, keepdims=True)
    return values, vectors, values > rounding * tf.maximum(largest, 0)
