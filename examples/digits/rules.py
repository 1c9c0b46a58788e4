"""A mode of one's own."""

import tensorflow as tf


def halfway(d, U, V):
    """Return (a, b): u less half of its part against v."""
    return tf.ones_like(d), -0.5 * tf.minimum(d, 0.0) / V
