"""Censor directions: a·u + b·v for each variable, with (a, b) from the rule of a mode."""

from __future__ import annotations

import tensorflow as tf

from auxgrad.censoring.gradients import Gradients, compute_type, inner
from auxgrad.censoring.mode import Mode
from auxgrad.censoring.rules import Rule, Scalar
from auxgrad.errors import RuleError


def is_usable(squared_norm: Scalar) -> Scalar:
    """Return whether a squared norm can be a divisor: it is at least the smallest normal float32.

    A direction below that (a norm of about 1e-19) counts as zero, so that no quotient overflows.
    """
    return squared_norm >= tf.constant(1.1754944e-38, squared_norm.dtype)


def coefficients(mode: str | Mode | Rule, d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """Return (a, b) of a mode, elementwise and never NaN.

    Args:
        mode: Name in `MODES`, `Mode`, or rule.
        d: ⟨u, v⟩, a tensor of any shape.
        U: ‖u‖², of the same shape.
        V: ‖v‖², of the same shape.

    Returns:
        a and b, of the same shape. Where U or V is zero they are (1, 0), which leaves u as it is, unless
        the rule returns two Python numbers.

    Raises:
        ValueError: The mode is unknown, or has no rule.

    Examples:
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
    """Return (a, b), and whether they are Python numbers.

    Raises:
        RuleError: The rule returns something else.
    """
    usable = is_usable(U) & is_usable(V)
    one = tf.ones_like(d)
    found = rule(d, tf.where(usable, U, one), tf.where(usable, V, one))
    if not (isinstance(found, tuple | list) and len(found) == 2):
        kind = f"{len(found)} values" if isinstance(found, tuple | list) else type(found).__name__
        name = getattr(rule, "__qualname__", repr(rule))
        raise RuleError(f"rule {name}: returned {kind}; must return a pair (a, b)")
    a, b = found
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a, b, True
    return tf.where(usable, a, one), tf.where(usable, b, tf.zeros_like(d)), False


def per_variable_products(auxiliary: Gradients, reference: Gradients) -> tf.Tensor:
    """Return [⟨u, v⟩, ‖u‖², ‖v‖²] of each pair, shape (k, 3); zeros where u or v is None."""
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
    """Return a·u + b·v for each variable, from the scalars that `per_variable_products` returns.

    With `overall` the scalars are summed over the variables, and one (a, b) holds for all of them. The
    result is None where u is None. Where v is None it is u, or a·u if the rule returns two numbers. It
    is computed in float64 if u or v is float64, else in float32, and cast once, to the type of u. Norms
    below about 1e-19 count as zero; a training step does not scale directions first, as `censor` does.
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
            # Multiply by a one that depends on the products. Otherwise XLA updates the weights in place
            # before it computes their products, and has to copy the weights for that.
            one = tf.cast(known[i], dtype)
            wide = one * wide if a == 1 else tf.zeros_like(wide) if a == 0 else one * a * wide
        else:
            own = (float(a), float(b)) if is_constant else (tf.cast(a[i], dtype), tf.cast(b[i], dtype))
            wide = own[0] * wide + own[1] * tf.cast(v, dtype)
        censored.append(tf.cast(wide, u.dtype))
    return censored
