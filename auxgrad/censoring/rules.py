"""Rules of the six modes that censor each auxiliary direction by itself.

The auxiliary direction u becomes a·u + b·v, where v is the reference direction: the primary gradient or
its moving average. A rule computes (a, b) from three scalars:

    d = ⟨u, v⟩      positive if u and v agree, negative if they conflict
    U = ‖u‖²
    V = ‖v‖²

Each rule is a function (d, U, V) -> (a, b) of tensors of one shape and works elementwise. U and V are
positive; `auxgrad.censoring.coefficients` treats zero. Modes that weigh all gradients together are in
`auxgrad.censoring.joint`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Scalar = Any  # A tf.Tensor of any shape.
Rule = Callable[[Scalar, Scalar, Scalar], tuple[Scalar, Scalar]]


def single_task(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """Return (0, 0): the auxiliary task is ignored."""
    return 0.0, 0.0


def multitask(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """Return (1, 0): u stays as it is, as in the usual weighted sum of losses."""
    return 1.0, 0.0


def unweighted_cosine(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """Return (1, 0) if d > 0, else (0, 0): u counts only while it agrees with v.

    Source: Du et al., *Adapting auxiliary losses using gradient similarity*, arXiv 1812.02224, the
    unweighted variant.

    Examples:
        >>> a, b = unweighted_cosine(tf.constant([-1.0, 2.0]), tf.ones(2), tf.ones(2))
        >>> a.numpy().tolist(), b.numpy().tolist()
        ([0.0, 1.0], [0.0, 0.0])
    """
    return tf.cast(d > 0, d.dtype), tf.zeros_like(d)


def weighted_cosine(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """Return (max(d, 0) / √(U·V), 0): u times its cosine with v where that is positive, else zero.

    Source: Du et al., *Adapting auxiliary losses using gradient similarity*, arXiv 1812.02224, the
    weighted variant.

    Examples:
        >>> four = tf.constant([4.0, 4.0])
        >>> a, b = weighted_cosine(tf.constant([-1.0, 2.0]), four, four)
        >>> a.numpy().tolist(), b.numpy().tolist()
        ([0.0, 0.5], [0.0, 0.0])
    """
    # Two roots, because the product U·V leaves the range of float32 long before they do.
    return tf.maximum(d, 0.0) / (tf.sqrt(U) * tf.sqrt(V)), tf.zeros_like(d)


def projection(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """Return (1, −min(d, 0) / V): u without its part that points against v.

    If u conflicts with v (d < 0), it is projected onto the plane orthogonal to v; otherwise it stays as
    it is.

    Source: V. Tran-Thien, *Censoring the auxiliary loss gradient to mitigate risks of negative
    transfer*.

    Examples:
        >>> a, b = projection(tf.constant([-1.0, 2.0]), tf.ones(2), tf.constant([4.0, 4.0]))
        >>> a.numpy().tolist(), b.numpy().tolist()
        ([1.0, 1.0], [0.25, -0.0])
    """
    return tf.ones_like(d), -tf.minimum(d, 0.0) / V


def orthogonal(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """Return (1, −d / V): u without its part along v, whether it agrees or conflicts.

    Source: Zhang et al., *Mitigating unwanted biases with adversarial learning*, arXiv 1801.07593. With
    overall=True and alpha < 1 this is Bloop (Grangier et al., arXiv 2402.02998).

    Examples:
        >>> a, b = orthogonal(tf.constant([-1.0, 2.0]), tf.ones(2), tf.constant([4.0, 4.0]))
        >>> a.numpy().tolist(), b.numpy().tolist()
        ([1.0, 1.0], [0.25, -0.5])
    """
    return tf.ones_like(d), -d / V
