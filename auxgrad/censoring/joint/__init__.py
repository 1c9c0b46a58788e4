"""Modes that weigh all gradients together: functions of their Gram matrix.

With n = k + 1 gradients, that of the primary loss first and then lam·w·u of each of k auxiliaries, G has
⟨row i, row j⟩ at (i, j). `weigh(G) -> w` returns the weights of their sum:

    total = w_0·g + Σ w_i·(lam·w·u)_i

G may have leading dimensions, one matrix for each variable: the functions take (..., n, n) and return
(..., n), in float64 whatever the type of G, which only says how exact G is.
"""

from auxgrad.censoring.joint.averages import mean, random_weighting
from auxgrad.censoring.joint.bargaining import nash_mtl
from auxgrad.censoring.joint.cones import dualproj, upgrad
from auxgrad.censoring.joint.conflicts import gradvac, pcgrad
from auxgrad.censoring.joint.hulls import cagrad, mgda
from auxgrad.censoring.joint.spectra import aligned_mtl, imtl_g

__all__ = [
    "aligned_mtl",
    "cagrad",
    "dualproj",
    "gradvac",
    "imtl_g",
    "mean",
    "mgda",
    "nash_mtl",
    "pcgrad",
    "random_weighting",
    "upgrad",
]
