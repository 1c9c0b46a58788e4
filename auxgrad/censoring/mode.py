"""Modes: ways to combine the primary gradient with auxiliary directions, and those that ship."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from auxgrad.censoring import joint, rules
from auxgrad.censoring.rules import Rule

Weigh = Callable[..., Any]
KNOBS = ("lam", "alpha", "overall")
FURTHER = ("seed", "memory", "alpha")  # Arguments of `weigh` beside G.


@dataclass(frozen=True)
class Mode:
    """A way of combining gradients: by a rule for each pair, or by weights for all of them together.

    Attributes:
        name: as in tables and figures.
        rule: returns (a, b) for d = ⟨u, v⟩, U = ‖u‖² > 0 and V = ‖v‖² > 0, tensors of one shape and
            type. It is compiled by TensorFlow. A rule that returns two Python numbers holds everywhere;
            any other leaves u as it is where u or v is zero. `censor` may scale u and v before.
        uses: which of lam, alpha and overall make a difference; if not given, all but an alpha that
            `weigh` does not take. Without lam the auxiliary task is ignored, without alpha the reference
            is the last primary gradient.
        weigh: in place of a rule, returns weights of shape (..., n) for the Gram matrix G, shape
            (..., n, n), of g and the lam·w·u of each auxiliary: total = w_0·g + Σ w_i·(lam·w·u)_i. It
            is compiled by TensorFlow. If it has parameters of these names, it also gets

            * seed: two integers, others at each step, for TensorFlow's stateless random functions;
            * memory: what it returned at the last step, float32 of shape (..., n, n), at first zero; it
              then returns (w, memory);
            * alpha: of the model.
        overall: True or False if the mode has no choice of it; None otherwise.

    Raises:
        ValueError: it has both a rule and `weigh`, or neither; or `weigh` has other parameters, or takes
            no alpha that is among `uses`, or the other way round.

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

    def _check_parameters(self, parameters: list[str]) -> None:
        what = f"mode {self.name!r}: weigh"
        if not parameters:
            raise ValueError(f"{what} has no parameter: must take the Gram matrix")
        given, *others = parameters
        for name in others:
            if name not in FURTHER:
                raise ValueError(
                    f"{what} has a parameter {name!r}; after {given} there may be {', '.join(FURTHER)}"
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
        return "alpha" in self.uses and self.rule is not None

    def takes(self, name: str) -> bool:
        """Whether `weigh` has a parameter seed, memory or alpha."""
        return self.weigh is not None and name in inspect.signature(self.weigh).parameters


def checked_lam(lam: float) -> float:
    """Return lam. Raises ValueError unless it is a finite number >= 0."""
    if not (math.isfinite(lam) and lam >= 0):
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
