"""Eigenvalues of small matrices to full accuracy.

Compiled by XLA, `tf.linalg.eigh` stops at an error of 1e-6, which is too large for the square roots of
small eigenvalues. For a few gradients Jacobi's method is short, and it is the most accurate one.
"""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

SWEEPS = 8  # Each sweep squares the error; four are enough for five gradients.


def eigh(G: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the eigenvalues and eigenvectors of symmetric matrices, unsorted.

    Args:
        G: Symmetric float64 matrices, shape (..., n, n).

    Returns:
        The eigenvalues, shape (..., n), and the eigenvectors in columns, shape (..., n, n).
    """
    n = G.shape[-1]

    def sweep(step: tf.Tensor, A: tf.Tensor, V: tf.Tensor) -> tuple[tf.Tensor, ...]:
        for p, q in itertools.combinations(range(n), 2):
            R = _rotation(A, p, q)
            A, V = tf.linalg.matrix_transpose(R) @ A @ R, V @ R
        return step + 1, A, V

    start = tf.constant(0), G, tf.eye(n, dtype=tf.float64) + tf.zeros_like(G)
    _, A, V = tf.while_loop(lambda step, A, V: step < (1 if n == 2 else SWEEPS), sweep, start)
    return tf.linalg.diag_part(A), V


def _rotation(A: tf.Tensor, p: int, q: int) -> tf.Tensor:
    """Return the rotation R with (R'AR)_pq = 0."""
    n = A.shape[-1]
    off, gap = A[..., p, q], A[..., q, q] - A[..., p, p]
    # Rotate by at most 45 degrees: with larger angles the method may not converge.
    angle = 0.5 * tf.atan2(tf.where(gap < 0, -off, off) * 2, tf.abs(gap))[..., tf.newaxis, tf.newaxis]
    plane, turn = np.zeros((n, n)), np.zeros((n, n))
    plane[p, p] = plane[q, q] = turn[p, q] = 1
    turn[q, p] = -1
    return np.eye(n) + (tf.cos(angle) - 1) * plane + tf.sin(angle) * turn
