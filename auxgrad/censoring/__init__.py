"""Combine auxiliary gradients with the primary gradient: the modes.

There are two kinds of modes:

* A mode with a rule censors each auxiliary direction by itself. The six rules are in
  `auxgrad.censoring.rules`.
* A joint mode weighs all gradients together, by their Gram matrix. The functions are in
  `auxgrad.censoring.joint`.

`MODES` maps the name of each mode that ships to its `Mode`. `censor` and `combine` apply modes to
gradients; `auxgrad.AuxiliaryModel` trains with them.
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
