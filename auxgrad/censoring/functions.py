"""Censor and combine gradients in a training loop of your own."""

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
    """Return u / s_u, v / s_v and the rule (a, b·s_u), for a·u + (b·s_u)·(v / s_v).

    A scale is 1 where max|u| and max|v| are both between 1e-15 and 1e15. Elsewhere it is a power of two
    near the maximum, so that the division is exact and d, U, V and b·s_u stay in the range of float32.
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
    """Return the censored auxiliary gradients, a·u + b·v for each variable.

    The mode computes (a, b) from three scalars: d = ⟨u, v⟩, U = ‖u‖² and V = ‖v‖². For example, the
    mode Projection has a = 1 and b = −min(d, 0) / V: it subtracts the part of u that points against v.
    `auxgrad.censoring.rules` has the formulas of all modes and their sources.

    Norms between 1e-30 and 1e30 are safe, in float32 and in float64. If the largest entry of u or v is
    not between 1e-15 and 1e15, both are scaled by powers of two before d, U and V are computed. A rule
    that depends only on angles and ratios of norms is not affected. Any other rule sees the true values
    only within that range. A training step of `AuxiliaryModel` does not scale, and treats a norm below
    about 1e-19 as zero.

    Args:
        auxiliary: u, one gradient of the auxiliary loss for each variable (for weight decay: the
            variable itself), a floating-point tensor of any shape; or None.
        primary: v, one gradient of the primary loss for each variable, or its moving average, of the
            same shape as u; or None.
        mode: Name in `auxgrad.censoring.MODES`, `Mode`, or rule `(d, U, V) -> (a, b)`.
        overall: Whether to use one (a, b) for all variables, with d, U and V summed over the variables
            that have both gradients. Otherwise each variable has its own (a, b).

    Returns:
        A list with one entry for each variable: None where u is None, and u itself where v is None or
        where u or v is zero (mode SingleTask: zero). Each entry has the shape and the type of its u. It
        is computed in float64 if u or v is float64, else in float32, and is rounded once.

    Raises:
        ValueError: The mode is unknown or weighs all gradients together; lengths or shapes differ; or a
            type is not floating point.

    Examples:
        >>> [c.numpy().tolist() for c in censor([[1.0, -1.0]], [[0.0, 2.0]], mode="Projection")]
        [[1.0, 0.0]]
        >>> [c.numpy().tolist() for c in censor([[1.0, 1.0]], [[0.0, 2.0]], mode="Orthogonal")]
        [[1.0, 0.0]]
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
    is_constant = apply_rule(rule, one, one, one)[2]  # A constant rule needs no products.
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
    """Return the combination of the gradients of all losses, in one direction for each variable.

    With g the primary gradient and u_i the gradient of the i-th auxiliary loss:

        mode with a rule:   total = g + lam·Σ (a_i·u_i + b_i·g)
        joint mode:         total = w_0·g + lam·Σ w_i·u_i

    A mode with a rule censors each u_i by itself, as `censor` does, with g as the reference. A joint
    mode computes the weights w from the Gram matrix of g and all lam·u_i. `auxgrad.censoring` has the
    formulas and their sources. A moving average of g, as in the mode Bloop, is kept by `AuxiliaryModel`
    only.

    Args:
        primary: g, one gradient of the primary loss for each variable, a floating-point tensor of any
            shape; or None.
        auxiliaries: One such list for each auxiliary loss.
        mode: Name in `auxgrad.censoring.MODES`, `Mode`, or rule `(d, U, V) -> (a, b)`.
        lam: Weight of the auxiliary gradients, finite and >= 0. With 0 the total is g.
        overall: Whether to use one (a, b), or one w, for all variables. Otherwise each variable has its
            own.
        seed: Two integers for a mode that draws random numbers. Pass different ones at each step.

    Returns:
        A list with one entry for each variable, of the type of its gradients: None where no loss reaches
        the variable. A variable that only one loss reaches gets the gradient of that loss, times lam if
        the loss is an auxiliary one.

    Raises:
        ValueError: The mode is unknown, or takes memory or alpha; lengths, shapes or types differ; a
            type is not floating point; or a mode that draws random numbers has no seed.

    Examples:
        >>> [t.numpy().tolist() for t in combine([[0.0, 2.0]], [[[1.0, -1.0]]], mode="Projection")]
        [[1.0, 2.0]]
        >>> [t.numpy().round(4).tolist() for t in combine([[0.0, 2.0]], [[[1.0, -1.0]]], mode="MGDA")]
        [[0.6000000238418579, 0.20000000298023224]]
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
    """Return the gradients as tensors; raise ValueError if lengths, shapes or types do not match."""
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
