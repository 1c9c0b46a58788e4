"""Directions: one tensor for each variable, None where nothing reaches the variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

Directions = Sequence[tf.Tensor | None]


def dense(gradients: Sequence[Any]) -> Directions:
    """Return the gradients with `tf.IndexedSlices`, as those of embeddings, made tensors."""
    return [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]
