"""Censoring: a·u + b·v for each variable, with (a, b) from the rule of a mode."""

from __future__ import annotations

import tensorflow as tf

from auxgrad.censoring.gradients import Gradients, compute_type, inner
from auxgrad.censoring.mode import Mode
from auxgrad.censoring.rules import Rule, Scalar


def is_usable(squared_norm: Scalar) -> Scalar:
    """Whether a squared norm can be divided by: at least the smallest normal float32.

    A direction below that (norm about 1e-19) counts as zero, so that no quotient overflows.
    """
    return squared_norm >= tf.constant(1.1754944e-38, squared_norm.dtype)


def coefficients(mode: str | Mode | Rule, d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(a, b) of a mode for d = ⟨u, v⟩, U = ‖u‖², V = ‖v‖², elementwise and never NaN.

    Where U or V is zero u is left as it is, (1, 0), unless the rule returns two numbers. Raises
    ValueError for a mode without a rule.

    >>> d, U, V = tf.constant([[-2.0, 2.0, 0.0], [2.0, 2.0, 2.0], [4.0, 4.0, 0.0]])
    >>> [part.numpy().tolist() for part in coefficients("Projection", d, U, V)]
    [[1.0, 1.0, 1.0], [0.5, -0.0, 0.0]]
    """
    rule = Mode.of(mode).rule
    if rule is None:
        raise ValueError(f"mode {Mode.of(mode).name!r}: weighs all gradients together, without (a, b)")
    a, b, is_constant = apply_rule(rule, d, U, V)
    one = tf.ones_like(d)
    return (a * one, b * one) if is_constant else (a, b)


def apply_rule(rule: Rule, d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar, bool]:
    """(a, b), and whether they are Python numbers."""
    usable = is_usable(U) & is_usable(V)
    one = tf.ones_like(d)
    a, b = rule(d, tf.where(usable, U, one), tf.where(usable, V, one))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a, b, True
    return tf.where(usable, a, one), tf.where(usable, b, tf.zeros_like(d)), False


def per_variable_products(auxiliary: Gradients, reference: Gradients) -> tf.Tensor:
    """[⟨u, v⟩, ‖u‖², ‖v‖²] of each pair in one type, shape (k, 3); zeros where u or v is None."""
    dtype = compute_type(*auxiliary, *reference)
    rows = []
    for u, v in zip(auxiliary, reference, strict=True):
        if u is None or v is None:
            rows.append(tf.zeros((3,), dtype))
            continue
        u, v = (tf.cast(each, compute_type(u, v)) for each in (u, v))
        rows.append(tf.cast(tf.stack([inner(u, v), inner(u, u), inner(v, v)]), dtype))
    return tf.stack(rows)


def censor_with(
    scalars: tf.Tensor, auxiliary: Gradients, reference: Gradients, rule: Rule, overall: bool
) -> list[tf.Tensor | None]:
    """a·u + b·v for each variable, from the scalars that `per_variable_products` returns.

    overall sums the scalars over the variables and uses one (a, b) for all. A variable whose u is
    None stays None; one whose v is None keeps u, or a·u if the rule returns two numbers. Each is
    computed in float64 if u or v is float64, else in float32, and cast once, to the type of u.
    A training step calls this on directions as they are: norms below about 1e-19 count as zero there.
    """
    known = tf.unstack(scalars[:, 1] >= 0.0)
    if overall:
        scalars = tf.ones_like(scalars) * tf.reduce_sum(scalars, axis=0, keepdims=True)
    a, b, is_constant = apply_rule(rule, *tf.unstack(scalars, axis=-1))
    censored: list[tf.Tensor | None] = []
    for i, (u, v) in enumerate(zip(auxiliary, reference, strict=True)):
        if u is None or (v is None and not is_constant):
            censored.append(u)
            continue
        dtype = compute_type(u, v)
        wide = tf.cast(u, dtype)
        if is_constant and (v is None or b == 0):
            # Times one, which is known when the products are: else XLA updates weights in place before
            # it takes their products, and copies them for that.
            one = tf.cast(known[i], dtype)
            wide = one * wide if a == 1 else tf.zeros_like(wide) if a == 0 else one * a * wide
        else:
            own = (float(a), float(b)) if is_constant else (tf.cast(a[i], dtype), tf.cast(b[i], dtype))
            wide = own[0] * wide + own[1] * tf.cast(v, dtype)
        censored.append(tf.cast(wide, u.dtype))
    return censored
