"""Train networks with a censored auxiliary loss.

`censor` and `combine` work on gradients, `AuxiliaryModel` trains any Keras network with them,
`WeightDecay` and `AuxiliaryLoss` say where the auxiliary direction comes from.
`python -m auxgrad.train`, or `run` in a notebook, trains and sweeps a `Problem`, with its `Data` and its
`Training`: one that ships with the package, or your own. `runs` returns the finished runs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auxgrad.censoring.functions import censor, combine
    from auxgrad.censoring.mode import Mode
    from auxgrad.execution.notebook import run, runs
    from auxgrad.problems.base import DataSource, Problem, Training
    from auxgrad.problems.data import Data
    from auxgrad.training.auxiliaries import Auxiliary, AuxiliaryLoss, WeightDecay
    from auxgrad.training.model import AuxiliaryModel
    from auxgrad.training.sparse import SparseDense
    from auxgrad.training.streams import zip_streams

__version__ = "0.2.0"

__all__ = [
    "Auxiliary",
    "AuxiliaryLoss",
    "AuxiliaryModel",
    "Data",
    "DataSource",
    "Mode",
    "Problem",
    "SparseDense",
    "Training",
    "WeightDecay",
    "censor",
    "combine",
    "run",
    "runs",
    "zip_streams",
]

_HOME = {
    "Auxiliary": "auxgrad.training.auxiliaries",
    "AuxiliaryLoss": "auxgrad.training.auxiliaries",
    "AuxiliaryModel": "auxgrad.training.model",
    "Data": "auxgrad.problems.data",
    "DataSource": "auxgrad.problems.base",
    "Mode": "auxgrad.censoring.mode",
    "Problem": "auxgrad.problems.base",
    "SparseDense": "auxgrad.training.sparse",
    "Training": "auxgrad.problems.base",
    "WeightDecay": "auxgrad.training.auxiliaries",
    "censor": "auxgrad.censoring.functions",
    "combine": "auxgrad.censoring.functions",
    "run": "auxgrad.execution.notebook",
    "runs": "auxgrad.execution.notebook",
    "zip_streams": "auxgrad.training.streams",
}


def __getattr__(name: str) -> Any:
    # On first use, because the command line must not pay for TensorFlow to say that a value is wrong.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'auxgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
