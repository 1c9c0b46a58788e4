"""Methods that conflict with no gradient: projections onto the dual cone {x: ⟨x, g_i⟩ ≥ 0 for all i}.

The projection of Σ u_i·g_i is Σ w_i·g_i with the w ≥ u that minimises w'Gw: Quinton and Rey, *Jacobian
descent for multi-objective optimization*, arXiv 2406.16232, proposition 1. Both methods solve this
exactly, whatever the norms of the gradients. TorchJD by default adds 1e-4 of the trace of G to its
diagonal, which alters gradients that are much shorter than the longest, and nearly opposed ones.
"""

from __future__ import annotations

import tensorflow as tf

from auxgrad.censoring.joint.supports import cosines, solve_nonnegative


def upgrad(G: tf.Tensor) -> tf.Tensor:
    """Project each gradient onto the dual cone of all, then average ("UPGrad", arXiv 2406.16232).

    >>> upgrad(tf.constant([[1.0, -1.0], [-1.0, 2.0]], tf.float64)).numpy().round(6).tolist()
    [1.0, 0.75]
    """
    n = G.shape[-1]
    return tf.reduce_sum(_project(G, tf.eye(n, dtype=tf.float64) / n), axis=-1)


def dualproj(G: tf.Tensor) -> tf.Tensor:
    """Average the gradients, then project the mean onto their dual cone.

    Lopez-Paz and Ranzato, *Gradient episodic memory for continual learning*, arXiv 1706.08840, equation
    11, for the mean.

    >>> dualproj(tf.constant([[1.0, -1.0], [-1.0, 2.0]], tf.float64)).numpy().round(6).tolist()
    [0.5, 0.5]
    """
    n = G.shape[-1]
    return _project(G, tf.ones((n, 1), tf.float64) / n)[..., 0]


def _project(G: tf.Tensor, U: tf.Tensor) -> tf.Tensor:
    """Return the weights of the projections, shape (..., n, m), for each column u of U, shape (n, m)."""
    C, norms = cosines(G)
    norms = norms[..., tf.newaxis]
    z = solve_nonnegative(C, -(C @ (norms * U)))
    return U + tf.math.divide_no_nan(z, norms)
