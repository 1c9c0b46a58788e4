"""Three programs for the synthetic regression, whose steps are so short that overhead counts.

`fit` of each returns the milliseconds of a step for each form of the program; the fastest form counts.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from auxgrad.config import Config
from auxgrad.problems.synthetic import LAYERS, UNITS
from benchmarks.figures import Figures
from benchmarks.turns import in_turns

SETTING = "Projection overall alpha=0.01"
OVERRIDES = [
    "problem=synthetic",
    "problem.task=same",
    "mode=Projection",
    "overall=true",
    "alpha=0.01",
    "lam=1",
]
BATCH, AT_ONCE = 100, 10  # Examples of each task in a step; steps in an epoch and in a call.
BEGINNING = 5  # First epochs of a turn, which do not count: they compile and fill caches.
AUXGRAD, KERAS, PYTORCH = "auxgrad", "Keras fit, plain two losses", "PyTorch by hand"
GOALS = {KERAS: 1.15, PYTORCH: 0.7}  # Largest desired ratio of auxgrad's time to that of the other.


class Regression(ABC):
    """A program that trains on the problem without validation."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.data = config.problem.load()
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Make the network, the optimizer and the batches."""

    @abstractmethod
    def fit(self, epochs: int) -> dict[str, float]:
        """Train that many epochs in each form, and return the milliseconds of a step."""

    def arrays(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Return the inputs and the targets of the primary and the auxiliary task."""
        parts = {"primary": self.data.train, **self.data.auxiliary}
        xs, ys = zip(*((x, y[name]) for name, (x, y) in parts.items()), strict=True)
        return xs, ys


def a_step(ends: Sequence[float]) -> float:
    """Return the milliseconds of a step, from the times at which epochs ended."""
    counted = ends[BEGINNING - 1 :]
    return 1000 * (counted[-1] - counted[0]) / (AT_ONCE * (len(counted) - 1))


def fit(model: Any, epochs: int, *arguments: Any, **options: Any) -> float:
    """Return the milliseconds of a step of Keras' `fit`."""
    import keras

    ends: list[float] = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    model.fit(*arguments, epochs=epochs, callbacks=[watch], shuffle=False, verbose=0, **options)
    return a_step(ends)


class Auxgrad(Regression):
    """The package, as a run uses it."""

    def prepare(self) -> None:
        """Make the network, the optimizer and the batches."""
        from auxgrad.execution.trainer import Trainer

        self.trainer = Trainer()
        self.trainer.prepare(self.config, self.data)
        assert self.trainer.model.steps_per_execution == self.trainer.steps_per_epoch == AT_ONCE

    def fit(self, epochs: int) -> dict[str, float]:
        """Train that many epochs in each form, and return the milliseconds of a step."""
        model, batches = self.trainer.model, self.trainer.batches()
        return {"as in a run": fit(model, epochs, batches, steps_per_epoch=AT_ONCE)}


class Keras(Regression):
    """One network on two inputs and the sum of two losses, without censoring."""

    def prepare(self) -> None:
        """Make the network, the optimizer and the batches."""
        import keras

        training = self.config.problem.build(self.data, self.config.seed)
        inputs = [keras.Input(x.shape[1:]) for x in self.arrays()[0]]
        heads = zip(inputs, ("primary", "auxiliary"), strict=True)
        self.model = keras.Model(inputs, [training.network(x)[name] for x, name in heads])
        losses = [keras.losses.MeanSquaredError() for _ in inputs]
        self.model.compile(training.optimizer, losses, steps_per_execution=AT_ONCE)

    def fit(self, epochs: int) -> dict[str, float]:
        """Train that many epochs in each form, and return the milliseconds of a step."""
        return {"arrays": self.from_arrays(epochs), "data set": self.from_dataset(epochs)}

    def from_arrays(self, epochs: int) -> float:
        """Train on arrays."""
        xs, ys = self.arrays()
        return fit(self.model, epochs, list(xs), list(ys), batch_size=BATCH)

    def from_dataset(self, epochs: int) -> float:
        """Train on a data set of prepared batches."""
        import tensorflow as tf

        ready = [
            tuple(array.reshape(-1, BATCH, array.shape[1]) for array in arrays)
            for arrays in self.arrays()
        ]
        dataset = tf.data.Dataset.from_tensor_slices(tuple(ready)).repeat()
        return fit(self.model, epochs, dataset, steps_per_epoch=AT_ONCE)


class PyTorch(Regression):
    """PyTorch by hand, with all parameters in one array, so that censoring takes few kernels.

    Gradients are in one array, too. The weights are those of auxgrad, except for the epsilon of Adam,
    which Keras adds before it corrects the bias of the second moment.
    """

    def prepare(self) -> None:
        """Make the network, the optimizer and the batches."""
        import torch

        torch.manual_seed(self.config.seed)
        torch.set_flush_denormal(True)  # As TensorFlow does; moments of idle units become denormal.
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        xs, ys = (
            [torch.from_numpy(array).to(self.device) for array in arrays] for arrays in self.arrays()
        )
        self.batches = list(zip(*(array.split(BATCH) for array in (*xs, *ys)), strict=True))
        widths = [xs[0].shape[1], *[UNITS] * LAYERS]
        shared = [torch.nn.Linear(*pair) for pair in itertools.pairwise(widths)]
        heads = [torch.nn.Linear(UNITS, y.shape[1]) for y in ys]
        self.trunk = [layer for each in shared for layer in (each, torch.nn.ReLU(inplace=True))]
        self.heads = heads
        # In this order the parameters of each task are contiguous: primary head, shared, auxiliary head.
        layers = [heads[0], *shared, heads[1]]
        for layer in layers:
            layer.to(self.device)
            torch.nn.init.xavier_uniform_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        self.of_task = parameters[:-2], parameters[2:]
        self.flat = torch.nn.Parameter(torch.nn.utils.parameters_to_vector(parameters).detach())
        torch.nn.utils.vector_to_parameters(self.flat.data, parameters)
        self.flat.grad = torch.zeros_like(self.flat)
        self.own = [sum(parameter.numel() for parameter in head.parameters()) for head in heads]
        self.average: Any = None
        self.optimizer = torch.optim.Adam([self.flat], 0.001, eps=1e-8, fused=True)

    def step(self, batch: Sequence[Any]) -> Any:
        """Take an optimisation step and return its loss."""
        import torch

        config, gradient = self.config, self.flat.grad
        losses, gradients = [], []
        for x, y, head, own in zip(batch[:2], batch[2:], self.heads, self.of_task, strict=True):
            for layer in self.trunk:
                x = layer(x)
            losses.append(torch.nn.functional.mse_loss(head(x), y))
            gradients.append([each.view(-1) for each in torch.autograd.grad(losses[-1], own)])
        primary, auxiliary = self.own
        torch.cat(gradients[0], out=gradient[:-auxiliary])
        u = torch.cat(gradients[1])
        g, shared = gradient[primary:-auxiliary], u[:-auxiliary]
        if self.average is None:
            self.average = g.clone()
        else:
            self.average.lerp_(g, config.alpha)
        v = self.average
        d, squared_v = torch.dot(shared, v).item(), torch.dot(v, v).item()
        g.add_(shared, alpha=config.lam)
        if d < 0 < squared_v:
            g.add_(v, alpha=-config.lam * d / squared_v)
        torch.mul(u[-auxiliary:], config.lam, out=gradient[-auxiliary:])
        self.optimizer.step()
        return losses[0]

    def fit(self, epochs: int) -> dict[str, float]:
        """Train that many epochs in each form, and return the milliseconds of a step."""
        forms = {f"{os.cpu_count()} threads": os.cpu_count() or 1, "1 thread": 1}
        return {form: self.with_threads(threads, epochs) for form, threads in forms.items()}

    def with_threads(self, threads: int, epochs: int) -> float:
        """Train with this number of threads, and return the milliseconds of a step."""
        import torch

        torch.set_num_threads(threads)
        ends = []
        for _ in range(epochs):
            for batch in self.batches:
                value = self.step(batch)
            value.item()  # Wait for the end of the epoch.
            ends.append(time.perf_counter())
        return a_step(ends)


CONTESTANTS: dict[str, Callable[[Config], Regression]] = {
    AUXGRAD: Auxgrad,
    KERAS: Keras,
    PYTORCH: PyTorch,
}


def synthetic(figures: Figures, rounds: int, epochs: int) -> Iterator[Sequence[str]]:
    """Measure all programs in turns, and yield a row for each with the ratio of the times."""
    times: dict[str, dict[str, list[float]]] = {name: {} for name in CONTESTANTS}
    with in_turns(list(CONTESTANTS), OVERRIDES, __name__) as processes:
        for _ in range(rounds):
            for name, process in processes.items():
                for form, value in process.call("fit", epochs).items():
                    times[name].setdefault(form, []).append(value)
    for name, forms in times.items():
        median = {form: statistics.median(values) for form, values in forms.items()}
        for form, value in median.items():
            figures.add("synthetic step by form", SETTING, f"{name}: {form}", value, "ms")
        best = min(median, key=lambda form: median[form])
        figures.add("synthetic step", SETTING, name, median[best], "ms")
        ratio = figures.get("synthetic step", SETTING, AUXGRAD) / median[best]
        against = [f"{ratio:.2f}", f"{GOALS[name]}"] if name in GOALS else ["", ""]
        yield [name, best, f"{median[best]:.3f}", *against]
