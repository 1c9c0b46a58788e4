"""Methods whose total conflicts with no gradient: projections onto a dual cone.

The dual cone of the gradients is {x: ⟨x, g_i⟩ ≥ 0 for all i}. The projection of Σ u_i·g_i onto it is
Σ w_i·g_i with the w ≥ u that minimises w'Gw (Quinton and Rey, *Jacobian descent for multi-objective
optimization*, arXiv 2406.16232, proposition 1). Both methods solve this exactly, for gradients of any
norm. TorchJD by default adds 1e-4 times the trace of G to its diagonal, which changes the result if some
gradients are much shorter than the longest one, or nearly opposed.
"""

from __future__ import annotations

import tensorflow as tf

from auxgrad.censoring.joint.supports import cosines, solve_nonnegative


def upgrad(G: tf.Tensor) -> tf.Tensor:
    """Return the weights of the mean of all gradients, each projected onto the dual cone first.

    Source: Quinton and Rey, arXiv 2406.16232, "UPGrad".

    Examples:
        >>> upgrad(tf.constant([[1.0, -1.0], [-1.0, 2.0]], tf.float64)).numpy().round(6).tolist()
        [1.0, 0.75]
    """
    n = G.shape[-1]
    return tf.reduce_sum(_project(G, tf.eye(n, dtype=tf.float64) / n), axis=-1)


def dualproj(G: tf.Tensor) -> tf.Tensor:
    """Return the weights of the mean gradient, projected onto the dual cone.

    Source: Lopez-Paz and Ranzato, *Gradient episodic memory for continual learning*, arXiv 1706.08840,
    equation 11, applied to the mean.

    Examples:
        >>> dualproj(tf.constant([[1.0, -1.0], [-1.0, 2.0]], tf.float64)).numpy().round(6).tolist()
        [0.5, 0.5]
    """
    n = G.shape[-1]
    return _project(G, tf.ones((n, 1), tf.float64) / n)[..., 0]


def _project(G: tf.Tensor, U: tf.Tensor) -> tf.Tensor:
    """Return the weights of the projections of the columns of U, shape (n, m); shape (..., n, m)."""
    C, norms = cosines(G)
    norms = norms[..., tf.newaxis]
    z = solve_nonnegative(C, -(C @ (norms * U)))
    return U + tf.math.divide_no_nan(z, norms)
