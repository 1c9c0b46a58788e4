"""Weigh all gradients together: functions of their Gram matrix.

With k auxiliaries there are n = k + 1 gradients: that of the primary loss first, then lam·w·u of each
auxiliary. The Gram matrix G has the inner product of gradients i and j at (i, j). `weigh(G) -> w`
returns the weights of the sum:

    total = w_0·g + Σ w_i·(lam·w·u)_i

G may have leading dimensions, for example one matrix for each variable: the functions take shape
(..., n, n) and return shape (..., n). The weights are float64 for every type of G; the type of G only
tells how large its rounding errors are.
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
