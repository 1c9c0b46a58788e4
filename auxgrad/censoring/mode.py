"""Modes: ways to combine the primary gradient with auxiliary directions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from auxgrad.censoring import joint, rules
from auxgrad.censoring.rules import Rule
from auxgrad.errors import suggestion

Weigh = Callable[..., Any]
KNOBS = ("lam", "alpha", "overall")
FURTHER = ("seed", "memory", "alpha")  # Optional arguments of `weigh` after G.


@dataclass(frozen=True)
class Mode:
    """A way to combine gradients: a rule for each auxiliary, or weights for all gradients together.

    A mode has either a rule or a function `weigh`:

    * `rule(d, U, V) -> (a, b)` censors one auxiliary direction u against the reference direction v, the
      primary gradient g or its moving average. d = ⟨u, v⟩ is negative if the two conflict, U = ‖u‖² and
      V = ‖v‖². The direction becomes a·u + b·v, and total = g + lam·w·(a·u + b·v) with the weight w of
      the auxiliary.
    * `weigh(G) -> w` weighs the primary gradient and all auxiliary directions together. G is the Gram
      matrix of the n gradients g, lam·w·u_1, lam·w·u_2, ..., and total = w_0·g + Σ w_i·(lam·w·u)_i.

    For the command line, a file conf/mode/NAME.yaml names the function, here `halfway` in rules.py:

        # @package _global_
        mode: Halfway
        mode_rule: rules.halfway
        mode_uses: [lam, alpha, overall]

    A mode with `weigh` has the key `mode_weigh` instead of `mode_rule`. If `overall` cannot be chosen,
    the key `mode_overall` gives it.

    Attributes:
        name: Name in tables and figures.
        rule: Function of d, U and V, tensors of one shape and type with U > 0 and V > 0. It works
            elementwise and is compiled by TensorFlow. Where u or v is zero, u is left as it is, unless
            the rule returns two Python numbers; these hold everywhere. `censor` may scale u and v first.
        uses: Which of lam, alpha and overall change the result. The default is all of them, without
            alpha if `weigh` does not take it. Without lam the auxiliary task is ignored; without alpha
            the reference is the last primary gradient.
        weigh: Function of G, shape (..., n, n), that returns w, shape (..., n). It is compiled by
            TensorFlow. It may have these further parameters:

            * seed: two integers, different at each step, for TensorFlow's stateless random functions;
            * memory: a float32 tensor of shape (..., n, n), zero at first, then what the function
              returned at the last step; the function must return (w, memory);
            * alpha: alpha of the model.
        overall: True or False if the mode fixes `overall`; None if the user chooses it.

    Raises:
        ValueError: The mode has both a rule and `weigh`, or neither; one of them has other parameters;
            or only one of `weigh` and `uses` has alpha.

    Examples:
        >>> import tensorflow as tf
        >>> from auxgrad import censor, combine
        >>> def halfway(d, U, V):
        ...     return tf.ones_like(d), -0.5 * tf.minimum(d, 0.0) / V
        >>> [c.numpy().tolist() for c in censor([[1.0, -1.0]], [[0.0, 2.0]], Mode("Halfway", halfway))]
        [[1.0, -0.5]]
        >>> def of_equal_norm(G):
        ...     return tf.math.divide_no_nan(tf.ones_like(G[..., 0]), tf.sqrt(tf.linalg.diag_part(G)))
        >>> mode = Mode("OfEqualNorm", weigh=of_equal_norm)
        >>> [total.numpy().tolist() for total in combine([[0.0, 2.0]], [[[4.0, 0.0]]], mode)]
        [[1.0, 1.0]]
    """

    name: str
    rule: Rule | None = None
    uses: tuple[str, ...] = KNOBS
    weigh: Weigh | None = None
    overall: bool | None = None

    def __post_init__(self) -> None:
        if (self.rule is None) == (self.weigh is None):
            raise ValueError(f"mode {self.name!r}: must have either a rule or weigh")
        if self.weigh is not None:
            self._check_parameters(list(inspect.signature(self.weigh).parameters))
        elif not _takes_three(self.rule):
            raise ValueError(f"mode {self.name!r}: its rule must take (d, U, V)")

    def _check_parameters(self, parameters: list[str]) -> None:
        what = f"mode {self.name!r}: weigh"
        if not parameters:
            raise ValueError(f"{what} has no parameter: must take the Gram matrix")
        given, *others = parameters
        for name in others:
            if name not in FURTHER:
                raise ValueError(
                    f"{what} has a parameter {name!r}; after {given} it may take {', '.join(FURTHER)}"
                )
        if self.uses is KNOBS and "alpha" not in others:
            object.__setattr__(self, "uses", ("lam", "overall"))
        if ("alpha" in self.uses) != ("alpha" in others):
            uses = ", ".join(self.uses)
            raise ValueError(
                f"{what} must have a parameter alpha if, and only if, the mode uses it ({uses})"
            )

    @staticmethod
    def of(mode: str | Mode | Rule) -> Mode:
        """Return the mode with this name or this rule; raise ValueError for an unknown name."""
        if isinstance(mode, Mode):
            return mode
        if callable(mode):
            return Mode(getattr(mode, "__name__", type(mode).__name__), mode)
        if mode not in MODES:
            near = suggestion(str(mode), MODES)
            raise ValueError(f"mode={mode!r}: must be a Mode, a rule or one of {', '.join(MODES)}{near}")
        return MODES[mode]

    @property
    def ignores_auxiliary(self) -> bool:
        """Whether the mode ignores the auxiliary task."""
        return "lam" not in self.uses

    @property
    def averages_reference(self) -> bool:
        """Whether the reference may be a moving average."""
        return "alpha" in self.uses and self.rule is not None

    def takes(self, name: str) -> bool:
        """Return whether `weigh` has this parameter: seed, memory or alpha."""
        return self.weigh is not None and name in inspect.signature(self.weigh).parameters


def _takes_three(function: Any) -> bool:
    """Return whether a function can be called with three arguments, as far as it can be known."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # Not written in Python.
        return True
    try:
        signature.bind(None, None, None)
    except TypeError:
        return False
    return True


def checked_lam(lam: float) -> float:
    """Return lam; raise ValueError unless it is a finite number >= 0."""
    if not (isinstance(lam, Real) and math.isfinite(lam) and lam >= 0):
        raise ValueError(f"lam={lam!r}: must be a finite number >= 0")
    return lam


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("SingleTask", rules.single_task, uses=()),
        Mode("Multitask", rules.multitask, uses=("lam",)),
        Mode("UnweightedCosine", rules.unweighted_cosine),
        Mode("WeightedCosine", rules.weighted_cosine),
        Mode("Projection", rules.projection),
        Mode("Orthogonal", rules.orthogonal),
        Mode("Bloop", rules.orthogonal, uses=("lam", "alpha"), overall=True),
        Mode("Mean", weigh=joint.mean),
        Mode("RandomWeighting", weigh=joint.random_weighting),
        Mode("PCGrad", weigh=joint.pcgrad),
        Mode("GradVac", weigh=joint.gradvac),
        Mode("MGDA", weigh=joint.mgda),
        Mode("CAGrad", weigh=joint.cagrad),
        Mode("IMTL-G", weigh=joint.imtl_g),
        Mode("UPGrad", weigh=joint.upgrad),
        Mode("DualProj", weigh=joint.dualproj),
        Mode("Aligned-MTL", weigh=joint.aligned_mtl),
        Mode("Nash-MTL", weigh=joint.nash_mtl),
    )
}
