"""Train networks with a censored auxiliary loss.

A network is trained on a primary loss. An auxiliary direction u, the gradient of an auxiliary loss or
the weights themselves (weight decay), helps only as far as it does not harm the primary task. Before it
is applied, u is censored against a reference direction v, the primary gradient g or its moving average:

    d = ⟨u, v⟩,   U = ‖u‖²,   V = ‖v‖²          three scalars
    (a, b) = rule(d, U, V)                      the mode
    u becomes a·u + b·v

Three ways to use the package:

* In a training loop of your own: `censor` and `combine` take gradients and return gradients.
* With Keras: `AuxiliaryModel` wraps a network; `AuxiliaryLoss` and `WeightDecay` define the auxiliary
  directions; `zip_streams` gives an auxiliary loss its own data; `SparseDense` is a fast first layer
  for multi-hot input.
* For experiments: a `Problem` with its `Data` and `Training` is trained and swept by
  `python -m auxgrad.train`, or by `run` in a notebook. `runs` returns the finished runs. A `DataSource`
  is a choice of data for a problem, and a `Mode` is a way to combine gradients.
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
    # Load a name on first use: the command line must report a wrong value without loading TensorFlow.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'auxgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
