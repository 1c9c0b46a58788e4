"""Measure a step of each joint mode beside TorchJD's method, on the network of the synthetic regression.

auxgrad trains in `fit`, and TorchJD in the loops of its documentation; the fastest form counts.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from auxgrad.config import Config
from benchmarks.agreement import torchjd_methods
from benchmarks.figures import Figures
from benchmarks.synthetic import AUXGRAD, Auxgrad, PyTorch, Regression
from benchmarks.turns import in_turns

OVERRIDES = ["problem=synthetic", "problem.task=same", "overall=true", "lam=1"]
TORCHJD = "TorchJD"


class TorchJD(PyTorch):
    """A training by `torchjd.autojac`, with the defaults of the method."""

    def prepare(self) -> None:
        """Make the network, the optimizer and the batches."""
        import torch

        super().prepare()
        method = torchjd_methods(2, exact=False)[self.config.mode]
        self.method = method
        layers = [layer for layer in self.trunk if isinstance(layer, torch.nn.Linear)]
        self.shared = [parameter for layer in layers for parameter in layer.parameters()]
        self.own_parameters = [list(head.parameters()) for head in self.heads]
        everything = [*self.shared, *itertools.chain(*self.own_parameters)]
        for parameter in everything:  # In the class `PyTorch` they are views of one array.
            parameter.data = parameter.data.clone()
        self.optimizer = torch.optim.Adam(everything, 0.001, eps=1e-8, fused=True)
        self.chunk: int | None = None
        self.backward = "backward"

    def step(self, batch: Sequence[Any]) -> Any:
        """Take an optimisation step and return its loss."""
        import torch
        from torchjd import autojac

        losses, features = [], []
        for x, y, head in zip(batch[:2], batch[2:], self.heads, strict=True):
            for layer in self.trunk:
                x = layer(x)
            features.append(x)
            losses.append(torch.nn.functional.mse_loss(head(x), y))
        self.optimizer.zero_grad()
        if self.backward == "mtl_backward":
            autojac.mtl_backward(losses, features, parallel_chunk_size=self.chunk)
        else:
            for loss, own in zip(losses, self.own_parameters, strict=True):
                for parameter, gradient in zip(
                    own, torch.autograd.grad(loss, own, retain_graph=True), strict=True
                ):
                    parameter.grad = gradient
            autojac.backward(losses, inputs=self.shared, parallel_chunk_size=self.chunk)
        autojac.jac_to_grad(self.shared, self.method)
        self.optimizer.step()
        return losses[0]

    def fit(self, epochs: int) -> dict[str, float]:
        """Train that many epochs in each form, and return the milliseconds of a step."""
        found = {}
        for self.backward, self.chunk in itertools.product(("backward", "mtl_backward"), (None, 1)):
            how = "one after the other" if self.chunk else "in parallel"
            for form, value in super().fit(epochs).items():
                found[f"{self.backward} {how}, {form}"] = value
        return found


CONTESTANTS: dict[str, Callable[[Config], Regression]] = {AUXGRAD: Auxgrad, TORCHJD: TorchJD}


def methods(figures: Figures, rounds: int, epochs: int) -> Iterator[Sequence[str]]:
    """Measure every mode that TorchJD has in turns with TorchJD, and yield a row for each."""
    for mode in torchjd_methods(2, exact=False):
        times: dict[str, dict[str, list[float]]] = {name: {} for name in CONTESTANTS}
        with in_turns(list(CONTESTANTS), [*OVERRIDES, f"mode={mode}"], __name__) as processes:
            for _ in range(rounds):
                for name, process in processes.items():
                    for form, value in process.call("fit", epochs).items():
                        times[name].setdefault(form, []).append(value)
        best = {}
        for name, forms in times.items():
            median = {form: statistics.median(values) for form, values in forms.items()}
            form = min(median, key=lambda form: median[form])
            best[name] = form, median[form]
            figures.add("step of a method", mode, name, median[form], "ms")
        ratio = best[AUXGRAD][1] / best[TORCHJD][1]
        yield [mode, *(f"{best[name][1]:.3f}" for name in CONTESTANTS), f"{ratio:.2f}", best[TORCHJD][0]]
