"""The six modes that censor each auxiliary by itself: a pair (a, b) computed from three numbers.

The auxiliary direction u becomes a·u + b·v, where v is the reference direction: the primary gradient or
its moving average. Every mode needs only

    d = ⟨u, v⟩,   U = ‖u‖²,   V = ‖v‖²

and is one of the six functions below. U and V are positive there; `auxgrad.censoring.coefficients` deals
with zero. Modes that weigh all gradients together are in `auxgrad.censoring.joint`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Scalar = Any  # a tf.Tensor of any shape; the rules work elementwise
Rule = Callable[[Scalar, Scalar, Scalar], tuple[Scalar, Scalar]]


def single_task(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(0, 0): the auxiliary task is ignored."""
    return 0.0, 0.0


def multitask(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(1, 0): u as it is, the usual weighted sum."""
    return 1.0, 0.0


def unweighted_cosine(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(1, 0) when d > 0, else (0, 0): u only when it agrees (Du et al., arXiv 1812.02224)."""
    return tf.cast(d > 0, d.dtype), tf.zeros_like(d)


def weighted_cosine(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(max(d, 0) / √(U·V), 0): u times its positive cosine (Du et al., arXiv 1812.02224)."""
    # Two roots, because the product U·V leaves the range of float32 long before they do.
    return tf.maximum(d, 0.0) / (tf.sqrt(U) * tf.sqrt(V)), tf.zeros_like(d)


def projection(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(1, −min(d, 0) / V): u less its part against v.

    V. Tran-Thien, *Censoring the auxiliary loss gradient to mitigate risks of negative transfer*.
    """
    return tf.ones_like(d), -tf.minimum(d, 0.0) / V


def orthogonal(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(1, −d / V): u less its part along v (Zhang et al., arXiv 1801.07593).

    With overall=True and alpha < 1 this is Bloop (Grangier et al., arXiv 2402.02998).
    """
    return tf.ones_like(d), -d / V
