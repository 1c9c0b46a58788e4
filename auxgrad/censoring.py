r"""The six modes, each a pair (a, b) of numbers computed from three others.

Censoring replaces the auxiliary direction u by a·u + b·v, where v is the reference direction: the
primary gradient or its moving average. Every mode needs only

    d = ⟨u, v⟩,   U = ‖u‖²,   V = ‖v‖²

and is one of the six functions below. U and V are positive there; `coefficients` deals with zero.
A rule of your own is such a function in a module of your own; see `Mode`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

Gradients = Sequence[tf.Tensor | None]
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


@dataclass(frozen=True)
class Mode:
    """A way of censoring.

    Attributes:
        name: as in tables and figures.
        rule: returns (a, b) for d = ⟨u, v⟩, U = ‖u‖² > 0 and V = ‖v‖² > 0, tensors of one shape and
            type. It is compiled by TensorFlow. A rule that returns two Python numbers holds everywhere;
            any other leaves u as it is where u or v is zero. `censor` may scale u and v before.
        uses: which of lam, alpha and overall make a difference. Without lam the auxiliary task is
            ignored, without alpha the reference is the last primary gradient.

    >>> def halfway(d, U, V):
    ...     return tf.ones_like(d), -0.5 * tf.minimum(d, 0.0) / V
    >>> [c.numpy().tolist() for c in censor([[1.0, -1.0]], [[0.0, 2.0]], Mode("Halfway", halfway))]
    [[1.0, -0.5]]
    """

    name: str
    rule: Rule
    uses: tuple[str, ...] = ("lam", "alpha", "overall")

    @staticmethod
    def of(mode: str | Mode | Rule) -> Mode:
        """Return the mode of this name, or with this rule. Raises ValueError for an unknown name."""
        if isinstance(mode, Mode):
            return mode
        if callable(mode):
            return Mode(getattr(mode, "__name__", type(mode).__name__), mode)
        if mode not in MODES:
            raise ValueError(f"mode={mode!r}: must be a Mode, a rule or one of {', '.join(MODES)}")
        return MODES[mode]

    @property
    def ignores_auxiliary(self) -> bool:
        """Whether the auxiliary task makes no difference."""
        return "lam" not in self.uses

    @property
    def averages_reference(self) -> bool:
        """Whether the reference may be a moving average."""
        return "alpha" in self.uses


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("SingleTask", single_task, uses=()),
        Mode("Multitask", multitask, uses=("lam",)),
        Mode("UnweightedCosine", unweighted_cosine),
        Mode("WeightedCosine", weighted_cosine),
        Mode("Projection", projection),
        Mode("Orthogonal", orthogonal),
    )
}


def is_usable(squared_norm: Scalar) -> Scalar:
    """Whether a squared norm can be divided by: at least the smallest normal float32.

    A direction below that (norm about 1e-19) counts as zero, so that no quotient overflows.
    """
    return squared_norm >= tf.constant(1.1754944e-38, squared_norm.dtype)


def coefficients(mode: str | Mode | Rule, d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
    """(a, b) of a mode for d = ⟨u, v⟩, U = ‖u‖², V = ‖v‖², elementwise and never NaN.

    Where U or V is zero u is left as it is, (1, 0), unless the rule returns two numbers.

    >>> d, U, V = tf.constant([[-2.0, 2.0, 0.0], [2.0, 2.0, 2.0], [4.0, 4.0, 0.0]])
    >>> [part.numpy().tolist() for part in coefficients("Projection", d, U, V)]
    [[1.0, 1.0, 1.0], [0.5, -0.0, 0.0]]
    """
    a, b, is_constant = _apply_rule(Mode.of(mode).rule, d, U, V)
    one = tf.ones_like(d)
    return (a * one, b * one) if is_constant else (a, b)


def _apply_rule(rule: Rule, d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar, bool]:
    """(a, b), and whether they are Python numbers."""
    usable = is_usable(U) & is_usable(V)
    one = tf.ones_like(d)
    a, b = rule(d, tf.where(usable, U, one), tf.where(usable, V, one))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a, b, True
    return tf.where(usable, a, one), tf.where(usable, b, tf.zeros_like(d)), False


def _compute_type(*gradients: tf.Tensor | None) -> tf.DType:
    """float64 if one of the gradients is float64, else float32."""
    return tf.float64 if any(g is not None and g.dtype == tf.float64 for g in gradients) else tf.float32


def products(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """[⟨u, v⟩, ‖u‖², ‖v‖²], shape (3,), for two tensors of one shape; float64 if one of them is.

    Rows are summed by a product with ones: XLA's own reductions are slow on the CPU.
    """
    width = (u.shape[-1] or 1) if u.shape.rank else 1  # None where only the graph's run tells.
    dtype = _compute_type(u, v)
    u, v = (tf.reshape(tf.cast(each, dtype), (-1, width)) for each in (u, v))
    ones = tf.ones((width,), dtype)
    return tf.stack(
        [tf.reduce_sum(tf.linalg.matvec(left * right, ones)) for left, right in ((u, v), (u, u), (v, v))]
    )


def per_variable_products(auxiliary: Gradients, reference: Gradients) -> tf.Tensor:
    """`products` of each pair in one type, shape (k, 3); zeros for a pair in which one is None."""
    dtype = _compute_type(*auxiliary, *reference)
    rows = [
        tf.zeros((3,), dtype) if u is None or v is None else tf.cast(products(u, v), dtype)
        for u, v in zip(auxiliary, reference, strict=True)
    ]
    return tf.stack(rows)


def censor_with(
    scalars: tf.Tensor, auxiliary: Gradients, reference: Gradients, mode: Mode, overall: bool
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
    a, b, is_constant = _apply_rule(mode.rule, *tf.unstack(scalars, axis=-1))
    censored: list[tf.Tensor | None] = []
    for i, (u, v) in enumerate(zip(auxiliary, reference, strict=True)):
        if u is None or (v is None and not is_constant):
            censored.append(u)
            continue
        dtype = _compute_type(u, v)
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


def _scaled(
    auxiliary: Gradients, reference: Gradients, mode: Mode, overall: bool
) -> tuple[Gradients, Gradients, Mode]:
    """u / s_u, v / s_v, and the mode (a, b·s_u), for a·u + (b·s_u)·(v / s_v).

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
            dtype = _compute_type(u, v)
            s_u, s_v = tf.unstack(tf.cast(scales[i], dtype))
            pairs[i] = tf.cast(u, dtype) / s_u, tf.cast(v, dtype) / s_v

    def rule(d: Scalar, U: Scalar, V: Scalar) -> tuple[Scalar, Scalar]:
        a, b = mode.rule(d, U, V)
        return a, b * tf.cast(scales[:, 0], d.dtype)

    return [u for u, _ in pairs], [v for _, v in pairs], replace(mode, rule=rule)


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
    if len(auxiliary) != len(primary):
        raise ValueError(f"auxiliary has {len(auxiliary)} gradients, primary has {len(primary)}")
    pairs = []
    for i, (u, v) in enumerate(zip(auxiliary, primary, strict=True)):
        u, v = (None if each is None else tf.convert_to_tensor(each) for each in (u, v))
        for name, g in (("auxiliary", u), ("primary", v)):
            if g is not None and not g.dtype.is_floating:
                raise ValueError(f"gradient {i}: {name} has type {g.dtype.name}; must be floating point")
        if u is not None and v is not None and not u.shape.is_compatible_with(v.shape):
            raise ValueError(f"gradient {i}: auxiliary has shape {u.shape}, primary {v.shape}")
        pairs.append((u, v))
    if not pairs:
        return []
    us, vs = [u for u, _ in pairs], [v for _, v in pairs]
    one = tf.ones((len(us),), _compute_type(*us, *vs))
    is_constant = _apply_rule(chosen.rule, one, one, one)[2]  # Such a rule needs no products.
    scaled_us, scaled_vs, chosen = (us, vs, chosen) if is_constant else _scaled(us, vs, chosen, overall)
    return censor_with(per_variable_products(scaled_us, scaled_vs), us, scaled_vs, chosen, overall)
