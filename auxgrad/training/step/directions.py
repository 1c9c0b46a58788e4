"""Directions: one tensor for each variable, None where nothing reaches the variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

Directions = Sequence[tf.Tensor | None]


def dense(gradients: Sequence[Any]) -> Directions:
    """Return the gradients with `tf.IndexedSlices`, as those of embeddings, made tensors."""
    return [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]


def add(gradients: Directions, weight: tf.Tensor, others: Directions) -> Directions:
    """Return gradient + weight·other for each variable; what is None counts as zero."""
    return [_add(gradient, weight, other) for gradient, other in zip(gradients, others, strict=True)]


def _add(gradient: tf.Tensor | None, weight: tf.Tensor, other: tf.Tensor | None) -> tf.Tensor | None:
    if other is None:
        return gradient
    weighted = tf.cast(weight, other.dtype) * other
    return weighted if gradient is None else gradient + weighted
