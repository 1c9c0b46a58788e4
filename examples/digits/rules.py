"""Rule of the mode Halfway, which conf/mode/Halfway.yaml names."""

import tensorflow as tf


def halfway(d, U, V):
    """Return (a, b) = (1, −min(d, 0) / 2V): u without half of its part that points against v."""
    return tf.ones_like(d), -0.5 * tf.minimum(d, 0.0) / V
