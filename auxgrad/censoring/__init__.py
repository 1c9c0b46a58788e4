"""How auxiliary gradients are combined with the primary gradient: the modes.

Modes that censor each auxiliary by itself are the six formulas of `auxgrad.censoring.rules`; those that
weigh all gradients together are in `auxgrad.censoring.joint`. `MODES` has all by name. `censor` and
`combine` apply them to gradients; `auxgrad.AuxiliaryModel` trains with them.
"""

from auxgrad.censoring.functions import censor, combine
from auxgrad.censoring.joint import (
    aligned_mtl,
    cagrad,
    dualproj,
    gradvac,
    imtl_g,
    mean,
    mgda,
    nash_mtl,
    pcgrad,
    random_weighting,
    upgrad,
)
from auxgrad.censoring.mode import MODES, Mode
from auxgrad.censoring.pairs import coefficients
from auxgrad.censoring.rules import (
    Rule,
    multitask,
    orthogonal,
    projection,
    single_task,
    unweighted_cosine,
    weighted_cosine,
)

__all__ = [
    "MODES",
    "Mode",
    "Rule",
    "aligned_mtl",
    "cagrad",
    "censor",
    "coefficients",
    "combine",
    "dualproj",
    "gradvac",
    "imtl_g",
    "mean",
    "mgda",
    "multitask",
    "nash_mtl",
    "orthogonal",
    "pcgrad",
    "projection",
    "random_weighting",
    "single_task",
    "unweighted_cosine",
    "upgrad",
    "weighted_cosine",
]
