"""Directions: one tensor for each variable, None where there is no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

Directions = Sequence[tf.Tensor | None]


def dense(gradients: Sequence[Any]) -> Directions:
    """Return the gradients with each `tf.IndexedSlices`, as from an embedding, converted to a tensor."""
    return [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]
