r"""The six modes, each a pair (a, b) of numbers computed from three others.

Censoring replaces the auxiliary direction u by a·u + b·v, where v is the reference direction: the
primary gradient or its moving average. Every mode needs only

    d = ⟨u, v⟩,   U = ‖u‖²,   V = ‖v‖²

and is one of the six functions below. U and V are positive there; `coefficients` deals with zero.
A new mode is a function here, its name in `MODES`, and a file in conf/mode/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Scalar = Any  # a tf.Tensor of any shape; the rules work elementwise
Rule = Callable[[Scalar, Scalar, Scalar], tuple[Scalar, Scalar]]


def single_task(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(0, 0): the auxiliary task is ignored."""
    return tf.zeros_like(d), tf.zeros_like(d)


def multitask(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(1, 0): u as it is, the usual weighted sum."""
    return tf.ones_like(d), tf.zeros_like(d)


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


MODES: dict[str, Rule] = {
    "SingleTask": single_task,
    "Multitask": multitask,
    "UnweightedCosine": unweighted_cosine,
    "WeightedCosine": weighted_cosine,
    "Projection": projection,
    "Orthogonal": orthogonal,
}


def rule_of(mode: str) -> Rule:
    """The rule of a mode. Raises ValueError for a name that is not in `MODES`."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: must be one of {', '.join(MODES)}")
    return MODES[mode]


def is_usable(squared_norm: Scalar) -> Scalar:
    """Whether a squared norm can be divided by: at least the smallest normal float32.

    A direction below that (norm about 1e-19) counts as zero, so that no quotient overflows.
    """
    return squared_norm >= tf.constant(1.1754944e-38, squared_norm.dtype)


def coefficients(mode: str, d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(a, b) of a mode for d = ⟨u, v⟩, U = ‖u‖², V = ‖v‖², elementwise and never NaN.

    Where U or V is zero u is left as it is, (1, 0), in every mode but SingleTask.

    >>> d, U, V = tf.constant([[-2.0, 2.0, 0.0], [2.0, 2.0, 2.0], [4.0, 4.0, 0.0]])
    >>> [part.numpy().tolist() for part in coefficients("Projection", d, U, V)]
    [[1.0, 1.0, 1.0], [0.5, -0.0, 0.0]]
    """
    rule = rule_of(mode)
    if rule is single_task:
        return rule(d, U, V)
    usable = is_usable(U) & is_usable(V)
    one = tf.ones_like(d)
    a, b = rule(d, tf.where(usable, U, one), tf.where(usable, V, one))
    return tf.where(usable, a, one), tf.where(usable, b, tf.zeros_like(d))


def products(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """[⟨u, v⟩, ‖u‖², ‖v‖²] as float32, shape (3,), for two tensors of one shape.

    Rows are summed by a product with ones: XLA's own reductions are slow on the CPU.
    """
    width = (u.shape[-1] or 1) if u.shape.rank else 1  # None where only the graph's run tells.
    u = tf.reshape(tf.cast(u, tf.float32), (-1, width))
    v = tf.reshape(tf.cast(v, tf.float32), (-1, width))
    ones = tf.ones((width,))
    return tf.stack(
        [tf.reduce_sum(tf.linalg.matvec(left * right, ones)) for left, right in ((u, v), (u, u), (v, v))]
    )


def per_variable_products(
    auxiliary: Sequence[tf.Tensor | None], reference: Sequence[tf.Tensor | None]
) -> tf.Tensor:
    """`products` of each pair, shape (k, 3); zeros for a pair in which one is None."""
    nothing = tf.zeros((3,))
    rows = [
        nothing if u is None or v is None else products(u, v)
        for u, v in zip(auxiliary, reference, strict=True)
    ]
    return tf.stack(rows)


def censor_with(
    scalars: tf.Tensor,
    auxiliary: Sequence[tf.Tensor | None],
    reference: Sequence[tf.Tensor | None],
    mode: str,
    overall: bool,
) -> list[tf.Tensor | None]:
    """a·u + b·v for each variable, from the scalars that `per_variable_products` returns.

    overall sums the scalars over the variables and uses one (a, b) for all. A variable whose u is
    None stays None; one whose v is None keeps u (SingleTask: zero).
    """
    if MODES[mode] is multitask:
        # Times one, which is known when the products are: else XLA updates weights in place before it
        # takes their products, and copies them for that.
        ones = tf.unstack(scalars[:, 1] >= 0.0)
        return [
            None if u is None else tf.cast(one, u.dtype) * u
            for one, u in zip(ones, auxiliary, strict=True)
        ]
    if overall:
        scalars = tf.ones_like(scalars) * tf.reduce_sum(scalars, axis=0, keepdims=True)
    a, b = coefficients(mode, *tf.unstack(scalars, axis=-1))
    censored: list[tf.Tensor | None] = []
    for i, (u, v) in enumerate(zip(auxiliary, reference, strict=True)):
        if u is None:
            censored.append(None)
        elif v is None:
            censored.append(tf.zeros_like(u) if MODES[mode] is single_task else u)
        else:
            censored.append(tf.cast(a[i], u.dtype) * u + tf.cast(b[i], u.dtype) * tf.cast(v, u.dtype))
    return censored


def censor(
    auxiliary: Sequence[Any],
    primary: Sequence[Any],
    mode: str = "Projection",
    overall: bool = False,
) -> list[tf.Tensor | None]:
    """Censored auxiliary gradients a·u + b·v, one for each variable.

    >>> [c.numpy().tolist() for c in censor([[1.0, -1.0]], [[0.0, 2.0]], mode="Projection")]
    [[1.0, 0.0]]
    >>> [c.numpy().tolist() for c in censor([[1.0, 1.0]], [[0.0, 2.0]], mode="Orthogonal")]
    [[1.0, 0.0]]

    Args:
        auxiliary: u, gradients of the auxiliary loss (or θ for weight decay): tensors, arrays or None.
        primary: v, gradients of the primary loss or their moving average, of the same shapes.
        mode: one of `MODES`; the formulas and their sources are in `auxgrad.censoring`.
        overall: one (a, b) for all variables, from scalars summed over those with both gradients;
            else one for each variable.

    Returns:
        A list as long as `auxiliary`. None where u is None; u itself where v is None or where one of
        them is zero (in mode SingleTask: zero). The type of u is kept; scalars are float32.

    Raises:
        ValueError: an unknown mode, lists of different lengths or a pair of different shapes.
    """
    rule_of(mode)
    if len(auxiliary) != len(primary):
        raise ValueError(f"auxiliary has {len(auxiliary)} gradients, primary has {len(primary)}")
    pairs = []
    for i, (u, v) in enumerate(zip(auxiliary, primary, strict=True)):
        u = None if u is None else tf.convert_to_tensor(u)
        v = None if v is None else tf.convert_to_tensor(v)
        if u is not None and v is not None and not u.shape.is_compatible_with(v.shape):
            raise ValueError(f"gradient {i}: auxiliary has shape {u.shape}, primary {v.shape}")
        pairs.append((u, v))
    if not pairs:
        return []
    us, vs = [u for u, _ in pairs], [v for _, v in pairs]
    return censor_with(per_variable_products(us, vs), us, vs, mode, overall)
