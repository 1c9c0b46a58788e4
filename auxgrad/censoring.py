r"""The six modes, each a pair (a, b) of numbers computed from three others.

Censoring replaces the auxiliary direction u by a·u + b·v, where v is the reference direction: the
primary gradient or its moving average. Every mode needs only

    d = ⟨u, v⟩,   U = ‖u‖²,   V = ‖v‖²

and is one of the six functions below. U and V are positive there; `coefficients` deals with zero.
A rule of your own is such a function in a module of your own; see `Mode`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Mode:
    """A way of censoring.

    Attributes:
        name: as in tables and figures.
        rule: returns (a, b) for d = ⟨u, v⟩, U = ‖u‖² > 0 and V = ‖v‖² > 0, tensors of one shape. It
            is compiled by TensorFlow. A rule that returns two Python numbers holds everywhere; any other
            leaves u as it is where u or v is zero.
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
    mode: Mode,
    overall: bool,
) -> list[tf.Tensor | None]:
    """a·u + b·v for each variable, from the scalars that `per_variable_products` returns.

    overall sums the scalars over the variables and uses one (a, b) for all. A variable whose u is
    None stays None; one whose v is None keeps u, or a·u if the rule returns two numbers.
    """
    known = tf.unstack(scalars[:, 1] >= 0.0)
    if overall:
        scalars = tf.ones_like(scalars) * tf.reduce_sum(scalars, axis=0, keepdims=True)
    a, b, is_constant = _apply_rule(mode.rule, *tf.unstack(scalars, axis=-1))
    censored: list[tf.Tensor | None] = []
    for i, (u, v) in enumerate(zip(auxiliary, reference, strict=True)):
        if u is None:
            censored.append(None)
        elif not is_constant and v is None:
            censored.append(u)
        elif is_constant and (v is None or b == 0):
            # Times one, which is known when the products are: else XLA updates weights in place before
            # it takes their products, and copies them for that.
            one = tf.cast(known[i], u.dtype)
            censored.append(one * u if a == 1 else tf.zeros_like(u) if a == 0 else one * a * u)
        else:
            own_a, own_b = (a, b) if is_constant else (a[i], b[i])
            censored.append(tf.cast(own_a, u.dtype) * u + tf.cast(own_b, u.dtype) * tf.cast(v, u.dtype))
    return censored


def censor(
    auxiliary: Sequence[Any],
    primary: Sequence[Any],
    mode: str | Mode | Rule = "Projection",
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
        mode: a name in `MODES`, a `Mode` or a rule; the formulas and their sources are in
            `auxgrad.censoring`.
        overall: one (a, b) for all variables, from scalars summed over those with both gradients;
            else one for each variable.

    Returns:
        A list as long as `auxiliary`. None where u is None; u itself where v is None or where one of
        them is zero (in mode SingleTask: zero). The type of u is kept; scalars are float32.

    Raises:
        ValueError: an unknown mode, lists of different lengths or a pair of different shapes.
    """
    chosen = Mode.of(mode)
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
    return censor_with(per_variable_products(us, vs), us, vs, chosen, overall)
