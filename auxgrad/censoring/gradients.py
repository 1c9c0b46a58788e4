"""Lists of gradients: one for each variable, None where the loss does not reach the variable."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

Gradients = Sequence[tf.Tensor | None]


def compute_type(*gradients: tf.Tensor | None) -> tf.DType:
    """Return float64 if one of the gradients is float64, else float32."""
    return tf.float64 if any(g is not None and g.dtype == tf.float64 for g in gradients) else tf.float32


def inner(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return ⟨left, right⟩, a scalar, for two tensors of one shape.

    It is float64 if one of the tensors is float64, else float32. The rows are summed by a product with a
    vector of ones, because XLA's own reductions are slow on the CPU.
    """
    width = (left.shape[-1] or 1) if left.shape.rank else 1  # None if unknown while tracing.
    dtype = compute_type(left, right)
    left, right = (tf.reshape(tf.cast(each, dtype), (-1, width)) for each in (left, right))
    return tf.reduce_sum(tf.linalg.matvec(left * right, tf.ones((width,), dtype)))


def add(gradients: Gradients, weight: tf.Tensor | float, others: Gradients) -> Gradients:
    """Return gradient + weight·other for each variable; None counts as zero."""
    return [_add(gradient, weight, other) for gradient, other in zip(gradients, others, strict=True)]


def _add(
    gradient: tf.Tensor | None, weight: tf.Tensor | float, other: tf.Tensor | None
) -> tf.Tensor | None:
    if other is None:
        return gradient
    weighted = tf.cast(weight, other.dtype) * other
    return weighted if gradient is None else gradient + weighted
