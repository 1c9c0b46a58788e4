"""Three programs for one training: auxgrad, eager and dense TensorFlow, and PyTorch by hand.

Each contestant is a class that takes a config and runs in its own process. The eager, dense version is a
straightforward first version: float32 multi-hot input in a tf.data.Dataset, a gradient tape, and
censoring of one variable after another in NumPy. The version by hand is what PyTorch experts write.
"""

from __future__ import annotations

import itertools
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from auxgrad.config import Config
from auxgrad.problems.reviews.corpus import EncodedReviews, load

EVALUATION_BATCH = 512


class Contestant(ABC):
    """A program that takes real batches, does steps, and trains an epoch with validation."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reviews = load(config.problem.data)
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Make the network and the optimizer."""

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Return one epoch of batches, as `step` takes them."""

    @abstractmethod
    def step(self, batch: Any) -> float:
        """Take an optimisation step; return its loss, so that the step is complete."""

    @abstractmethod
    def loss(self, rows: np.ndarray) -> float:
        """Return the mean loss over the reviews in these rows."""

    def steps(self, count: int) -> list[float]:
        """Return the milliseconds of each step, with prepared batches and after two warm-up steps."""
        batches = list(itertools.islice(self.batches(), count))
        times = []
        for batch in [*batches[:2], *batches]:
            started = time.perf_counter()
            self.step(batch)
            times.append(1000 * (time.perf_counter() - started))
        return times[2:]

    def epoch(self) -> float:
        """Return the seconds of one epoch with validation."""
        started = time.perf_counter()
        for batch in self.batches():
            self.step(batch)
        self.loss(self.reviews.validation)
        return time.perf_counter() - started


class Auxgrad(Contestant):
    """The package, as a run uses it."""

    def prepare(self) -> None:
        """Make the network, the optimizer and the batches."""
        import tensorflow as tf

        from auxgrad.execution.trainer import Trainer

        self.trainer = Trainer()
        self.trainer.prepare(self.config, self.config.problem.load())
        self.model = self.trainer.model
        self._train_step = tf.function(self.model.train_step, autograph=False)

    def batches(self) -> Iterator[Any]:
        """Return one epoch of batches, as `step` takes them."""
        return iter(self.trainer.batches().take(self.trainer.steps_per_epoch))

    def step(self, batch: Any) -> float:
        """Take an optimisation step and return its loss."""
        return float(self._train_step(batch)["loss"])

    def loss(self, rows: np.ndarray) -> float:
        """Return the mean loss over the reviews in these rows."""
        part = self.trainer.validation if rows is self.reviews.validation else self.trainer.test
        return self.model.evaluate(part, verbose=0)

    def epoch(self) -> float:
        """Return the seconds of one epoch with validation."""
        return self.fit()[0]

    def fit(self) -> tuple[float, float]:
        """Return the seconds of an epoch of `fit` with validation, and the milliseconds of a step."""
        import keras

        steps = self.trainer.steps_per_epoch

        class Watch(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.started = time.perf_counter()

            def on_test_begin(self, logs: Any = None) -> None:
                times.append(1000 * (time.perf_counter() - self.started) / steps)

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                epochs.append(time.perf_counter() - self.started)

        epochs: list[float] = []
        times: list[float] = []
        self.model.fit(
            self.trainer.batches(),
            epochs=3,
            steps_per_epoch=steps,
            validation_data=self.trainer.validation,
            callbacks=[Watch()],
            verbose=0,
            shuffle=False,
        )
        return statistics.median(epochs), statistics.median(times)

    def bandwidth(self) -> float:
        """Return the GB/s of a sum of two arrays, larger than any cache and compiled by XLA."""
        import tensorflow as tf

        add = tf.function(lambda a, b: a + 1.5 * b, jit_compile=True, autograph=False)
        a, b = (tf.random.normal((60_000, 512)) for _ in range(2))
        times = []
        for _ in range(12):
            started = time.perf_counter()
            add(a, b)[0, 0].numpy()
            times.append(time.perf_counter() - started)
        return 3 * 4 * 60_000 * 512 / statistics.median(times[2:]) / 1e9

    def products(self, densify: bool) -> list[float]:
        """Return the milliseconds of the first layer's product and gradient, sparse or made dense."""
        import tensorflow as tf

        from auxgrad.training.sparse import sparse_matmul

        @tf.function(autograph=False)
        def both(x: Any, kernel: Any, upstream: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                value = tf.reduce_sum(sparse_matmul(x, kernel, densify) * upstream)
            return tape.gradient(value, kernel)

        kernel = self.model.network.weights[0].value
        times = []
        for x, y in itertools.islice(self.batches(), 12):
            upstream = tf.ones((len(y), kernel.shape[1]))
            started = time.perf_counter()
            both(x, kernel, upstream)[0, 0].numpy()
            times.append(1000 * (time.perf_counter() - started))
        return times[2:]


class EagerDense(Contestant):
    """A straightforward first version in eager TensorFlow with dense input."""

    def prepare(self) -> None:
        """Make the network, the optimizer and the batches."""
        import keras

        widths = self.config.problem.hidden
        hidden = [keras.layers.Dense(units, "relu") for units in widths]
        keras.utils.set_random_seed(self.config.seed)
        self.network = keras.Sequential(
            [keras.Input((self.reviews.num_words,)), *hidden, keras.layers.Dense(1)]
        )
        self.optimizer = keras.optimizers.Adam(self.config.problem.learning_rate)
        self.criterion = keras.losses.BinaryCrossentropy(from_logits=True)
        self.averages = [
            np.zeros(variable.shape, np.float32) for variable in self.network.trainable_variables
        ]
        self._parts: dict[int, Any] = {}

    def part(self, rows: np.ndarray) -> Any:
        """Return reviews as multi-hot vectors in a tf.data.Dataset."""
        import tensorflow as tf

        if id(rows) not in self._parts:
            x = self.reviews.matrix()[rows].toarray()
            y = self.reviews.labels[rows].astype(np.float32)[:, None]
            self._parts[id(rows)] = tf.data.Dataset.from_tensor_slices((x, y))
        return self._parts[id(rows)]

    def batches(self) -> Iterator[Any]:
        """Return one epoch of batches, as `step` takes them."""
        rows = self.reviews.train
        return iter(self.part(rows).shuffle(len(rows)).batch(self.config.problem.batch_size))

    def step(self, batch: Any) -> float:
        """Take an optimisation step and return its loss."""
        import tensorflow as tf

        config, (x, y) = self.config, batch
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            value = self.criterion(y, self.network(x, training=True))
        gradients = tape.gradient(value, variables)
        if config.mode == "SingleTask":
            self.optimizer.apply(gradients, variables)
            return float(value)
        before = [variable.numpy() for variable in variables]
        self.optimizer.apply(gradients, variables)
        for average, gradient in zip(self.averages, gradients, strict=True):
            average *= 1 - config.alpha
            average += config.alpha * gradient.numpy()
        each = [
            (float(np.vdot(u, v)), float(np.vdot(u, u)), float(np.vdot(v, v)))
            for u, v in zip(before, self.averages, strict=True)
        ]
        total = tuple(np.sum(each, axis=0))
        for variable, u, v, own in zip(variables, before, self.averages, each, strict=True):
            d, squared_u, squared_v = total if config.overall else own
            part = u
            if config.mode != "Multitask" and squared_u and squared_v:
                part = u - (min(d, 0) if config.mode == "Projection" else d) / squared_v * v
            variable.assign(variable.numpy() - config.problem.learning_rate * config.lam * part)
        return float(value)

    def loss(self, rows: np.ndarray) -> float:
        """Return the mean loss over the reviews in these rows."""
        losses = [
            float(self.criterion(y, self.network(x))) * len(y)
            for x, y in self.part(rows).batch(EVALUATION_BATCH)
        ]
        return sum(losses) / len(rows)


class PyTorch(Contestant):
    """PyTorch with EmbeddingBag(mode="sum"), fused Adam, and censoring in place on the device."""

    def prepare(self) -> None:
        """Make the network, the optimizer and the batches."""
        import torch

        config = self.config
        torch.manual_seed(config.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        widths = [*config.problem.hidden, 1]
        self.first = torch.nn.EmbeddingBag(self.reviews.num_words, widths[0], mode="sum")
        torch.nn.init.xavier_uniform_(self.first.weight)
        layers: list[torch.nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [torch.nn.ReLU(), torch.nn.Linear(inputs, outputs)]
        self.bias = torch.nn.Parameter(torch.zeros(widths[0], device=self.device))
        self.rest = torch.nn.Sequential(*layers).to(self.device)
        self.first.to(self.device)
        self.parameters = [self.first.weight, self.bias, *self.rest.parameters()]
        self.optimizer = torch.optim.Adam(
            self.parameters, config.problem.learning_rate, eps=1e-7, fused=True
        )
        self.criterion = torch.nn.BCEWithLogitsLoss()
        self.averages = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.matrix = self.reviews.matrix()

    def rows(self, rows: np.ndarray) -> tuple[Any, Any, Any]:
        """Return columns, starts and labels of the reviews in these rows, on the device."""
        import torch

        part = self.matrix[rows]
        arrays = part.indices.astype(np.int64), part.indptr[:-1].astype(np.int64)
        labels = self.reviews.labels[rows].astype(np.float32)[:, None]
        columns, starts, y = (torch.from_numpy(array).to(self.device) for array in (*arrays, labels))
        return columns, starts, y

    def batches(self) -> Iterator[Any]:
        """Return one epoch of batches, as `step` takes them."""
        for rows in shuffled(self.reviews, self.config):
            yield self.rows(rows)

    def step(self, batch: Any) -> float:
        """Take an optimisation step and return its loss."""
        columns, starts, y = batch
        self.optimizer.zero_grad(set_to_none=True)
        value = self.criterion(self.rest(self.first(columns, starts) + self.bias), y)
        value.backward()
        if self.config.mode != "SingleTask":
            self._decay()
        self.optimizer.step()
        return value.item()

    def _decay(self) -> None:
        """Subtract rate · (u + b · v) in place; u is the weight before Adam's step."""
        import torch

        config = self.config
        rate = config.problem.learning_rate * config.lam
        with torch.no_grad():
            if config.mode == "Multitask":
                torch._foreach_mul_(self.parameters, 1 - rate)
                return
            reference = [parameter.grad for parameter in self.parameters]
            if config.alpha < 1:
                torch._foreach_lerp_(self.averages, reference, config.alpha)
                reference = self.averages
            each = [
                torch.stack([torch.dot(u.view(-1), v.view(-1)), torch.dot(v.view(-1), v.view(-1))])
                for u, v in zip(self.parameters, reference, strict=True)
            ]
            if config.overall:
                each = [torch.stack(each).sum(0)] * len(each)
            for parameter, v, (d, squared_v) in zip(self.parameters, reference, each, strict=True):
                if config.mode == "Projection":
                    d = d.clamp(max=0)
                b = torch.where(squared_v > 0, -d / squared_v, 0.0)
                parameter.mul_(1 - rate).addcmul_(v, b, value=-rate)

    def loss(self, rows: np.ndarray) -> float:
        """Return the mean loss over the reviews in these rows."""
        import torch

        with torch.no_grad():
            columns, starts, y = self.rows(rows)
            return self.criterion(self.rest(self.first(columns, starts) + self.bias), y).item()


CONTESTANTS: dict[str, Callable[[Config], Contestant]] = {
    "auxgrad": Auxgrad,
    "eager dense": EagerDense,
    "PyTorch by hand": PyTorch,
}


def shuffled(reviews: EncodedReviews, config: Config) -> Iterator[np.ndarray]:
    """Yield the row numbers of the batches of one epoch."""
    rows = np.random.default_rng(config.seed).permutation(reviews.train)
    yield from np.split(rows, range(config.problem.batch_size, len(rows), config.problem.batch_size))
