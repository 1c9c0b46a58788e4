"""Methods that search for a point in the convex hull of the gradients."""

from __future__ import annotations

import tensorflow as tf

from auxgrad.censoring.joint.supports import choose, cosines, solutions, solve_nonnegative

RADIUS = 0.5
STATIONARY = 1e-4  # Least norm of the point of the hull, relative to the square root of the trace of G.


def mgda(G: tf.Tensor) -> tf.Tensor:
    """Return the weights of the shortest vector in the convex hull of the gradients.

        w = argmin w'Gw     with w ≥ 0 and Σw = 1

    Source: Désidéri, *Multiple-gradient descent algorithm*, 2012; Sener and Koltun, arXiv 1810.04650. It
    is solved exactly; TorchJD by default stops the Frank-Wolfe iteration at a step of 1e-3. A zero
    gradient is ignored. In TorchJD it is the shortest vector, so that the total is zero; with weight
    decay a bias that starts at zero would then stay there.

    Examples:
        >>> mgda(tf.constant([[1.0, 0.0], [0.0, 3.0]], tf.float64)).numpy().round(6).tolist()
        [0.75, 0.25]
    """
    C, norms = cosines(G)
    # z = w / ‖shortest‖² satisfies G·z >= 1, with equality where w > 0.
    z = tf.math.divide_no_nan(solve_nonnegative(C, _inverse(norms)[..., tf.newaxis])[..., 0], norms)
    return tf.math.divide_no_nan(z, tf.reduce_sum(z, axis=-1, keepdims=True))


def cagrad(G: tf.Tensor) -> tf.Tensor:
    """Return the weights of the vector near the mean gradient g₀ that is best in the worst case.

        total = argmax_d min_i ⟨d, g_i⟩     with ‖d − g₀‖ ≤ c·‖g₀‖,  c = 0.5

    The total is g₀ + c·‖g₀‖ / ‖x‖·x with a point x = Σ p_i·g_i of the convex hull.

    Source: Liu et al., *Conflict-averse gradient descent*, arXiv 2110.14048, algorithm 1. It is solved
    exactly. As in TorchJD, the total is zero if ‖x‖ is below 1e-4 times the square root of the trace of
    G: no direction is good for all gradients. TorchJD also returns zero if that trace is below 1e-4, or
    if a gradient is zero. Here the scale does not matter, and a zero gradient only counts in the mean.
    """
    C, norms = cosines(G)
    mean = norms / G.shape[-1]  # Up to the last lines all weights are multiplied by the norms.
    e = tf.linalg.matvec(C, mean)
    squared_radius = RADIUS**2 * tf.reduce_sum(mean * e, axis=-1)
    # The weights of the total are mean + z with z ≥ 0, and C·(mean + z) ≥ t·q with equality where z > 0.
    # On a support z = t·a − b, with the t for which z'Cz is the squared radius.
    q = _inverse(norms)
    (a, b), (rest_a, rest_b) = (
        tf.unstack(each, axis=-1) for each in solutions(C, tf.stack([q, e], axis=-1))
    )
    aq, ae, be = (tf.reduce_sum(product, axis=-1) for product in (a * q, a * e, b * e))
    t = ((ae + tf.sqrt(ae**2 - aq * (be - squared_radius))) / aq)[..., tf.newaxis]
    z = t * a - b
    violation = tf.reduce_max(tf.maximum(-z, t * rest_a - rest_b), axis=-1, keepdims=True)
    z = choose(z[..., tf.newaxis], violation)[..., 0]
    shares = tf.math.divide_no_nan(z, norms)
    sum_of_shares = tf.reduce_sum(shares, axis=-1, keepdims=True)
    size = tf.sqrt(tf.reduce_sum(norms**2, axis=-1, keepdims=True))
    radius = tf.sqrt(tf.maximum(squared_radius, 0))[..., tf.newaxis]
    moves = radius > STATIONARY * size * sum_of_shares
    return tf.where(moves, 1 / G.shape[-1] + shares, tf.zeros_like(shares))


def _inverse(norms: tf.Tensor) -> tf.Tensor:
    """Return 1 / norms, times the smallest nonzero norm; zero where the norm is zero."""
    least = tf.reduce_min(tf.where(norms > 0, norms, norms.dtype.max), axis=-1, keepdims=True)
    return tf.math.divide_no_nan(least, norms)
