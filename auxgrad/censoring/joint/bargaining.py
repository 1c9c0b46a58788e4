"""Weights from Nash's bargaining solution."""

from __future__ import annotations

import tensorflow as tf

from auxgrad.censoring.joint.supports import cosines, solve

LARGEST_NORM = 1.0
TOLERANCE = 1e-9  # Newton decrement: about the relative error of the weights.
MOST_STEPS = 100


def nash_mtl(G: tf.Tensor) -> tf.Tensor:
    """Return weights that maximise the product of the gains of all tasks.

        w = √‖G‖·α     with G·α = 1/α, elementwise, α > 0;  then scaled to ‖total‖ ≤ 1

    Source: Navon et al., *Multi-task learning as a bargaining game*, arXiv 2202.01017, algorithm 1. The
    scale √‖G‖ (Frobenius norm) and the bound of ‖total‖ are those of the authors' program. α minimises
    the convex and self-concordant function ½·α'Gα − Σ log α. It is found by at most 100 damped Newton
    steps, until the Newton decrement is below 1e-9. TorchJD linearises the problem around its last α
    instead, and stops at a residual of 1e-3. A zero gradient has weight zero.
    """
    C, norms = cosines(G)
    n = G.shape[-1]
    one = tf.constant(1.0, tf.float64)
    start = tf.sqrt(n / tf.reduce_sum(C, axis=[-2, -1]))[..., tf.newaxis] * tf.ones_like(norms)

    def goes_on(step: tf.Tensor, alpha: tf.Tensor, decrement: tf.Tensor) -> tf.Tensor:
        return (step < MOST_STEPS) & tf.reduce_any(decrement > TOLERANCE)

    def improve(step: tf.Tensor, alpha: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        slope = tf.linalg.matvec(C, alpha) - 1 / alpha
        change = solve(C + tf.linalg.diag(alpha**-2), slope)
        decrement = tf.sqrt(tf.maximum(tf.reduce_sum(slope * change, axis=-1, keepdims=True), 0))
        return step + 1, alpha - change / tf.where(decrement < 0.25, one, 1 + decrement), decrement

    first = tf.constant(0), start, tf.ones_like(start[..., :1])
    _, alpha, _ = tf.while_loop(goes_on, improve, first)
    alpha = tf.math.divide_no_nan(alpha, norms)
    G = tf.cast(G, tf.float64)
    w = tf.sqrt(tf.norm(G, axis=[-2, -1]))[..., tf.newaxis] * alpha
    squared_norm = tf.reduce_sum(w * tf.linalg.matvec(G, w), axis=-1, keepdims=True)
    norm = tf.sqrt(tf.maximum(squared_norm, 0))
    return w * (LARGEST_NORM / tf.maximum(norm, LARGEST_NORM))
