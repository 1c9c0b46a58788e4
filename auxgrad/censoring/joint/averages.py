"""Weights that do not depend on the gradients: the baselines of all other methods."""

from __future__ import annotations

import tensorflow as tf


def mean(G: tf.Tensor) -> tf.Tensor:
    """Return w = 1/n for each gradient: the total is the mean of the gradients.

    Examples:
        >>> mean(tf.eye(4)).numpy().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    n = G.shape[-1]
    return tf.fill(tf.shape(G)[:-1], tf.constant(1 / n, tf.float64))


def random_weighting(G: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return w = softmax(z), with z drawn from the normal distribution at each step.

    Source: Lin et al., *Reasonable effectiveness of random weighting*, arXiv 2111.10603, "RLW" with the
    normal distribution. TensorFlow draws different numbers with XLA than without XLA.
    """
    return tf.nn.softmax(tf.random.stateless_normal(tf.shape(G)[:-1], seed, dtype=tf.float64))
