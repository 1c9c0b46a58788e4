"""Gradients in, gradients out: censoring and combining in a training loop of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from auxgrad.censoring.gradients import Gradients, add, compute_type
from auxgrad.censoring.mode import Mode, checked_lam
from auxgrad.censoring.pairs import apply_rule, censor_with, per_variable_products
from auxgrad.censoring.rules import Rule, Scalar
from auxgrad.censoring.weights import gram_matrices, groups_of, weigh, weighted


def _scaled(
    auxiliary: Gradients, reference: Gradients, rule: Rule, overall: bool
) -> tuple[Gradients, Gradients, Rule]:
    """u / s_u, v / s_v, and the rule (a, b·s_u), for a·u + (b·s_u)·(v / s_v).

    The scales are one where max|u| and max|v| are both within 1e-15 and 1e15, else the powers of two
    near them: division is exact then, and d, U, V and b·s_u stay in the range of float32.
    """
    pairs = list(zip(auxiliary, reference, strict=True))
    rows = [[0.0] * 2 if u is None or v is None else [_largest(u), _largest(v)] for u, v in pairs]
    largest = tf.stack(rows)
    if overall:
        largest = tf.ones_like(largest) * tf.reduce_max(largest, axis=0, keepdims=True)
    exponents = tf.bitwise.bitwise_and(tf.bitcast(largest, tf.int32), 0x7F800000)
    powers = tf.clip_by_value(tf.bitcast(exponents, tf.float32), 2.0**-126, 2.0**126)
    ordinary = tf.reduce_all((largest >= 1e-15) & (largest <= 1e15), axis=1, keepdims=True)
    scales = tf.where(ordinary, 1.0, powers)
    for i, (u, v) in enumerate(pairs):
        if u is not None and v is not None:
            dtype = compute_type(u, v)
            s_u, s_v = tf.unstack(tf.cast(scales[i], dtype))
            pairs[i] = tf.cast(u, dtype) / s_u, tf.cast(v, dtype) / s_v

    def scaled_rule(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
        a, b = rule(d, U, V)
        return a, b * tf.cast(scales[:, 0], d.dtype)

    return [u for u, _ in pairs], [v for _, v in pairs], scaled_rule


def _largest(gradient: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reduce_max(tf.abs(gradient)), tf.float32)


def censor(
    auxiliary: Sequence[Any],
    primary: Sequence[Any],
    mode: str | Mode | Rule = "Projection",
    overall: bool = False,
) -> list[tf.Tensor | None]:
    """Censor auxiliary gradients: return a·u + b·v for each variable.

    >>> [c.numpy().tolist() for c in censor([[1.0, -1.0]], [[0.0, 2.0]], mode="Projection")]
    [[1.0, 0.0]]
    >>> [c.numpy().tolist() for c in censor([[1.0, 1.0]], [[0.0, 2.0]], mode="Orthogonal")]
    [[1.0, 0.0]]

    Norms from 1e-30 to 1e30 are safe in float32 and float64. Where the largest entry of u or v is not
    between 1e-15 and 1e15, both are scaled by powers of two before d, U and V are computed. This makes
    no difference to a rule that depends on angles and ratios; any other rule sees true values in that
    range only. A training step does not scale: norms below about 1e-19 count as zero there.

    Args:
        auxiliary: u, gradients of the auxiliary loss (or θ for weight decay): floating point, or None.
        primary: v, gradients of the primary loss or their moving average, of the same shapes.
        mode: a name in `MODES`, a `Mode` or a rule; the formulas and their sources are in
            `auxgrad.censoring`.
        overall: one (a, b) for all variables, from scalars summed over those with both gradients;
            else one for each variable.

    Returns:
        A list as long as `auxiliary`. None where u is None; u itself where v is None or where one of
        them is zero (in mode SingleTask: zero). Each has the type of its u; it is computed in float64
        if u or v is float64, else in float32, and rounded to that type once.

    Raises:
        ValueError: unknown mode, different lengths or shapes, or a type that is not floating point.
    """
    chosen = Mode.of(mode)
    if chosen.rule is None:
        raise ValueError(
            f"mode {chosen.name!r}: weighs all gradients together; auxgrad.combine returns their sum"
        )
    us, vs = _checked([("auxiliary", auxiliary), ("primary", primary)])
    return _censored(us, vs, chosen.rule, overall if chosen.overall is None else chosen.overall)


def _censored(us: Gradients, vs: Gradients, rule: Rule, overall: bool) -> list[tf.Tensor | None]:
    if not us:
        return []
    one = tf.ones((len(us),), compute_type(*us, *vs))
    is_constant = apply_rule(rule, one, one, one)[2]  # Such a rule needs no products.
    scaled_us, scaled_vs, rule = (us, vs, rule) if is_constant else _scaled(us, vs, rule, overall)
    return censor_with(per_variable_products(scaled_us, scaled_vs), us, scaled_vs, rule, overall)


def combine(
    primary: Sequence[Any],
    auxiliaries: Sequence[Sequence[Any]],
    mode: str | Mode | Rule = "Projection",
    lam: float = 1.0,
    overall: bool = True,
    seed: tuple[int, int] | None = None,
) -> list[tf.Tensor | None]:
    """Combine the gradients of all losses into one direction, for a training loop of your own.

    With a mode that has a rule, total = g + lam·Σ (a·u + b·g), each u censored against g. With one that
    weighs all gradients together, total = w_0·g + lam·Σ w_i·u_i, with w from the Gram matrix of g and
    the lam·u_i. See `auxgrad.censoring`. The reference of a mode with a rule is g: for a moving average,
    as Bloop has it, there is `AuxiliaryModel`.

    >>> [total.numpy().tolist() for total in combine([[0.0, 2.0]], [[[1.0, -1.0]]], mode="Projection")]
    [[1.0, 2.0]]
    >>> [total.numpy().round(4).tolist() for total in combine([[0.0, 2.0]], [[[1.0, -1.0]]], "MGDA")]
    [[0.6000000238418579, 0.20000000298023224]]

    Args:
        primary: g, a gradient of the primary loss for each variable, floating point, or None.
        auxiliaries: for each auxiliary loss such a list.
        mode: a name in `auxgrad.censoring.MODES`, a `Mode` or a rule.
        lam: weight of the auxiliary gradients, finite and >= 0. With 0 the total is g.
        overall: one (a, b), or one w, for all variables; else one for each variable.
        seed: two integers for a mode that draws random numbers; give others at each step.

    Returns:
        A list as long as `primary`. None where no loss reaches the variable. A variable that one loss
        alone reaches takes its gradient, times lam if it is an auxiliary one. It has the type of its
        gradients.

    Raises:
        ValueError: unknown mode, different lengths, shapes or types, a type that is not floating point,
            no seed for a mode that draws, or a mode that takes memory or alpha.
    """
    chosen = Mode.of(mode)
    lam = float(checked_lam(lam))
    for name in ("memory", "alpha"):
        if chosen.takes(name):
            raise ValueError(f"mode {chosen.name!r}: takes {name}, which only AuxiliaryModel has")
    if chosen.takes("seed") and seed is None:
        raise ValueError(f"mode {chosen.name!r}: draws random numbers; give seed=(number, step)")
    if chosen.overall is not None:
        overall = chosen.overall
    named = [("primary", primary), *((f"auxiliary {i}", u) for i, u in enumerate(auxiliaries))]
    g, *us = _checked(named, same_type=True)
    total: Gradients = g
    if lam == 0 or chosen.ignores_auxiliary or not g:
        return list(total)
    if chosen.rule is not None:
        for u in us:
            total = add(total, lam, _censored(u, g, chosen.rule, overall))
        return list(total)
    rows, scales = [g, *us], [1.0] + [lam] * len(us)
    further = {"seed": tf.cast(tf.convert_to_tensor(seed), tf.int64)} if chosen.takes("seed") else {}
    grams = gram_matrices(rows)
    weights, _ = weigh(
        grams, tf.constant(scales, grams.dtype), groups_of(rows, overall), chosen, **further
    )
    total = [None] * len(g)
    for i, (row, scale) in enumerate(zip(rows, scales, strict=True)):
        total = add(total, scale, weighted(row, [of_variable[i] for of_variable in weights]))
    return list(total)


def _checked(named: Sequence[tuple[str, Sequence[Any]]], same_type: bool = False) -> list[Gradients]:
    """The gradients as tensors. Raises ValueError for lengths, shapes or types that do not fit."""
    (first, of_first), *others = named
    for name, given in others:
        if len(given) != len(of_first):
            raise ValueError(f"{first} has {len(of_first)} gradients, {name} has {len(given)}")
    tensors: list[Gradients] = [
        [None if each is None else tf.convert_to_tensor(each) for each in given] for _, given in named
    ]
    names = [name for name, _ in named]
    for i, column in enumerate(zip(*tensors, strict=True)):
        there = [(name, each) for name, each in zip(names, column, strict=True) if each is not None]
        for name, each in there:
            if not each.dtype.is_floating:
                raise ValueError(
                    f"gradient {i}: {name} has type {each.dtype.name}; must be floating point"
                )
            if not each.shape.is_compatible_with(there[0][1].shape):
                raise ValueError(
                    f"gradient {i}: {there[0][0]} has shape {there[0][1].shape}, {name} {each.shape}"
                )
            if same_type and each.dtype != there[0][1].dtype:
                types = there[0][1].dtype.name, each.dtype.name
                raise ValueError(f"gradient {i}: {there[0][0]} has type {types[0]}, {name} {types[1]}")
    return tensors
